"""Gradients of inputs where neurons let them pass, against dense ones: values, zeros, and the whole network's gradients."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from tnacli.recipe.schema.model import Model
from tnacli.snn import network as network_module
from tnacli.snn import sparse
from tnacli.snn.fused import Constants, lif_pool
from tnacli.snn.gated import Gate, gate_of, gated_gradient, gated_kernels, recalled
from tnacli.snn.native import LayerArguments
from tnacli.snn.network import SpikingNetwork
from tnacli.snn.sparse import Bounds

pytestmark = pytest.mark.skipif(gated_kernels().library is None, reason=gated_kernels().reason)

INSIDE = 2

# T, N, C, K, height and width after pooling, pooling, rows and columns that pooling drops: channels in eights and not, outputs in
# blocks of 32, 16 and 8 and not, images smaller and larger than what is worked on together, one and two columns
SHAPES = [
    (5, 2, 3, 7, 5, 4, 1, 0),
    (1, 3, 8, 8, 33, 2, 2, 1),
    (4, 2, 33, 65, 1, 1, 1, 0),
    (5, 1, 20, 96, 20, 18, 2, 0),
    (9, 3, 40, 100, 9, 7, 3, 2),
    (2, 1, 70, 130, 2, 40, 1, 0),
    (5, 1, 5, 66, 3, 97, 1, 0),
    (5, 8, 16, 32, 4, 4, 2, 0),
]


def drawn(shape: tuple[int, ...], share: float) -> tuple[Gate, Tensor]:
    """A gate, and which of its inputs [T * N, C, H, W] are wanted, as it was drawn: each neuron is inside by `share`."""
    timesteps, samples, channels, _, height, width, pool, dropped = shape
    made = torch.Generator().manual_seed(0)
    rows, columns = height * pool + dropped, width * pool + dropped
    inside = torch.rand((timesteps, samples, rows, columns, channels), generator=made) < share
    # Whether a neuron spiked is in the same bytes, and says nothing of what is wanted.
    spiked = torch.rand(inside.shape, generator=made) < 0.5
    codes = torch.zeros((-(-timesteps // 4), samples, rows, columns, channels), dtype=torch.uint8)
    for t in range(timesteps):
        codes[t // 4] |= (inside[t].to(torch.uint8) * INSIDE + spiked[t].to(torch.uint8)) << 2 * (t % 4)
    kept = inside[:, :, : height * pool, : width * pool]
    wanted = kept.reshape(timesteps, samples, height, pool, width, pool, channels).any(5).any(3)
    layer = LayerArguments(timesteps, samples, rows, columns, channels, pool, 0, 0, 0.5, 1.0, 0.5, 0.5)
    return Gate(layer, codes), wanted.flatten(0, 1).permute(0, 3, 1, 2)


def dense(x: Tensor, weight: Tensor, outward: Tensor) -> Tensor:
    return conv2d_input(x.shape, weight.double(), outward.double(), padding=1)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_a_dense_one_where_it_is_wanted_and_zero_elsewhere(
    shape: tuple[int, ...], memory: torch.memory_format, dtype: torch.dtype, threads: None
) -> None:
    timesteps, samples, channels, out, height, width, *_ = shape
    gate, wanted = drawn(shape, 0.3)
    x = torch.zeros((timesteps * samples, channels, height, width), dtype=dtype)
    made = torch.Generator().manual_seed(1)
    weight = torch.randn((out, channels, 3, 3), generator=made).to(dtype).contiguous(memory_format=memory)
    outward = torch.randn((len(x), out, height, width), generator=made).to(dtype).contiguous(memory_format=memory)
    found = gated_gradient(x, weight, outward, gate=gate, below=float("inf"))
    assert found is not None
    expected = dense(x, weight, outward) * wanted
    once_rounded = 0 if dtype == torch.float32 else 2**-8  # a sum in fp32 is as before, and then bf16
    torch.testing.assert_close(found.double(), expected, rtol=once_rounded, atol=2e-6 * float(expected.abs().max()))
    assert torch.equal(found != 0, wanted)
    # Whole numbers: nothing is left out, counted twice or read from beside the image, where rounding could hide it.
    weight, outward = weight.round(), (outward * 4).round()
    found = gated_gradient(x, weight, outward, gate=gate, below=float("inf"))
    assert found is not None
    assert torch.equal(found, (dense(x, weight, outward) * wanted).to(dtype))


def test_where_many_are_wanted_it_is_left_to_a_dense_convolution() -> None:
    shape = (5, 16, 8, 8, 6, 6, 1, 0)
    gate, wanted = drawn(shape, 0.3)
    x, weight, outward = torch.zeros(80, 8, 6, 6), torch.zeros(8, 8, 3, 3), torch.zeros(80, 8, 6, 6)
    share = float(wanted[::16].double().mean())  # of the images that are looked at
    assert gated_gradient(x, weight, outward, gate=gate, below=share) is None
    assert gated_gradient(x, weight, outward, gate=gate, below=share + 1e-6) is not None


def test_a_gate_belongs_to_the_very_spikes_of_its_neurons() -> None:
    model = Model(layout="8C3-8FC", timesteps=3)
    current = torch.randn(6, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    spikes = lif_pool(current.clone().requires_grad_(), Constants(model.neuron, 3, 1, 0.0), 2)
    assert gate_of(spikes) is not None
    assert gate_of(spikes * 2) is None
    assert gate_of(lif_pool(current, Constants(model.neuron, 3, 1, 0.0), 2)) is None  # there is no gradient to stop


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "side", "pool"), [(32, 6, 1), (5, 7, 2), (40, 8, 2), (17, 9, 4), (64, 5, 1)])
@pytest.mark.parametrize("timesteps", [1, 4, 6])
def test_recalled_spikes_are_those_that_were(
    timesteps: int, channels: int, side: int, pool: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    current = torch.randn(3 * timesteps, channels, side, side, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    neuron = Model(layout="8C3-8FC").neuron
    spikes = lif_pool(current.requires_grad_(), Constants(neuron, timesteps, pool, 0.0), 3)
    gate = gate_of(spikes)
    assert gate is not None
    again = recalled(gate)
    assert 0.05 < float((spikes > 0).double().mean()) < 0.95
    assert torch.equal(again, spikes.flatten(0, 1))
    assert again.dtype == dtype
    assert again.is_contiguous(memory_format=torch.channels_last)


def test_spikes_are_not_kept_where_their_neurons_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "_SMALLEST", 1)
    net = SpikingNetwork(Model(layout="8C3-16C3-AP2-9FC", timesteps=3), channels=3, size=(8, 8), classes=5).train()
    seen: list[weakref.ref[Tensor]] = []
    net.spiking["conv1"].output.register_forward_hook(lambda module, given, out: seen.append(weakref.ref(out)))
    logits = net(torch.randn(6, 3, 8, 8))
    assert seen[0]() is None
    logits.sum().backward()
    assert net.spiking["conv2"].synapse.weight.grad is not None


LAYOUTS = ["8C3-16C3-16C3-AP2-24C3-9FC", "8C3-R8-AP2-R16/2-9FC"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("timesteps", [1, 5])
def test_a_network_learns_the_same(layout: str, timesteps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of all weights, through time, pooling, batch norm and shortcuts, with gates and without."""
    monkeypatch.setattr(sparse, "_SMALLEST", 1)
    monkeypatch.setattr(sparse, "bounds", lambda _: Bounds(0.0, 0.0, float("inf")))
    torch.manual_seed(0)
    model = Model(layout=layout, timesteps=timesteps, dropout=0.0)
    net = SpikingNetwork(model, channels=3, size=(8, 8), classes=5).to(memory_format=torch.channels_last).train()
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6) % 5
    taken = list[Tensor | None]()

    def counted(*given: Tensor, gate: Gate, below: float, into: Tensor | None) -> Tensor | None:
        taken.append(gated_gradient(*given, gate=gate, below=below, into=into))
        return taken[-1]

    monkeypatch.setattr(sparse, "gated_gradient", counted)
    grads = {}
    for gated in (True, False):
        if not gated:
            monkeypatch.setattr(network_module, "gate_of", lambda spikes: None)
        net.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        grads[gated] = {name: p.grad for name, p in net.named_parameters()}
    assert len(taken) == 3
    assert all(found is not None and 0 < float((found == 0).float().mean()) < 1 for found in taken)
    for name, grad in grads[True].items():
        assert grad is not None
        expected = grads[False][name]
        assert expected is not None
        torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
