"""GPUs that the installed PyTorch has no code for are refused; what PyTorch says of them is made up here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from tnacli.cli import checks
from tnacli.errors import DeviceError
from tnacli.experiment import Experiment
from tnacli.recipe.identity import Run
from tnacli.training.device import resolve_device

WHEEL = "sm_75 sm_80 sm_86 sm_90a"


def pretend(monkeypatch: pytest.MonkeyPatch, built: str, *capabilities: tuple[int, int]) -> None:
    def index(device: torch.device | int) -> int:
        return device if isinstance(device, int) else device.index or 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_arch_list", built.split)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[index(device)])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {index(device)}")


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        (WHEEL, (7, 0), False),  # a V100
        (WHEEL, (7, 5), True),
        (WHEEL, (8, 9), True),
        (WHEEL, (9, 0), False),  # code for one capability alone
        ("sm_86", (8, 0), False),
        ("sm_90 compute_90", (12, 0), True),
        ("sm_90 sm_100", (12, 0), False),
        ("compute_80", (7, 5), False),
        ("", (7, 0), True),
        ("gfx90a gfx942", (9, 4), True),
    ],
)
def test_a_gpu_is_taken_only_where_pytorch_has_code_for_it(
    built: str, capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, built, capability)
    for wanted in ("auto", "cuda", "cuda:0"):
        if runs:
            assert resolve_device(wanted).type == "cuda"
        else:
            said = rf"GPU 0 has capability {capability[0]}\.{capability[1]}.*not built for.*--device cpu"
            with pytest.raises(DeviceError, match=said):
                resolve_device(wanted)
    assert resolve_device("cpu").type == "cpu"


def test_doctor_tells_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WHEEL, (7, 0), (8, 0), (7, 0))
    monkeypatch.setattr(checks, "_triton", lambda: iter(()))
    found = {one.name: one for one in checks.examine(tmp_path)}
    assert [found[f"device cuda:{i}"].status for i in range(3)] == ["problem", "ok", "warning"]
    assert "not built for" in found["device cuda:0"].found
    assert "--device cpu" in (found["device cuda:0"].fix or "")
    assert found["device cpu"].status == "ok"


def test_a_run_is_refused_before_its_data_are_read(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WHEEL, (7, 0))
    monkeypatch.setattr(Experiment, "dataset", lambda *_: pytest.fail("data were read"))
    runtime = TINY.runtime.model_copy(update={"device": "cuda"})
    with pytest.raises(DeviceError, match="not built for"):
        Experiment(out).execute(Run("tiny", "run", 0, TINY.model_copy(update={"runtime": runtime})))
