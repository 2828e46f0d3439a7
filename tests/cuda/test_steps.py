"""Steps of full-size networks on a CUDA device, beside what docs/gpu.md counts of them without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.fake_cuda.step import STEPS
from tests.training.test_fake_cuda import BOUNDS

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cuda.steps"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cases: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["cases"]
    return cases


@pytest.mark.parametrize("case", STEPS)
def test_a_step_runs_and_waits_for_nothing(case: str, found: dict[str, Any]) -> None:
    assert "failed" not in found[case], found[case]["failed"]
    assert found[case]["finite"]
    assert found[case]["waited"] == ""


@pytest.mark.parametrize("case", [case for case in STEPS if "fp32" not in case])
def test_it_holds_what_was_counted(case: str, found: dict[str, Any]) -> None:
    """A tenth more, and 1 GB, is what `--dry-run` allows for. In fp32 cuDNN takes as much workspace as it finds."""
    assert found[case]["peak_gb"] <= 1.1 * BOUNDS[case][1] + 1
