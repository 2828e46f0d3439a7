"""A training step on CUDA without a GPU: that everything is on one device, what it copies, launches and holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent / "fake_cuda"
PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
_TABLE = re.compile(
    r"^<!-- counted by: python -m tests.training.test_fake_cuda, PyTorch (?P<torch>[\d.]+) -->\n(?P<rows>.*?)^<!-- end -->$",
    flags=re.M | re.S,
)
_HEAD = "| step | kernels | GB at the peak, with weights and Adam | GB touched |\n|---|---|---|---|\n"
_ROW = re.compile(r"^\| (?P<case>.+?) \| (?P<kernels>\d+) \| (?P<peak>[\d.]+) \| [\d.]+ \|$", flags=re.M)


def bounds() -> dict[str, tuple[int, float]]:
    """By case the kernels of a step and the GB at its peak that docs/gpu.md has."""
    found = _TABLE.search(PAGE.read_text())
    assert found is not None
    return {row["case"]: (int(row["kernels"]), float(row["peak"])) for row in _ROW.finditer(found["rows"])}


def table(found: dict[str, Any]) -> str:
    """The table of docs/gpu.md."""
    return _HEAD + "".join(
        f"| {case} | {facts['kernels']} | {facts['peak_gb']:.2f} | {facts['touched_gb']:.1f} |\n"
        for case, facts in found["cases"].items()
    )


BOUNDS = bounds()
NOT_REPEATABLE = (
    "adaptive_avg_pool", "adaptive_max_pool", "avg_pool3d_backward", "bincount", "cumsum", "embedding_bag", "fractional_max_pool",
    "grid_sampler", "histc", "index_add", "index_put", "index_reduce", "interpolate", "kthvalue", "max_pool3d", "max_unpool",
    "median", "nll_loss2d", "pad_backward", "put_", "scatter", "upsample", "_ctc_loss",
)  # fmt: skip
"""Parts of the names of operators that PyTorch says have no deterministic form on CUDA, or not always: the documentation of
torch.use_deterministic_algorithms."""

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
    return counted(tmp_path_factory.mktemp("stubs"))


def counted(folder: Path) -> dict[str, Any]:
    """What step.py prints, with stubs in `folder`."""
    stubs = built(folder)
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


def test_the_page_has_what_is_counted(found: dict[str, Any]) -> None:
    """Of the PyTorch that the page names: another may launch a few kernels more or fewer."""
    page = _TABLE.search(PAGE.read_text())
    assert page is not None
    if not torch.__version__.startswith(page["torch"] + "."):
        pytest.skip(f"the table is of PyTorch {page['torch']}")
    assert page["rows"] == table(found)


@pytest.mark.parametrize("case", BOUNDS)
def test_a_step_stays_near_what_the_page_says(case: str, found: dict[str, Any]) -> None:
    """Mixed devices would be an error. What is counted must not be far below the bounds either: those would hold nothing."""
    facts, (kernels, peak_gb) = of(found, case), BOUNDS[case]
    assert 0.9 * kernels < facts["kernels"] <= 1.03 * kernels, facts["operators"]
    assert 0.9 * peak_gb - 0.01 < facts["peak_gb"] <= 1.03 * peak_gb + 0.01


def test_a_twin_at_full_size_is_small_and_launches_little(found: dict[str, Any]) -> None:
    """Whatever the page says: on a GPU of 8 GB, and in fewer kernels than the host can launch meanwhile."""
    facts = of(found, "twin, bf16")
    assert facts["kernels"] <= 400
    assert facts["peak_gb"] <= 6


@pytest.mark.parametrize("case", BOUNDS)
def test_a_step_waits_for_nothing_and_copies_nothing(case: str, found: dict[str, Any]) -> None:
    facts = of(found, case)
    assert facts["waits"] == []
    assert facts["copies"] == []


@pytest.mark.parametrize("case", BOUNDS)
def test_layers_are_computed_by_the_operator(case: str, found: dict[str, Any]) -> None:
    operators = of(found, case)["operators"]
    assert any("tnacli.lif_forward" in name for name in operators)
    if not case.startswith("evaluation"):
        assert any("tnacli.lif_gradient" in name for name in operators)


@pytest.mark.parametrize("case", BOUNDS)
def test_a_step_gives_the_same_bits_every_time(case: str, found: dict[str, Any]) -> None:
    """As far as operators can tell; cuDNN is held to it, and our kernels add up in a fixed order."""
    operators = of(found, case)["operators"]
    assert not [name for name in operators if any(word in name for word in NOT_REPEATABLE)]


def test_a_checkpoint_is_looked_at_on_the_device_and_copied_once(found: dict[str, Any]) -> None:
    saved = of(found, "restored, twin, ternary")["saved"]
    assert saved["waits"] == []
    assert len(saved["copies"]) == saved["tensors"] + 1, "each tensor once, and whether all are finite"
    left_behind = [copy for copy in saved["copies"] if "not waited for" in copy]
    assert (len(left_behind), saved["pinned"]) == (saved["tensors"], saved["tensors"])


def test_an_epoch_begins_with_its_order_and_draws_and_copies_no_more(found: dict[str, Any]) -> None:
    """Rows, columns and flips of all samples at once; samples, labels, mean and deviation have been there since the run began."""
    *draws, order = (copy.split(" at ")[1] for copy in found["beginning"])
    assert len(draws) == 3
    assert len({*draws}) == 1
    assert order not in draws


def test_samples_that_do_not_fit_are_sent_one_batch_ahead(found: dict[str, Any]) -> None:
    """From pinned memory, by one copy a step that nothing waits for, on a stream that the step's own waits for."""
    uploading = found["uploading"]
    assert uploading["waits"] == []
    (copy,) = uploading["copies"]
    assert "not waited for at uploads.py" in copy
    assert uploading["pinned"] == 1
    begun = "copy not waited for on another"
    arrived = ["the usual stream waits for another", "used by the usual stream"]
    batch = "a batch on cuda, cuda"
    at_start, each = uploading["order"][:4], uploading["order"][4:]
    assert at_start == 4 * ["copy waited for on the usual stream"], "labels, mean and deviation, and the epoch's order"
    assert each == [begun, *arrived, begun, batch, *arrived, begun, batch, *arrived, batch]


def test_every_weight_has_its_moments_again(found: dict[str, Any]) -> None:
    assert of(found, "restored, twin, ternary")["moments"] > 40


def test_a_mixture_of_devices_is_noticed(found: dict[str, Any]) -> None:
    assert "cuda:0 and cpu" in found["planted"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as stubs:
        shown = table(counted(Path(stubs)))
    release = ".".join(torch.__version__.split(".")[:2])
    lead = f"<!-- counted by: python -m tests.training.test_fake_cuda, PyTorch {release} -->\n"
    PAGE.write_text(_TABLE.sub(lambda _: f"{lead}{shown}<!-- end -->", PAGE.read_text()))
