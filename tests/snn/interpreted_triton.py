"""Run by test_triton.py in a process of its own: the operator against the reference.

With TRITON_INTERPRET=1 in Triton's interpreter on the CPU, without on the CUDA device.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.snn import triton_operators
from tnacli.snn.dropout import dropout_mask
from tnacli.snn.lif import LIF, lif_reference
from tnacli.snn.network import SpikingLayer, SpikingNetwork
from tnacli.snn.operators import Operator
from tnacli.snn.triton_lif import Branch, Layer, batch_moments, lif_pool, why_not

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
NEURON = Neuron(decay=0.7, threshold=0.6)
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16


def norm_of(channels: int, *, flat: bool) -> nn.BatchNorm1d | nn.BatchNorm2d:
    norm = nn.BatchNorm1d(channels) if flat else nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    return norm.to(DEVICE)


def reference(branches: list[Branch], layer: Layer) -> Tensor:
    """The same in plain PyTorch: fp32 between, rounded at the end."""
    parts = [x.float() if norm is None else norm(x.float()) for x, norm in branches]
    current = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    spikes = lif_reference(current.unflatten(0, (-1, layer.samples)), layer.timesteps, layer.neuron)
    if layer.pool > 1:
        spikes = F.avg_pool2d(spikes.flatten(0, 1), layer.pool).unflatten(0, spikes.shape[:2])
    if layer.dropout:
        spikes = spikes * dropout_mask(spikes[0], layer.dropout, layer.key)
    return spikes.to(branches[0][0].dtype)


def compare(
    shape: tuple[int, ...], layer: Layer, norms: tuple[bool, ...], dtype: torch.dtype = FP32, *, seed: int = 0
) -> None:
    """Spikes, gradients and running statistics of the operator and the reference, for branches of `shape` [rows, C, ...]."""
    torch.manual_seed(seed)
    memory = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    inputs = [torch.randn(shape).to(DEVICE, dtype).contiguous(memory_format=memory).requires_grad_() for _ in norms]
    made = [norm_of(shape[1], flat=len(shape) == 2) if normed else None for normed in norms]
    found: list[tuple[Tensor, Sequence[Tensor], list[Tensor]]] = []
    outward: Tensor | None = None
    for compute in (lif_pool, reference):
        own = copy.deepcopy(made)
        spikes = compute(list(zip(inputs, own, strict=True)), layer)
        outward = torch.randn(spikes.shape).to(DEVICE, dtype) if outward is None else outward
        parameters = [p for norm in own if norm is not None for p in norm.parameters()]
        grads = torch.autograd.grad(spikes, [*inputs, *parameters], outward)
        found.append((spikes, grads, [b for norm in own if norm is not None for b in norm.buffers()]))
    (spikes, ours, buffers), (spikes2, grads2, buffers2) = found
    # A potential within rounding of the threshold may fall on its other side. The seeds here have none.
    assert torch.equal(spikes, spikes2)
    assert spikes.is_contiguous() or spikes.flatten(0, 1).is_contiguous(memory_format=memory)
    if spikes.numel() > 50:
        assert 0.02 < float(spikes.detach().float().mean()) < 0.98
    for one, two in zip(ours[: len(norms)], grads2, strict=False):
        if not any(norms) and dtype != BF16:
            assert torch.equal(one, two)
        else:
            # A unit in the last place; of bf16 two halves, as the interpreter cuts off where a GPU rounds.
            unit = {FP32: 2e-6, BF16: 2**-7, FP16: 2**-10}[dtype]
            torch.testing.assert_close(one, two, rtol=unit, atol=max(unit, 5e-6) * float(two.abs().max()))
    for one, two in zip(ours[len(norms) :], grads2[len(norms) :], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5 * float(two.abs().max()))
    for one, two in zip(buffers, buffers2, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("timesteps", [1, 2, 3, 5, 16, 17, 32])
def test_timesteps(timesteps: int, normed: bool) -> None:
    compare((timesteps * 3, 6, 5, 4), Layer(NEURON, timesteps, 3), (normed,))


@pytest.mark.parametrize("pool", range(1, 9))
@pytest.mark.parametrize(("normed", "size"), [(True, (17, 11)), (False, (9, 8))])
def test_pools_and_odd_sizes(pool: int, normed: bool, size: tuple[int, int]) -> None:
    compare((4 * 2, 5, *size), Layer(NEURON, 4, 2, pool), (normed,))


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize("norms", [(True,), (False,), *itertools.product((True, False), repeat=2)])
def test_branches_and_types(norms: tuple[bool, ...], dtype: torch.dtype) -> None:
    compare((5 * 2, 7, 7, 6), Layer(NEURON, 5, 2, 2), norms, dtype, seed=2)


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize("pool", [1, 2])
def test_the_same_input_at_every_timestep(pool: int, dtype: torch.dtype) -> None:
    compare((4, 6, 7, 6), Layer(NEURON, 5, 4, pool), (True,), dtype, seed=1)
    compare((4, 6, 7, 6), Layer(NEURON, 5, 4, pool), (False,), dtype)


@pytest.mark.parametrize("shape", [(5, 3, 3, 4), (5, 1), (1, 1), (1, 70, 1, 1), (5, 130)])
def test_one_sample(shape: tuple[int, ...]) -> None:
    compare(shape, Layer(NEURON, shape[0], 1), (False,))
    if shape[0] * (shape[2] * shape[3] if len(shape) == 4 else 1) > 1:
        compare(shape, Layer(NEURON, shape[0], 1), (True,))


@pytest.mark.parametrize("shape", [(30, 33), (30, 1), (30, 130)])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_fully_connected(shape: tuple[int, ...], dropout: float) -> None:
    compare(shape, Layer(NEURON, 5, 6, dropout=dropout, key=2**61 + 12345), (True,))


def test_dropout_after_pooling() -> None:
    compare((20, 6, 7, 9), Layer(NEURON, 5, 4, 2, dropout=0.3, key=7), (True, True))


def test_more_tiles_than_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums are then gone through by programs that take several tiles each, the last of them fewer."""
    monkeypatch.setattr(triton_operators, "_PROGRAMS", 3)
    compare((2 * 4, 70, 11, 7), Layer(NEURON, 2, 4), (True,))


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("shape", [(6, 5, 4), (33,)])
def test_evaluation_gives_the_very_same_spikes(shape: tuple[int, ...], repeated: bool) -> None:
    neurons = LIF(Neuron(decay=0.73, threshold=0.9), 5)
    current = torch.randn(1 if repeated else 5, 7, *shape).to(DEVICE)
    scale, shift = (torch.rand(shape[0]) + 0.5).to(DEVICE), torch.randn(shape[0]).to(DEVICE)
    with torch.no_grad():
        kernel = neurons(current, scale, shift)
    plain = neurons(current.clone().requires_grad_(), scale, shift)
    assert torch.equal(kernel, plain.detach())
    assert 0.02 < float(kernel.mean()) < 0.98


def test_equal_inputs_give_equal_bits() -> None:
    x, norm = torch.randn(20, 6, 8, 8, device=DEVICE, requires_grad=True), norm_of(6, flat=False)
    runs = []
    for _ in range(2):
        spikes = lif_pool([(x, norm)], Layer(NEURON, 5, 4, 2))
        runs.append(torch.autograd.grad(spikes.square().sum(), [x, *norm.parameters()]))
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


def test_it_says_where_it_does_not_apply() -> None:
    x = torch.zeros(4, 3, device=DEVICE)
    assert why_not(x, Layer(NEURON, 4, 1)) is None
    assert "reset" in str(why_not(x, Layer(Neuron(detach_reset=False), 4, 1)))
    assert "float64" in str(why_not(x.double(), Layer(NEURON, 4, 1)))
    assert "32 timesteps" in str(why_not(x, Layer(NEURON, 33, 1)))
    assert "pools of 8" in str(why_not(x, Layer(NEURON, 4, 1, 9)))


def operators_and_arguments() -> dict[str, tuple[Operator[..., Any], tuple[Any, ...]]]:
    """Every operator, and something to call it with."""
    layer = Layer(NEURON, 3, 2, 2, dropout=0.5, key=3)
    x = torch.randn(6, 5, 5, 4, device=DEVICE).to(memory_format=torch.channels_last)
    branches = [x, torch.rand(4, 5, device=DEVICE), x + 1, torch.rand(2, 5, device=DEVICE)]
    given = (branches, layer.counts, layer.factors)
    outward = torch.randn_like(triton_operators.lif_forward(*given))
    return {
        "lif_forward": (triton_operators.lif_forward, given),
        "norm_table": (triton_operators.norm_table, (*torch.rand(4, 5, device=DEVICE), 1e-5)),
        "lif_sums": (triton_operators.lif_sums, (outward, *given)),
        "lif_gradient": (
            triton_operators.lif_gradient,
            (outward, branches, torch.rand(3, 5, device=DEVICE), *given[1:]),
        ),
        "batch_moments": (batch_moments, (x, *torch.rand(2, 5, device=DEVICE), 0.1)),
    }


def test_the_operators_are_what_pytorch_asks_of_one() -> None:
    for operator, given in operators_and_arguments().values():
        torch.library.opcheck(operator.traced, given, test_utils=("test_schema", "test_faketensor"))


class Called(TorchDispatchMode):
    """The names of our operators that pass PyTorch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith("tnacli."):
            self.names.append(str(func).split(".")[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", operators_and_arguments())
def test_numbers_are_computed_with_past_the_dispatcher_and_traced_tensors_are_not(name: str) -> None:
    operator, given = operators_and_arguments()[name]
    own, traced = copy.deepcopy(given), copy.deepcopy(given)
    with Called() as called:
        at_once = operator(*own)
    assert called.names == []
    found = operator.traced(*traced)
    for one, other in zip(tree_leaves((at_once, own)), tree_leaves((found, traced)), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    with FakeTensorMode() as mode, Called() as called:
        shapes = operator(*tree_map_only(Tensor, mode.from_tensor, given))
    assert called.names == [name]
    assert [s.shape for s in tree_leaves(shapes)] == [t.shape for t in tree_leaves(at_once)]


def network(layout: str, *, norm: str = "batch") -> SpikingNetwork:
    model = Model.model_validate({"layout": layout, "timesteps": 4, "norm": norm, "neuron": NEURON, "dropout": 0.5})
    made = (
        SpikingNetwork(model, channels=3, size=(9, 8), classes=4)
        .train()
        .to(memory_format=torch.channels_last)
        .to(DEVICE)
    )
    for key, layer in enumerate(made.spiking.values()):
        layer.dropout_key = key
    return made


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("layout", ["6C3-AP2-5C3-AP2-7FC-5FC", "6C3-R6x2-AP2-7FC", "6C3-R9x2/2-AP2-7FC"])
def test_a_network_takes_the_operator(layout: str, dtype: torch.dtype, norm: str) -> None:
    """Spikes of every layer, logits and gradients are those of the plain path, under autocast too."""
    torch.manual_seed(4)
    ours = network(layout, norm=norm)
    plain = copy.deepcopy(ours)
    for layer in plain.spiking.values():
        layer.compiled = False
    x = torch.rand(3, 3, 9, 8, device=DEVICE) * 3
    found = []
    for one in (ours, plain):
        taken: list[str] = []
        for layer in one.spiking.values():
            layer.output.register_forward_hook(
                lambda m, i, out, to=taken: to.append(out.grad_fn.next_functions[0][0].name())
            )
        with torch.autocast(DEVICE, dtype, enabled=dtype != FP32):
            logits = one(x)
        assert all((name == "_LIFPoolBackward") == (one is ours) for name in taken), taken
        found.append((logits, torch.autograd.grad(logits.square().sum(), list(one.parameters()))))
    (logits, grads), (logits2, grads2) = found
    torch.testing.assert_close(logits, logits2, rtol=1e-5, atol=1e-5)
    for grad, other in zip(grads, grads2, strict=True):
        scale = 1e-4 if dtype == FP32 else 2e-2
        torch.testing.assert_close(grad, other, rtol=scale, atol=scale * float(other.abs().max()))


def test_whoever_listens_to_a_layer_hears_spikes_before_dropout() -> None:
    shape = layer_shapes("6C3-AP2-7FC", width=1, channels=3, size=(4, 4), classes=5)[1]
    layer = SpikingLayer(shape, Model(layout="6C3-AP2-7FC", timesteps=3, dropout=0.5)).train().to(DEVICE)
    layer.dropout_key = 5
    x = torch.rand(3, 4, 24, device=DEVICE)
    fused = layer(x)
    heard: list[Tensor] = []
    layer.output.register_forward_hook(lambda module, given, out: heard.append(out))
    assert torch.equal(layer(x), fused)
    assert set(heard[0].unique().tolist()) == {0.0, 1.0}
    assert set(fused.unique().tolist()) == {0.0, 2.0}
