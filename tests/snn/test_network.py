"""CIFARNet's shapes, parameter counts, direct coding, readout, and what evaluation folds."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tnacli.build import build_network
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.snn.lif import lif_reference
from tnacli.snn.network import SpikingNetwork
from tnacli.snn.readout import Readout

SMALL = Model(layout="4C3-AP2-6C3-AP2-8FC", timesteps=4)


def small(**changes: object) -> SpikingNetwork:
    model = SMALL.model_copy(update=changes)
    return cast(SpikingNetwork, build_network(model, channels=3, size=(8, 8), classes=5, seed=0))


# Counted by hand: convolutions 3x3 without bias, batch norm two a channel, readout with bias.
@pytest.mark.parametrize(
    ("name", "parameters", "fc1_inputs"),
    [
        ("cifar10", 45_006_986, 512 * 8 * 8),
        ("cifar100", 45_053_156, 512 * 8 * 8),
        ("fashion_mnist", 37_140_362, 512 * 7 * 7),
        ("cifar10dvs", 86_948_874, 512 * 12 * 12),
    ],
)
def test_full_cifarnet_shapes(name: str, parameters: int, fc1_inputs: int) -> None:
    facts = DATASETS[name]
    assert facts.size
    assert facts.channels
    assert facts.classes
    with torch.device("meta"):
        network = SpikingNetwork(Model(), channels=facts.channels, size=facts.size, classes=facts.classes)
    weights = [(shape.name, shape.weight[0]) for shape in network.shapes]
    assert weights == [
        ("conv1", 128), ("conv2", 256), ("conv3", 512), ("conv4", 1024), ("conv5", 512),
        ("fc1", 1024), ("fc2", 512), ("readout", facts.classes),
    ]  # fmt: skip
    assert network.shapes[5].weight == (1024, fc1_inputs)
    by_hand = (
        9 * (facts.channels * 128 + 128 * 256 + 256 * 512 + 512 * 1024 + 1024 * 512)
        + fc1_inputs * 1024 + 1024 * 512 + 512 * facts.classes + facts.classes
        + 2 * (128 + 256 + 512 + 1024 + 512 + 1024 + 512)
    )  # fmt: skip
    assert sum(p.numel() for p in network.parameters()) == by_hand == parameters


@pytest.mark.parametrize(("kind", "leak"), [("leaky", 0.5), ("sum", 1.0), ("none", 0.0)])
def test_a_readout_leaks_as_the_neurons_or_not_at_all_or_keeps_nothing(kind: Any, leak: float) -> None:
    network = SpikingNetwork(Model(layout="4FC", readout=kind), channels=1, size=(2, 2), classes=3)
    assert network.readout.leak == leak


def test_layout_and_module_agree_on_every_shape() -> None:
    network = small()
    for shape in layer_shapes(SMALL.layout, width=1.0, channels=3, size=(8, 8), classes=5)[:-1]:
        assert tuple(network.spiking[shape.name].synapse.weight.shape) == shape.weight
    seen: dict[str, tuple[int, ...]] = {}
    for name, layer in network.spiking.items():
        layer.register_forward_hook(lambda m, i, out, name=name: seen.__setitem__(name, tuple(out.shape[2:])))
    network(torch.randn(2, 3, 8, 8))
    assert seen == {"conv1": (4, 4, 4), "conv2": (6, 2, 2), "fc1": (8,)}


@pytest.mark.parametrize("training", [True, False])
def test_a_static_image_equals_the_same_frame_at_every_timestep(training: bool) -> None:
    """Computing the first layer once is not an approximation: outputs and gradients are those of T equal inputs."""
    # Without batch norm, whose running variance would differ by the n / (n - 1) of its unbiased estimate.
    network = small(norm="none", dropout=0.0, neuron=Neuron(threshold=0.3)).double().train(training)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    gradients = []
    for inputs in (images, images.unsqueeze(1).expand(-1, 4, -1, -1, -1)):
        logits = network(inputs)
        gradients.append((logits, *torch.autograd.grad(logits.square().sum(), list(network.parameters()))))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)
    assert gradients[0][1].abs().sum() > 0


def test_batch_norm_sees_time_batch_and_space() -> None:
    network = small(dropout=0.0).train()
    captured: list[torch.Tensor] = []
    network.spiking["conv2"].compiled = False  # so that there is a batch norm module to look at
    norm = network.spiking["conv2"].norm
    assert norm is not None
    norm.register_forward_hook(lambda module, inputs, out: captured.append(out))
    network(torch.randn(6, 3, 8, 8))
    assert captured[0].shape == (4 * 6, 6, 4, 4)
    torch.testing.assert_close(captured[0].mean((0, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)


def test_evaluation_folds_batch_norm() -> None:
    network = small(dropout=0.0)
    network.train()(torch.randn(32, 3, 8, 8))
    layer = network.eval().spiking["conv1"]
    assert layer.norm is not None
    x = torch.randn(2, 3, 8, 8)
    scale, shift = layer.folded()
    expected = layer.norm(layer.synapse(x))
    actual = F.conv2d(x, layer.synapse.weight, padding=1) * scale[:, None, None] + shift[:, None, None]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("leak", [0.5, 1.0])
def test_readout_sums_membrane_potentials_over_time(leak: float) -> None:
    readout = Readout(3, 2, leak).double()
    spikes = torch.randint(0, 2, (4, 5, 3)).double()
    potential, total = torch.zeros(5, 2, dtype=torch.float64), torch.zeros(5, 2, dtype=torch.float64)
    for t in range(4):
        potential = leak * potential + spikes[t] @ readout.weight.T + readout.bias
        total = total + potential
    torch.testing.assert_close(readout(spikes).double(), total, rtol=1e-6, atol=1e-6)


def test_initial_weights_depend_on_seed_and_stream_alone() -> None:
    def weights(seed: int, stream: str) -> torch.Tensor:
        torch.manual_seed(123)
        return build_network(
            SMALL, channels=3, size=(8, 8), classes=5, seed=seed, stream=stream
        ).readout.weight.detach()

    assert torch.equal(weights(1, "base"), weights(1, "base"))
    assert not torch.equal(weights(1, "base"), weights(2, "base"))
    assert not torch.equal(weights(1, "base"), weights(1, "sibling1"))


# ResNet-18 and VGG-11 as the field's own CIFAR code has them: 11,173,962 and, with the 1x1 map's readout of 512 features and
# no biases before batch norm, 9,228,362 parameters for ten classes.
@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_173_962), ("vgg11", 9_228_362)])
def test_named_networks_are_as_large_as_elsewhere(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = SpikingNetwork(Model(layout=name), channels=3, size=(32, 32), classes=10)
    assert sum(p.numel() for p in network.parameters()) == parameters


class _Block(nn.Module):
    """A residual block written out with PyTorch's own modules, and its neurons as the equation reads."""

    def __init__(self, into: int, out: int, stride: int, neuron: Neuron) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out))
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        same = into == out and stride == 1
        shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.shortcut: nn.Module = nn.Identity() if same else shortcut
        self.neuron = neuron

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, flat = x.shape[:2], x.flatten(0, 1)
        inner = lif_reference(self.first(flat).unflatten(0, steps), steps[0], self.neuron)
        current = self.second(inner.flatten(0, 1)) + self.shortcut(flat)
        return lif_reference(current.unflatten(0, steps), steps[0], self.neuron)


@pytest.mark.parametrize("compiled", [True, False])
def test_residual_blocks_add_currents_before_the_neurons(compiled: bool) -> None:
    """Spikes, gradients and running statistics against blocks that know nothing of `SpikingLayer`."""
    model = Model(layout="5C3-R5-R7/2-AP2", timesteps=4, dropout=0.0, neuron=Neuron(decay=0.7, threshold=0.6))
    network = SpikingNetwork(model, channels=3, size=(9, 8), classes=4).train()
    for layer in network.spiking.values():
        layer.compiled = compiled
    blocks = [_Block(5, 5, 1, model.neuron), _Block(5, 7, 2, model.neuron)]
    ours = [[network.spiking[name] for name in names] for names in (("conv2", "conv3"), ("conv4", "conv5"))]
    for block, (one, two) in zip(blocks, ours, strict=True):
        pairs: list[tuple[Any, Any]] = [(block.first, one), (block.second, two)]
        if two.shortcut is not None:
            pairs.append((block.shortcut, two.shortcut))
        for module, weights in pairs:
            assert weights.norm is not None
            module[0].load_state_dict(weights.synapse.state_dict())
            module[1].load_state_dict(weights.norm.state_dict())
    images = torch.randn(6, 3, 9, 8)
    x = network.spiking["conv1"](images.unsqueeze(0))
    for block in blocks:
        x = block(x)
    expected = network.readout(torch.nn.functional.avg_pool2d(x.flatten(0, 1), 2).flatten(1).unflatten(0, (4, 6)))
    theirs = torch.autograd.grad(expected.square().sum(), [p for block in blocks for p in block.parameters()])
    logits = network(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    found = torch.autograd.grad(
        logits.square().sum(), [p for pair in ours for layer in pair for p in layer.parameters()]
    )
    assert len(found) == len(theirs)
    for grad, other in zip(found, theirs, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
    for block, pair in zip(blocks, ours, strict=True):
        norm = pair[1].norm
        assert norm is not None
        torch.testing.assert_close(norm.running_var, block.second[1].running_var, rtol=1e-4, atol=1e-5)


def test_small_maps_and_few_channels_do_not_break_the_gradient_of_a_strided_shortcut() -> None:
    """oneDNN's own gradient of a 1x1 convolution with a stride writes beyond its memory here (oneDNN issue 6035)."""
    network = SpikingNetwork(Model(layout="3C3-R5/2", timesteps=2), channels=3, size=(8, 8), classes=4).train()
    network = network.to(memory_format=torch.channels_last)
    for _ in range(20):
        network(torch.randn(20, 3, 8, 8)).square().sum().backward()
    shortcut = network.spiking["conv3"].shortcut
    assert shortcut is not None
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(shortcut.summed(x), F.conv2d(x, shortcut.synapse.weight, stride=2))
    assert torch.isfinite(next(network.parameters()).grad.sum())  # type: ignore[union-attr]
