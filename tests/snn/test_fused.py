"""The compiled kernels against the plain PyTorch layers: values, gradients, running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.snn.fused import Constants, lif_pool, norm_lif_pool, why_not
from tnacli.snn.lif import LIF
from tnacli.snn.native import native
from tnacli.snn.network import SpikingLayer, SpikingNetwork

pytestmark = pytest.mark.skipif(native().library is None, reason=native().reason)


def layers(model: Model, index: int, size: tuple[int, int]) -> tuple[SpikingLayer, SpikingLayer]:
    shape = layer_shapes(model.layout, width=1, channels=3, size=size, classes=5)[index]
    ours = SpikingLayer(shape, model).to(memory_format=torch.channels_last)
    assert ours.norm is not None
    with torch.no_grad():
        ours.norm.weight.uniform_(0.5, 1.5)
        ours.norm.bias.uniform_(-0.5, 0.5)
    plain = copy.deepcopy(ours)
    plain.compiled = False
    return ours.train(), plain.train()


def compare(ours: SpikingLayer, plain: SpikingLayer, x: torch.Tensor) -> None:
    results = []
    for layer in (ours, plain):
        inputs = x.clone().requires_grad_()
        out = layer(inputs)
        torch.manual_seed(5)
        outward = torch.randn(out.shape)
        assert layer.norm is not None
        grads = torch.autograd.grad(out, [inputs, layer.synapse.weight, layer.norm.weight, layer.norm.bias], outward)
        results.append((out, grads, layer.norm.running_mean, layer.norm.running_var))
    (out, grads, mean, var), (out2, grads2, mean2, var2) = results
    torch.testing.assert_close(mean, mean2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(var, var2, rtol=1e-5, atol=1e-6)
    # Batch norm rounds its sums in another order, so a potential within rounding of the threshold may fall on its other
    # side. The seeds here have none, which makes every comparison below exact to rounding.
    torch.testing.assert_close(out, out2, rtol=0, atol=0)
    assert 0.02 < float((out > 0).float().mean()) < 0.98
    for one, two in zip(grads, grads2, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4 * float(two.abs().max()))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("timesteps", [1, 3, 4, 5, 9])
def test_convolution_with_pooling(timesteps: int) -> None:
    model = Model(layout="6C3-AP2-5C3-AP2-7FC", timesteps=timesteps, neuron=Neuron(decay=0.7, threshold=0.6))
    compare(*layers(model, 0, (8, 8)), torch.randn(timesteps, 3, 3, 8, 8))


@pytest.mark.parametrize("size", [(9, 7), (5, 5)])
def test_pooling_that_drops_a_remainder(size: tuple[int, int]) -> None:
    compare(*layers(Model(layout="6C3-AP4-7FC", timesteps=4), 0, size), torch.randn(4, 2, 3, *size))


def test_the_same_input_at_every_timestep() -> None:
    compare(*layers(Model(layout="6C3-AP2-7FC", timesteps=5), 0, (8, 8)), torch.randn(1, 4, 3, 8, 8))


def test_fully_connected() -> None:
    model = Model(layout="6C3-AP2-33FC", timesteps=5, dropout=0.0)
    compare(*layers(model, 1, (4, 4)), torch.randn(5, 6, 6, 2, 2))


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    ours, plain = layers(Model(layout="4C3-AP2-7FC", timesteps=2), 0, (8, 8))
    x = torch.randn(2, 8, 3, 8, 8)
    for layer in (ours, plain):
        summed = layer.synapse(x.flatten(0, 1)) + 1000
        layer.synapse = torch.nn.Identity()  # type: ignore[assignment]
        layer(summed.unflatten(0, (2, 8)))
    assert ours.norm is not None
    assert plain.norm is not None
    exact = summed.double().var((0, 2, 3))
    torch.testing.assert_close((ours.norm.running_var - 0.9) / 0.1, exact.float(), rtol=2e-3, atol=0)


def test_the_kernels_say_where_they_do_not_apply() -> None:
    x = torch.zeros(2, 3)
    assert why_not(x, Neuron()) is None
    assert "reset" in str(why_not(x, Neuron(detach_reset=False)))
    assert why_not(x.bfloat16(), Neuron()) is None
    assert "fp32" in str(why_not(x.double(), Neuron()))


def test_equal_inputs_give_equal_bits() -> None:
    model = Model(layout="6C3-AP2-7FC", timesteps=5)
    ours, _ = layers(model, 0, (8, 8))
    x = torch.randn(5, 16, 3, 8, 8)
    first = [t.clone() for t in torch.autograd.grad(ours(x).square().sum(), list(ours.parameters()))]
    again = torch.autograd.grad(ours(x).square().sum(), list(ours.parameters()))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


def test_a_graph_is_used_once() -> None:
    """Gradients are written over what the graph kept: a second backward pass would give nonsense, and is refused."""
    ours, _ = layers(Model(layout="6C3-AP2-7FC", timesteps=5), 0, (8, 8))
    loss = ours(torch.randn(5, 2, 3, 8, 8)).square().sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used once"):
        loss.backward()


def widened(x: torch.Tensor) -> torch.Tensor:
    """fp32, with the order in memory of x, for a graph of its own."""
    return x.detach().float().requires_grad_()


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize(
    ("shape", "samples", "pool"), [((20, 6, 9, 7), 4, 2), ((20, 5, 4, 4), 4, 1), ((4, 6, 8, 8), 4, 2), ((20, 33), 4, 1)]
)
@pytest.mark.usefixtures("instructions")
def test_bf16_is_fp32_with_what_comes_and_goes_rounded(
    shape: tuple[int, ...], samples: int, pool: int, normed: bool
) -> None:
    """The same arithmetic between: spikes, gradients of parameters and statistics to the bit, others rounded once."""
    torch.manual_seed(0)
    memory = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    half = (2 * torch.randn(shape)).bfloat16().contiguous(memory_format=memory).requires_grad_()
    full = widened(half)
    norms = [(nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1]) for _ in range(2)]
    constants = Constants(Neuron(decay=0.7, threshold=0.6), 5, pool, norms[0].eps)
    found = []
    for x, norm in zip((half, full), norms, strict=True):
        spikes = norm_lif_pool(x * 1, norm, constants, samples) if normed else lif_pool(x * 1, constants, samples)
        torch.manual_seed(1)
        outward = torch.randn(spikes.shape).bfloat16().to(spikes.dtype)
        wanted = [*norm.parameters(), x] if normed else [x]
        found.append((spikes, torch.autograd.grad(spikes, wanted, outward), norm))
    (spikes, grads, norm), (spikes2, grads2, norm2) = found
    assert spikes.dtype == grads[-1].dtype == torch.bfloat16
    assert 0.02 < float((spikes > 0).float().mean()) < 0.98
    assert torch.equal(spikes.float(), spikes2)
    for one, two in zip(grads, grads2, strict=True):
        assert torch.equal(one, two.to(one.dtype))
    for one, two in zip(norm.buffers(), norm2.buffers(), strict=True):
        assert torch.equal(one, two)


def test_bf16_keeps_what_is_not_a_number() -> None:
    """Rounding up must not make an infinity of it, nor a number: a run that diverges has to be seen to."""
    x = torch.zeros(2, 3, dtype=torch.bfloat16).requires_grad_()
    spikes = lif_pool(x, Constants(Neuron(threshold=0.2), 2, 1, 0.0), 1)
    outward = torch.tensor([float("nan"), float("inf"), -1.0]).bfloat16().expand(2, 1, 3)
    (grad,) = torch.autograd.grad(spikes, x, outward)
    assert grad[0, 0].isnan()
    assert grad[0, 1].isinf()
    assert grad[0, 2].isfinite()


def test_a_network_takes_the_kernels_under_autocast() -> None:
    model = Model(layout="6C3-AP2-7FC", timesteps=5)
    network = SpikingNetwork(model, channels=3, size=(8, 8), classes=4).train().to(memory_format=torch.channels_last)
    seen: list[str] = []
    for layer in network.spiking.values():
        layer.output.register_forward_hook(
            lambda module, given, out: seen.append(f"{out.dtype} {type(out.grad_fn).__name__}")
        )
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.rand(4, 3, 8, 8))
    assert seen == ["torch.bfloat16 _NormLIFPoolBackward"] * 2
    logits.square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("shape", [(6, 5, 4), (33,)])
def test_evaluation_gives_the_very_same_spikes(shape: tuple[int, ...], repeated: bool) -> None:
    """Both round the product, the sum, the decayed potential and the new one, each once: no bit may differ."""
    neurons = LIF(Neuron(decay=0.73, threshold=0.9), 5)
    current = torch.randn(1 if repeated else 5, 7, *shape)
    scale, shift = torch.rand(shape[0]) + 0.5, torch.randn(shape[0])
    with torch.no_grad():
        kernel = neurons(current, scale, shift)
    plain = neurons(current.clone().requires_grad_(), scale, shift)
    assert plain.requires_grad
    assert torch.equal(kernel, plain.detach())
    assert 0.02 < float(kernel.mean()) < 0.98
