"""The targets on two CPU cores, what was measured of each, and whether it was met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Record
from benchmarks.results import Results, measured
from benchmarks.suites import IMPORT, IN_TRITON, LIMIT

_STEP = {"width": 0.25, "batch": 64}
_NARROW = {"width": 0.125, "batch": 64}
_WIDE = {"width": 1.0, "batch": 8}
_FULL = {"width": 1.0, "batch": 256, "device": "cuda"}
_PEER = "SpikingJelly"


@dataclass(frozen=True)
class Finding:
    """What was measured of a target; `met` is None where nothing was, and `remark` says why, or what else there is to say."""

    text: str
    met: bool | None
    remark: str = ""


@dataclass(frozen=True)
class Target:
    what: str
    wanted: str
    judge: Callable[[Results], Finding]


def _nothing(results: Results, kind: str, **key: Any) -> Finding:
    records = results.find(kind, **key)
    reasons = {r["skipped"] for r in records if "skipped" in r} | {
        f"failed: {r['failed']}" for r in records if "failed" in r
    }
    return Finding(
        "-", None, "; ".join(sorted(reasons)) or f"not among these results of suite `{results.about.get('suite', '')}`"
    )


def _peers(results: Results, kind: str, **key: Any) -> list[Record]:
    found = measured(results.find(kind, **key))
    return [r for r in found if r["name"].startswith(_PEER) and "default" not in r["name"]]


def _limit(results: Results, ratio: float, key: Record) -> str:
    """How much faster than the same peer convolutions and matrix products alone are."""
    limit = results.one("training", name=LIMIT, **key)
    if limit is None:
        return ""
    return f"; the limit, convolutions and matrix products alone, is at {ratio / limit['ratio']:.2f} times"


def _step(size: Record, precision: str, target: float) -> Callable[[Results], Finding]:
    def judge(results: Results) -> Finding:
        key = {**size, "precision": precision}
        peers = _peers(results, "training", **key)
        if not peers:
            return _nothing(results, "training", **key)
        best = min(peers, key=lambda r: float(r["ratio"]))
        ratio = best["ratio"]
        return Finding(f"{ratio:.2f} times", ratio >= target, f"best peer: {best['name']}{_limit(results, ratio, key)}")

    return judge


def _default(results: Results) -> Finding:
    found = results.one("default")
    if found is None:
        return _nothing(results, "default")
    limit = _limit(results, found["ratio"], {**_STEP, "precision": "fp32"})
    return Finding(
        f"{found['ratio']:.2f} times", found["ratio"] >= 5, f"each in its own process, as its users get it{limit}"
    )


def _share(precision: str, target: float) -> Callable[[Results], Finding]:
    def judge(results: Results) -> Finding:
        key = {**_WIDE, "precision": precision}
        limit = results.one("training", name=LIMIT, **key)
        if limit is None:
            return _nothing(results, "training", **key)
        share = 100 * limit["ratio"]
        peers = _peers(results, "training", **key)
        remark = f"SpikingJelly: {share / min(r['ratio'] for r in peers):.0f} %" if peers else ""
        return Finding(f"{share:.0f} %", share >= target, remark)

    return judge


def _memory(
    name: str, target: float, *, size: Record = _STEP, precision: str = "fp32", slowdown: float | None = None
) -> Callable[[Results], Finding]:
    def judge(results: Results) -> Finding:
        key = {**size, "precision": precision}
        ours, peers = results.one("memory", task="training", name=name, **key), _peers(results, "memory", **key)
        if ours is None or not peers:
            return _nothing(results, "memory", task="training", name=name, **key)
        best = min(peers, key=lambda r: float(r["mb"]))
        ratio = ours["mb"] / best["mb"]
        text, met = f"{ratio:.2f}", ratio <= target
        if slowdown is not None:
            pair = results.one("training", name=name, **key)
            text += f", {pair['ratio']:.2f} times the time" if pair else ", time not measured"
            met = met and pair is not None and pair["ratio"] <= slowdown
        return Finding(text, met, f"{ours['mb']:.0f} MB against {best['mb']:.0f} MB ({best['name']})")

    return judge


def _evaluation(results: Results) -> Finding:
    key = {"width": 1.0, "precision": "fp32"}
    peers = _peers(results, "evaluation", **key)
    if not peers:
        return _nothing(results, "evaluation", **key)
    best = min(peers, key=lambda r: float(r["ratio"]))
    same = best["equal_predictions"] == best["samples"]
    remark = f"best peer: {best['name']}; {best['equal_predictions']} of {best['samples']} predictions the same"
    return Finding(f"{best['ratio']:.2f} times", best["ratio"] >= 6 and same, remark)


def _evaluation_memory(results: Results) -> Finding:
    key = {"task": "evaluation", "width": 1.0}
    ours = results.one("memory", name="tnacli, packed", **key)
    dense = results.one("memory", name="dense PyTorch", **key)
    if ours is None or dense is None:
        return _nothing(results, "memory", **key)
    ratio = ours["mb"] / dense["mb"]
    return Finding(f"{ratio:.2f}", ratio <= 0.35, f"{ours['mb']:.0f} MB against {dense['mb']:.0f} MB, weights included")


def _twin(size: Record, precision: str) -> Callable[[Results], Finding]:
    def judge(results: Results) -> Finding:
        key = {**size, "precision": precision}
        found = results.one("co-training", **key)
        if found is None:
            return _nothing(results, "co-training", **key)
        return Finding(f"{found['ratio']:.2f} times", found["ratio"] <= 1.9)

    return judge


def _data(results: Results) -> Finding:
    found = results.one("data", width=0.125)
    if found is None:
        return _nothing(results, "data")
    share = 100 * found["ratio"] / (1 + found["ratio"])
    times = (
        f"{found['theirs']['median_ms']:.1f} ms a batch of {found['batch']}, {found['ours']['median_ms']:.0f} ms a step"
    )
    return Finding(f"{share:.1f} %", share < 3, times)


def _process(name: str, target: float, *, with_avx512: float | None = None) -> Callable[[Results], Finding]:
    """`with_avx512`: the target of processors that have it, which are faster in all else, too."""

    def judge(results: Results) -> Finding:
        found = results.one("process", name=name)
        if found is None:
            return _nothing(results, "process", name=name)
        seconds = found["median_ms"] / 1000
        remark = f"shortest of {found['rounds']}: {found['min_ms'] / 1000:.2f} s"
        alone = results.one("process", name=IMPORT)
        if alone is not None and seconds > alone["median_ms"] / 1000:
            remark += f"; `python -c 'import torch'` alone: {alone['median_ms'] / 1000:.2f} s"
        capability = results.about.get("machine", {}).get("capability")
        wanted = with_avx512 if with_avx512 is not None and capability == "AVX512" else target
        return Finding(f"{seconds:.2f} s", seconds < wanted, remark)

    return judge


TARGETS = (
    Target("training step, width 1/4, batch 64, fp32, against the best peer", "2.0 times as fast", _step(_STEP, "fp32", 2.0)),
    Target("the same in bf16", "2.0 times", _step(_STEP, "bf16", 2.0)),
    Target("width 1/8, batch 64, fp32", "2.0 times", _step(_NARROW, "fp32", 2.0)),
    Target("width 1/8, batch 64, bf16", "2.0 times", _step(_NARROW, "bf16", 2.0)),
    Target("training step, full width, batch 8, fp32: share of the limit", "at least 120 %", _share("fp32", 120)),
    Target("the same share in bf16", "at least 100 %", _share("bf16", 100)),
    Target("TNA training step against a solo step, fp32", "at most 1.9 times", _twin(_STEP, "fp32")),
    Target("TNA training step against a solo step, bf16", "at most 1.9 times", _twin(_STEP, "bf16")),
    Target("default settings of both", "5 times", _default),
    Target("peak memory of a training step, width 1/4, batch 64, fp32, against the best peer", "at most 0.25",
           _memory("tnacli", 0.25)),
    Target("peak memory in bf16", "at most 0.18", _memory("tnacli", 0.18, precision="bf16")),
    Target("peak memory with the low-memory option, fp32", "at most 0.25, at most 1.35 times the time",
           _memory("tnacli, low memory", 0.25, slowdown=1.35)),
    Target("evaluation of a packed ternary file, full width, against the best peer in fp32", "6 times, same predictions",
           _evaluation),
    Target("its peak memory, against the fp32 model's", "at most 0.35", _evaluation_memory),
    Target("data pipeline, share of a training epoch at width 1/8", "under 3 %", _data),
    Target("`tna --help`", "under 0.3 s, with AVX-512 0.15 s", _process("tna --help", 0.3, with_avx512=0.15)),
    Target("`tna train --help`", "under 0.3 s", _process("tna train --help", 0.3)),
    Target("`tna train quickstart --dry-run`", "under 0.3 s", _process("tna train --dry-run", 0.3)),
    Target("`tna evaluate packed` on 10 images", "under 0.4 s", _process("tna evaluate packed", 0.4)),
)  # fmt: skip


def _gpu_step(name: str, target: float) -> Callable[[Results], Finding]:
    def judge(results: Results) -> Finding:
        key = {**_FULL, "precision": "bf16"}
        found = results.one("training", name=name, **key)
        if found is None:
            return _nothing(results, "training", name=name, **key)
        ratio = found["ratio"]
        remark = f"{found['ours']['median_ms']:.1f} ms against {found['theirs']['median_ms']:.1f} ms"
        return Finding(f"{ratio:.2f} times", ratio >= target, remark + _limit(results, ratio, key))

    return judge


GPU_TARGETS = (
    Target(
        "training step, full width, batch 256, bf16, against SpikingJelly", "2.2 times as fast", _gpu_step(_PEER, 2.2)
    ),
    Target("the same, SpikingJelly with channels last", "2.2 times", _gpu_step(f"{_PEER}, channels last", 2.2)),
    Target("the same, SpikingJelly with its arc tangent in Triton", "1.25 times", _gpu_step(IN_TRITON, 1.25)),
    Target("TNA training step against a solo step", "at most 1.9 times", _twin(_FULL, "bf16")),
    Target(
        "peak memory of the step, against SpikingJelly",
        "at most 0.45",
        _memory("tnacli", 0.45, size=_FULL, precision="bf16"),
    ),
)
