"""tnacli's own network as peers take it over, and the proof that theirs computes the same."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.layerwise import Layerwise
from benchmarks.peers import PEERS
from benchmarks.work import CLASSES, IMAGE, Work
from tnacli.build import build_network
from tnacli.quant.weights import compress
from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.model import Model
from tnacli.snn.network import SpikingNetwork

_LATENT_STD = 0.09  # about a quarter of the weights beyond Delta = 0.1, as after training on CIFAR-100


def model_of(work: Work) -> Model:
    """The settings of the network that `work` is about."""
    return Model(width=work.width, timesteps=work.timesteps)


def inputs(work: Work, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] of random pixels and labels [N], the same every time, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(work.batch, *IMAGE, generator=generator),
        torch.randint(0, CLASSES, (work.batch,), generator=generator),
    )


def network(work: Work, *, ternary: bool = False, dropout: bool = True, seen: int = 8) -> SpikingNetwork:
    """A network whose batch norm has seen `seen` images, so that every layer spikes; in training mode, on the CPU."""
    model = model_of(work)
    if not dropout:
        model = model.model_copy(update={"dropout": 0.0})
    made = build_network(model, channels=IMAGE[0], size=IMAGE[1:], classes=CLASSES, seed=0).train()
    assert isinstance(made, SpikingNetwork)
    if ternary:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in made.hidden.values():
                weight = layer.synapse.weight
                weight.copy_(_LATENT_STD * torch.randn(weight.shape, generator=generator))
        compress(made, Ternary())
    if seen:
        settle_statistics(made, inputs(Work(work.width, seen), seed=2)[0])
    return made


def settle_statistics(made: SpikingNetwork, images: Tensor) -> None:
    """Let the running statistics of batch norm be those of `images` alone. `made` is in training mode."""
    norms = [layer.norm for layer in made.spiking.values() if layer.norm is not None]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        made(images)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before


def weight_count(work: Work) -> int:
    """Weights of the network, without biases and norms."""
    shapes = layer_shapes("cifarnet", width=work.width, channels=IMAGE[0], size=IMAGE[1:], classes=CLASSES)
    return sum(math.prod(shape.weight) for shape in shapes)


@dataclass(frozen=True)
class Agreement:
    """A peer beside tnacli on the same images, in float64, where rounding does not turn one spike into none.

    Largest difference of the logits in evaluation mode, and of the gradients in training mode relative to the largest one.
    """

    logits: float
    gradient: float
    firing_rate: float


def agreement(peer: str, work: Work) -> Agreement:
    """How far the network of `peer` is from tnacli's with the same weights. Raises ImportError if it is not installed."""
    about = PEERS[peer]
    ours = network(work, dropout=False).double()
    theirs = (
        Layerwise(model_of(work), about.neurons, time_axis=about.time_axis, dropout=False)
        .double()
        .copy_from(copy.deepcopy(ours))
    )
    images, labels = inputs(work)
    images = images.double()
    rates: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, spikes: rates.append(spikes.mean()))
        for layer in ours.spiking.values()
    ]
    with torch.no_grad():
        logits = (ours.eval()(images) - theirs.eval()(images)).abs().max()
    for hook in hooks:
        hook.remove()
    gradients = []
    for net in (ours.train(), theirs.train()):
        wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
        gradients.append(torch.autograd.grad(F.cross_entropy(net(images), labels), wanted))
    pairs = list(zip(*gradients, strict=True))
    scale = max(float(a.abs().max()) for a, _ in pairs)
    difference = max(float((a - b).abs().max()) for a, b in pairs)
    return Agreement(float(logits), difference / scale, float(torch.stack(rates).mean()))
