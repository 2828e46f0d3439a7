"""Compiled regions against the plain PyTorch layers: values, gradients, statistics; and what happens where none compiles."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.snn import regions as module
from tnacli.snn.network import SpikingLayer
from tnacli.snn.regions import Regions, why_not_here

SAMPLES = 3
WHY_NOT = why_not_here(torch.device("cpu"))
needs_compiler = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture(autouse=True)
def _own_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMPILED", {})


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Regions stay the plain functions that they are made from; a list of those."""
    made: list[object] = []

    def compile(function: Callable[..., Tensor], **options: object) -> Callable[..., Tensor]:
        made.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    return made


def layers(model: Model, index: int, size: tuple[int, int] = (8, 8)) -> tuple[SpikingLayer, SpikingLayer]:
    """A layer with random norms that passes through regions, and a copy that does not."""
    plain = SpikingLayer(layer_shapes(model.layout, width=1, channels=3, size=size, classes=5)[index], model)
    plain.to(memory_format=torch.channels_last).train().compiled = False
    for part in plain.modules():
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.bias, -0.5, 0.5)
    ours = copy.deepcopy(plain)
    ours.regions = Regions(SAMPLES, pytest.fail)
    return ours, plain


def compare(ours: SpikingLayer, plain: SpikingLayer, *inputs: Tensor, accurate_to: float = 1e-4) -> None:
    """Two training steps of both: the same spikes, gradients and statistics."""
    outward = None
    for _ in range(2):
        results = []
        for layer in (ours, plain):
            given = [x.clone().requires_grad_() for x in inputs]
            out = layer(*given)
            outward = torch.randn_like(out) if outward is None else outward
            results.append((out, torch.autograd.grad(out, [*given, *layer.parameters()], outward)))
        (out, grads), (out2, grads2) = results
        # A potential within rounding of the threshold may fall on its other side. The seeds here have none.
        torch.testing.assert_close(out, out2, rtol=0, atol=0)
        assert out.flatten(0, 1).is_contiguous(
            memory_format=torch.channels_last if out.dim() == 5 else torch.contiguous_format
        )
        assert 0.02 < float((out > 0).float().mean()) < 0.98
        for one, two in zip(grads, grads2, strict=True):
            scale = float(two.abs().max())
            assert scale > 0
            torch.testing.assert_close(one, two, rtol=accurate_to, atol=accurate_to * scale)
    for one, two in zip(ours.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


PLAIN = "6C3-AP2-5C3-AP2-7FC"


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize(
    ("layout", "index", "inputs"),
    [
        (PLAIN, 0, [(1, 3, 8, 8)]),
        (PLAIN, 1, [(4, 6, 4, 4)]),
        (PLAIN, 2, [(4, 5, 2, 2)]),
        ("6C3-AP4-7FC", 0, [(4, 3, 9, 7)]),
        ("6C3-R6x2-AP2-7FC", 2, [(4, 6, 8, 8), (4, 6, 8, 8)]),
        ("6C3-R9x2/2-AP2-7FC", 2, [(4, 9, 4, 4), (4, 6, 8, 8)]),
    ],
    ids=["repeated input", "pooling", "fully connected", "remainder", "shortcut", "shortcut with weights"],
)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_region_is_the_plain_layer(
    layout: str, index: int, inputs: list[tuple[int, ...]], detach_reset: bool, norm: str, uncompiled: list[object]
) -> None:
    neuron = Neuron(decay=0.7, threshold=0.3, detach_reset=detach_reset)
    model = Model.model_validate({"layout": layout, "timesteps": 4, "dropout": 0.0, "norm": norm, "neuron": neuron})
    shapes = [(steps, SAMPLES, *shape) for steps, *shape in inputs]
    compare(*layers(model, index), *(torch.randn(shape) for shape in shapes))
    assert len(uncompiled) == 1


def test_another_batch_takes_the_plain_path(uncompiled: list[object]) -> None:
    ours, plain = layers(Model(layout=PLAIN, timesteps=4), 0)
    for samples in (2, 4):
        x = torch.randn(1, samples, 3, 8, 8)
        assert torch.equal(ours(x), plain(x))
    assert uncompiled == []


def test_evaluation_takes_the_plain_path(uncompiled: list[object]) -> None:
    """Its roundings are those of a packed file."""
    ours, plain = layers(Model(layout=PLAIN, timesteps=4), 0)
    x = torch.randn(1, SAMPLES, 3, 8, 8)
    assert torch.equal(ours.eval()(x), plain.eval()(x))
    assert uncompiled == []


def test_layers_of_one_shape_share_a_region(uncompiled: list[object]) -> None:
    model = Model(layout=PLAIN, timesteps=4)
    for index, expected in ((0, 1), (0, 1), (1, 2)):
        ours, _ = layers(model, index)
        ours(torch.randn(4, SAMPLES, 6 if index else 3, 8, 8))
        assert len(uncompiled) == expected


def test_dropout_draws_the_same_numbers(uncompiled: list[object]) -> None:
    ours, plain = layers(Model(layout=PLAIN, timesteps=4, dropout=0.5), 2)
    x = torch.randn(4, SAMPLES, 5, 2, 2)
    outs = []
    for layer in (ours, plain):
        torch.manual_seed(3)
        outs.append(layer(x))
    assert torch.equal(*outs)
    assert len(uncompiled) == 1


def test_bf16_is_computed_in_fp32_from_the_rounded_sums(uncompiled: list[object]) -> None:
    ours, plain = layers(Model(layout=PLAIN, timesteps=4), 1)
    x = torch.randn(4, SAMPLES, 6, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        spikes = ours(x)
        sums = plain.driven(x.flatten(0, 1))
    assert (spikes.dtype, sums.dtype) == (torch.bfloat16, torch.bfloat16)
    assert plain.norm is not None
    precise = plain._pooled(plain.neurons(plain.norm(sums.float()).unflatten(0, (4, SAMPLES))))
    assert torch.equal(spikes.float(), precise)


def test_a_failure_is_told_once_and_layers_go_on_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object, **options: object) -> Callable[..., Any]:
        def run(*arguments: object) -> None:
            raise RuntimeError("no such compiler\nand a page of details")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    told: list[str] = []
    ours, plain = layers(Model(layout=PLAIN, timesteps=4), 0)
    ours.regions = Regions(SAMPLES, told.append)
    compare(ours, plain, torch.randn(1, SAMPLES, 3, 8, 8))
    (message,) = told
    assert "no such compiler" in message
    assert "details" not in message
    assert not ours.regions.take(SAMPLES)


def test_out_of_memory_is_no_failure_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(function: object, **options: object) -> Callable[..., Any]:
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr(torch, "compile", full)
    ours, _ = layers(Model(layout=PLAIN, timesteps=4), 0)
    with pytest.raises(torch.OutOfMemoryError):
        ours(torch.randn(1, SAMPLES, 3, 8, 8))


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler no-such-compiler" in str(why_not_here(torch.device("cpu")))
    assert "mps" in str(why_not_here(torch.device("mps")))


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("precise", [False, True])
def test_a_compiled_region_is_the_plain_layer(precise: bool) -> None:
    """Where the C kernels do not apply: float64 with the reset attached, and a shortcut whose weights have a norm."""
    neuron = Neuron(decay=0.7, threshold=0.3, detach_reset=not precise)
    layout, index, inputs = (PLAIN, 1, [(6, 8, 8)]) if precise else ("6C3-R9x2/2-AP2-7FC", 2, [(9, 4, 4), (6, 8, 8)])
    ours, plain = layers(Model(layout=layout, timesteps=4, neuron=neuron), index)
    dtype = torch.float64 if precise else torch.float32
    shapes = [(4, SAMPLES, *shape) for shape in inputs]
    given = [torch.randn(shape, dtype=dtype) for shape in shapes]
    compare(ours.to(dtype), plain.to(dtype), *given, accurate_to=1e-9 if precise else 1e-4)
    assert len(module._COMPILED) == 1
