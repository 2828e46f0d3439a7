"""A training step on CUDA without a GPU: that everything is on one device, what it copies, launches and holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent / "fake_cuda"
BOUNDS = {
    "baseline fp32": (165, 5.6),
    "baseline bf16": (195, 3.1),
    "twin fp32": (320, 10.7),
    "twin bf16": (380, 6.0),
    "twin bf16, low memory": (730, 5.3),
    "twin bf16, ternary": (400, 6.2),
    "KD bf16": (335, 3.1),
    "KD+CE bf16": (341, 3.1),
    "ResNet-18 bf16": (400, 3.2),
    "VGG-11, events, bf16": (224, 1.9),
    "evaluation": (79, 4.0),
    "restored, ternary twin": (325, 11.0),
}
"""Of full-size networks, batch 256: kernels a step, and GB at its peak with weights and Adam's moments, a little above what was
counted (torch 2.14: docs/gpu.md has the table)."""

pytestmark = pytest.mark.slow


def built(folder: Path) -> dict[str, str]:
    """Stubs of the CUDA driver and runtime in `folder`, and the environment in which a process takes them for real."""
    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA")
    if (compiler := shutil.which("gcc")) is None:
        pytest.skip("there is no gcc to build stubs of the CUDA driver with")
    site = Path(sysconfig.get_paths()["purelib"])
    headers = [*site.glob("nvidia/*/include"), site / "triton/backends/nvidia/include"]
    include = next((headers_of for headers_of in headers if (headers_of / "driver_types.h").exists()), None)
    if include is None:
        pytest.skip("there are no headers of the CUDA runtime")
    (folder / "crt").mkdir()
    shutil.copy(HERE / "host_defines.h", folder / "crt")
    shared = [compiler, "-shared", "-fPIC", "-w"]
    driver, runtime = folder / "libcuda.so.1", folder / "libcudart_stub.so"
    subprocess.run([*shared, "-Wl,-soname,libcuda.so.1", "-o", str(driver), str(HERE / "driver.c")], check=True)
    subprocess.run([*shared, f"-I{folder}", f"-I{include}", "-o", str(runtime), str(HERE / "runtime.c")], check=True)
    return {"LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": str(runtime)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What step.py prints."""
    stubs = built(tmp_path_factory.mktemp("stubs"))
    done = subprocess.run(
        [sys.executable, str(HERE / "step.py")],
        env={**os.environ, **stubs}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def of(found: dict[str, Any], case: str) -> dict[str, Any]:
    facts: dict[str, Any] = found["cases"][case]
    assert "failed" not in facts, facts["failed"]
    return facts


def test_every_case_is_looked_at(found: dict[str, Any]) -> None:
    assert found["cases"].keys() == BOUNDS.keys()


@pytest.mark.parametrize("case", BOUNDS)
def test_a_step_stays_within_its_bounds(case: str, found: dict[str, Any]) -> None:
    """Mixed devices would be an error. What is counted must not be far below the bounds either: those would hold nothing."""
    facts, (kernels, peak_gb) = of(found, case), BOUNDS[case]
    print(f"{case}: {facts['kernels']} kernels, peak {facts['peak_gb']:.2f} GB, {facts['touched_gb']:.1f} GB touched")
    assert 0.9 * kernels < facts["kernels"] <= kernels, facts["operators"]
    assert 0.9 * peak_gb < facts["peak_gb"] <= peak_gb


@pytest.mark.parametrize("case", BOUNDS)
def test_a_step_waits_for_nothing_and_copies_nothing(case: str, found: dict[str, Any]) -> None:
    facts = of(found, case)
    assert facts["waits"] == []
    assert facts["copies"] == []


@pytest.mark.parametrize("case", BOUNDS)
def test_layers_are_computed_by_the_operator(case: str, found: dict[str, Any]) -> None:
    operators = of(found, case)["operators"]
    assert any("tnacli.lif_forward" in name for name in operators)
    if case != "evaluation":
        assert any("tnacli.lif_gradient" in name for name in operators)


def test_every_weight_has_its_moments_again(found: dict[str, Any]) -> None:
    assert of(found, "restored, ternary twin")["moments"] > 40


def test_a_mixture_of_devices_is_noticed(found: dict[str, Any]) -> None:
    assert "cuda:0 and cpu" in found["planted"]
