"""Whatever a process had asked for, and whatever training was: what is measured, packed and shown is computed in IEEE fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import tnacli
from tests.importing.test_from_module import X, ours
from tnacli.data.batches import Batch
from tnacli.deploy.formats import deploy
from tnacli.deploy.from_checkpoint import input_of, origin_of
from tnacli.evaluation.accuracy import evaluate_network
from tnacli.evaluation.activity import measure_activity
from tnacli.evaluation.trace import trace
from tnacli.experiment import Outcome
from tnacli.exporting import export_checkpoint
from tnacli.packed.network import PackedNetwork
from tnacli.packed.pack import pack_network, verify
from tnacli.snn.network import SpikingNetwork
from tnacli.training.checkpoint import load_checkpoint, restore_network

INPUTS = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(INPUTS, torch.zeros(4, dtype=torch.int64), 4)
EXACT = (("ieee",) * 4, False, (True, False), torch.float32)
PRODUCTS = {torch.conv2d, torch.nn.functional.linear, torch.nn.functional.conv2d, torch.matmul, torch.mm, torch.addmm}


def arithmetic() -> tuple[Any, ...]:
    """How products of fp32 numbers are computed, whether autocast is on, and whether cuDNN is deterministic and times kernels."""
    backends: Any = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    cudnn = torch.backends.cudnn
    return (
        tuple(place.fp32_precision for place in places),
        torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
        (cudnn.deterministic, cudnn.benchmark),
    )


class Products(TorchFunctionMode):
    """How each convolution and matrix product of floats within is computed, and the type of what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[Any, ...]] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in PRODUCTS and made.is_floating_point():
            self.seen.add((*arithmetic(), made.dtype))
        return made


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has asked for speed everywhere, within autocast."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        torch.set_float32_matmul_precision("highest")


def network(trained: Outcome) -> SpikingNetwork:
    made = restore_network(load_checkpoint(trained.checkpoint))
    assert isinstance(made, SpikingNetwork)
    return made


def packed(trained: Outcome) -> PackedNetwork:
    checkpoint = load_checkpoint(trained.checkpoint)
    labels = checkpoint.metadata.classes
    return pack_network(network(trained), inputs=input_of(checkpoint), labels=labels, origin=origin_of(checkpoint))


def module() -> torch.nn.Module:
    """Hidden layers ternary, neurons spiking."""
    made, _ = ours()
    tnacli.ternarize(made)
    return made


PLACES: dict[str, Callable[[Outcome, Path], object]] = {
    "evaluation": lambda trained, out: evaluate_network(network(trained), [BATCH]),
    "activity": lambda trained, out: measure_activity(network(trained), [BATCH]),
    "activity of a packed file": lambda trained, out: measure_activity(packed(trained), [BATCH]),
    "trace": lambda trained, out: trace(network(trained), INPUTS[0]),
    "trace of a packed file": lambda trained, out: trace(packed(trained), INPUTS[0]),
    "verification": lambda trained, out: verify(network(trained), packed(trained), INPUTS),
    "export": lambda trained, out: export_checkpoint(trained.checkpoint, out / "x.safetensors", samples=8),
    "export as NIR": lambda trained, out: deploy(packed(trained), "nir", out / "x.nir", INPUTS),
    "a module of PyTorch": lambda trained, out: tnacli.from_module(module(), X),
}


@pytest.mark.parametrize("place", PLACES)
def test_products_are_ieee_fp32_wherever_numbers_are_shown_or_kept(
    place: str, trained: Outcome, tmp_path: Path, careless: None
) -> None:
    if place == "export as NIR":
        pytest.importorskip("nir")
    with Products() as products:
        PLACES[place](trained, tmp_path)
    assert products.seen == {EXACT}


def test_the_watch_sees_what_is_not_exact(trained: Outcome, careless: None) -> None:
    with Products() as products, torch.no_grad():
        network(trained)(INPUTS)
    assert products.seen
    assert EXACT not in products.seen
