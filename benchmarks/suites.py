"""What is measured: `quick` in two minutes, `full` in a quarter of an hour, `thorough` in half an hour, on two quiet cores.

`smallest` is for the test suite. `thorough` alone has every library at full width.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Called, Measurement, Memory, Pair, Process
from benchmarks.work import DATA, PACKED, Work

SUITES = ("quick", "full", "thorough", "smallest")
KINDS = ("agreement", "training", "default", "co-training", "data", "evaluation", "memory", "profile", "process")
LIMIT = "convolutions and matrix products alone"
IMPORT = "import torch"
LIBRARIES = ("plain PyTorch loop", "SpikingJelly", "SpikingJelly, ATan", "snnTorch", "sinabs", "norse")
_SPIKINGJELLY = ("SpikingJelly", "SpikingJelly, channels last", "SpikingJelly, ATan")
IN_TRITON = "SpikingJelly, ATan in Triton"
_COMPILED = "SpikingJelly, torch.compile"
_REGIONS = "tnacli, compiled regions"
_COMPILE_SECONDS = {"full": 100.0, "thorough": 600.0}
_REGIONS_SECONDS = 600.0
_SECONDS = 5.0
_CUDA_SECONDS = 1.0
_JUDGED_SECONDS = 20.0  # where a target hangs on it
_OTHERS = ("plain PyTorch loop", "snnTorch", "sinabs", "norse")
NOT_ON_CUDA = {
    "agreement": "in float64, where it is looked at, no kernels take part: what a CPU finds holds",
    "evaluation": "the packed engine computes on CPUs",
    "process": "whole commands that use no GPU",
    _REGIONS: "`runtime.compile` is for CPUs: on CUDA one operator computes a layer",
}
"""What suites of a CPU measure and those of CUDA do not, by kind or name, and why."""


def evaluated(suite: str, device: str, folder: Path) -> Work:
    """The work of evaluation, which is prepared in `folder`."""
    width, batch = {"quick": (0.25, 8), "smallest": (1 / 32, 2)}.get(suite, (1.0, 8))
    return Work(width, batch, device=device, folder=str(folder))


def plan(suite: str, device: str, precisions: list[str], folder: Path) -> list[Measurement]:
    """Everything that `suite` measures; what takes longest and tells least comes last."""
    evaluation = evaluated(suite, device, folder)
    if suite == "smallest":
        return _smallest(Work(1 / 32, 2, device=device), evaluation)
    if device != "cpu":
        return [what for what in _cuda(device, suite) if what.key["precision"] in precisions]
    found: list[Measurement] = [Called("agreement", name, Work(0.125, 4, device=device)) for name in LIBRARIES]
    for precision in precisions:
        work = Work(0.25, 64, precision, device)
        found += _quick(replace(work, width=0.125, batch=16)) if suite == "quick" else _full(work, suite)
    found.append(Called("profile", "tnacli", Work(0.25, 16 if suite == "quick" else 64, device=device)))
    found += _evaluations(suite, evaluation, precisions) + _processes(suite, folder)
    if suite != "quick":
        works = [Work(0.25, 64, precision, device) for precision in precisions]
        found += [replace(_pair(_REGIONS, work), timeout_seconds=_REGIONS_SECONDS) for work in works]
        found += [replace(_pair(_COMPILED, work), timeout_seconds=_COMPILE_SECONDS[suite]) for work in works]
    return found


def _pair(name: str, work: Work, *, kind: str = "training", rounds: int = 3) -> Pair:
    return Pair(kind, "training", "tnacli", name, work, _SECONDS, rounds)


def _cuda(device: str, suite: str) -> list[Measurement]:
    """Full-size steps, in bf16 and in IEEE fp32; a step takes some tens of milliseconds there.

    What targets hang on comes first: time on a GPU may end before the suite does.
    """
    half, single = (Work(1.0, 256, precision, device) for precision in ("bf16", "fp32"))
    plain, channels_last, arc_tangent = _SPIKINGJELLY
    found: list[Measurement] = [_pair(name, half) for name in (LIMIT, plain, channels_last, IN_TRITON)]
    found.append(_pair("tnacli, TNA", half, kind="co-training"))
    found += [Memory("training", name, half) for name in ("tnacli", plain, channels_last, IN_TRITON)]
    ours = ("tnacli, low memory", "tnacli, samples sent ahead", "tnacli, not deterministic")
    found += [_pair(name, half) for name in (arc_tangent, *ours)]
    found.append(Called("profile", "tnacli", half))
    found += [_pair(name, single) for name in (LIMIT, plain, arc_tangent)]
    found += [_pair(name, replace(half, width=width)) for width in (0.5, 0.125) for name in (LIMIT, plain)]
    found.append(_pair("data pipeline", half, kind="data"))
    found += [Memory("training", name, half) for name in ("tnacli, TNA", "tnacli, low memory", arc_tangent)]
    if suite != "quick":
        found += [_pair(name, half) for name in ("tnacli, plain PyTorch layers", *_OTHERS)]
        found += [Memory("training", name, half) for name in _OTHERS]
        found.append(replace(_pair("SpikingJelly, default settings", single, kind="default"), apart=True))
    found.append(replace(_pair(_COMPILED, half), timeout_seconds=_REGIONS_SECONDS))
    return [replace(what, seconds=_CUDA_SECONDS) if isinstance(what, Pair) else what for what in found]


def _full(work: Work, suite: str) -> list[Measurement]:
    wide, narrow = replace(work, width=1.0, batch=8), replace(work, width=0.125)
    judged = [_pair(name, work) for name in (LIMIT, *_SPIKINGJELLY, "tnacli, low memory")]
    judged.append(_pair("tnacli, TNA", work, kind="co-training"))
    found: list[Measurement] = [replace(pair, seconds=_JUDGED_SECONDS) for pair in judged]
    found += [_pair(name, work, rounds=2) for name in ("tnacli, plain PyTorch layers", *_OTHERS)]
    found += [_pair(name, wide) for name in (LIMIT, *_SPIKINGJELLY[:2])]
    found += [_pair(name, narrow) for name in (LIMIT, *_SPIKINGJELLY[:2], *_OTHERS)]
    if suite == "thorough":
        found += [_pair(name, wide) for name in (*_SPIKINGJELLY[2:], *_OTHERS)]
        found += [_pair(name, narrow) for name in _SPIKINGJELLY[2:]]
    found.append(_pair("data pipeline", replace(narrow, batch=256), kind="data"))
    found += [Memory("training", name, work) for name in ("tnacli", "tnacli, low memory", *_SPIKINGJELLY, *_OTHERS)]
    if work.precision == "fp32":  # the default of both
        found.append(replace(_pair("SpikingJelly, default settings", work, kind="default"), apart=True))
    return found


def _quick(work: Work) -> list[Measurement]:
    found: list[Measurement] = [_pair(name, work) for name in (LIMIT, *_SPIKINGJELLY[:2], *_OTHERS)]
    found.append(_pair("tnacli, TNA", work, kind="co-training"))
    found.append(_pair("data pipeline", work, kind="data"))
    found += [Memory("training", name, work) for name in ("tnacli", _SPIKINGJELLY[0])]
    return [replace(what, seconds=1.0) if isinstance(what, Pair) else what for what in found]


def _evaluations(suite: str, work: Work, precisions: list[str]) -> list[Measurement]:
    names = ["dense PyTorch", *_SPIKINGJELLY[:2], "ONNX Runtime fp32", "ONNX Runtime int8"]
    seconds = 1.0 if suite == "quick" else 6.0
    found: list[Measurement] = [
        Pair("evaluation", "evaluation", "tnacli, packed", name, replace(work, precision=precision), seconds)
        for precision in ("fp32", *(["bf16"] if "bf16" in precisions else []))
        for name in (names if precision == "fp32" else names[:1])
    ]
    found += [Memory("evaluation", name, work) for name in ("tnacli, packed", "dense PyTorch", "ONNX Runtime fp32")]
    return found


def _processes(suite: str, folder: Path) -> list[Measurement]:
    rounds = 5 if suite == "quick" else 10
    tna, few = ("-m", "tnacli"), max(3, rounds // 2)
    evaluate = ("evaluate", str(folder / PACKED), "--data-root", str(folder / DATA))
    return [
        Process("tna --help", (*tna, "--help"), rounds),
        Process("tna train --help", (*tna, "train", "--help"), rounds),
        Process("tna train --dry-run", (*tna, "train", "quickstart", "--dry-run"), rounds),
        Process("tna evaluate packed", (*tna, *evaluate, "--samples", "10"), few),
        Process(IMPORT, ("-c", "import torch"), few),
    ]


def _smallest(work: Work, evaluation: Work) -> list[Measurement]:
    def once(pair: Pair) -> Pair:
        return replace(pair, seconds=0.0, rounds=1)

    return [
        Called("agreement", "plain PyTorch loop", work),
        once(_pair(LIMIT, work)),
        once(_pair("tnacli, TNA", work, kind="co-training")),
        once(Pair("evaluation", "evaluation", "tnacli, packed", "dense PyTorch", evaluation, 0.0)),
        Memory("training", "tnacli", work),
        Called("profile", "tnacli", work),
        Process("tna --help", ("-m", "tnacli", "--help"), 1),
    ]
