"""The suites of CUDA, as far as they can be looked at without a GPU: what they measure, and that every contender is all there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("only in a checkout", allow_module_level=True)

from benchmarks.measure import Record  # noqa: E402
from benchmarks.results import Results  # noqa: E402
from benchmarks.suites import IN_TRITON, NOT_ON_CUDA, plan  # noqa: E402
from benchmarks.targets import GPU_TARGETS  # noqa: E402
from tests.training.test_fake_cuda import built  # noqa: E402

PRECISIONS = ["bf16", "fp32"]


def keys(suite: str, device: str) -> list[Record]:
    return [what.key for what in plan(suite, device, PRECISIONS, Path())]


def rows(suite: str, device: str) -> set[tuple[str, str, str]]:
    """What a suite measures, by kind and name; memory by what takes it."""
    return {(key["kind"], key.get("task", ""), key["name"]) for key in keys(suite, device)}


def test_what_a_cpu_s_suites_measure_is_measured_on_cuda_or_said_not_to_be() -> None:
    missing = rows("thorough", "cpu") - rows("full", "cuda")
    said = {row for row in missing for part in row if part in NOT_ON_CUDA}
    assert missing - said == set()
    assert {part for row in said for part in row if part in NOT_ON_CUDA} == NOT_ON_CUDA.keys()


def test_what_targets_hang_on_is_measured_first() -> None:
    """A made-up result of each measurement in turn: after nine of them every target is judged."""
    results = Results({"suite": "quick"})
    times = {"ratio": 1.0, "ours": {"median_ms": 1.0}, "theirs": {"median_ms": 1.0}, "mb": 1.0}
    for key in keys("quick", "cuda")[:9]:
        results.add({**key, **times})
    assert [target.what for target in GPU_TARGETS if target.judge(results).met is None] == []


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    stubs = built(tmp_path_factory.mktemp("stubs"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.fake_contenders"],
        cwd=ROOT, env={**os.environ, **stubs}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_every_contender_takes_a_step_on_one_device_and_waits_for_nothing(steps: dict[str, dict[str, Any]]) -> None:
    """One that copied or waited would be slower than its library is. Samples that do not fit are one copy a step."""
    installed = {name: step for name, step in steps.items() if "ModuleNotFoundError" not in step.get("failed", "")}
    assert len(installed) >= 10
    (sent,) = installed["tnacli, samples sent ahead, bf16"].pop("copies")
    assert "not waited for at uploads.py" in sent
    wrong = {name: step for name, step in installed.items() if any(map(step.get, ("failed", "copies", "waits")))}
    assert wrong == {}


@pytest.mark.slow
def test_contenders_compute_with_the_kernels_that_the_page_says(steps: dict[str, dict[str, Any]]) -> None:
    spaces = {name: step["spaces"] for name, step in steps.items() if "spaces" in step}
    for name in ("tnacli", "tnacli, TNA", "tnacli, low memory", "tnacli, not deterministic"):
        assert spaces[f"{name}, bf16"] == ["tnacli"]
    assert spaces["tnacli, fp32"] == ["tnacli"]
    assert spaces["tnacli, plain PyTorch layers, bf16"] == []
    if "SpikingJelly, bf16" in spaces:
        assert spaces[f"{IN_TRITON}, bf16"] == ["sj_lif"]
        assert spaces["SpikingJelly, ATan, fp32"] == ["sj_lif"]
        for name in ("SpikingJelly, bf16", "SpikingJelly, fp32", "SpikingJelly, ATan, bf16"):
            assert spaces[name] == [], f"{name} has kernels of its own now: the page says otherwise"
