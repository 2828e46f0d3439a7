"""The same CIFARNet in several libraries, as training steps to be timed.

Every contender is a function that does one training step (forward, cross-entropy, backward, Adam) on a fixed batch of
random images, T = 5, batch norm, decay 0.5, threshold 1. The weights differ; the work does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.build import build_network, build_objective
from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.model_section import Model
from tnacli.recipe.objective_section import Twin
from tnacli.recipe.schema import Settings

Step = Callable[[], None]
CLASSES = 100


@dataclass(frozen=True)
class Work:
    """What is timed."""

    width: float
    batch: int
    timesteps: int = 5

    @property
    def model(self) -> Model:
        return Model(width=self.width, timesteps=self.timesteps)

    def images(self) -> Tensor:
        return torch.randn(self.batch, 3, 32, 32)

    def labels(self) -> Tensor:
        return torch.randint(0, CLASSES, (self.batch,))


def _training_step(module: nn.Module, loss: Callable[[], Tensor]) -> Step:
    adam = torch.optim.Adam(module.parameters(), fused=True)

    def step() -> None:
        value = loss()
        adam.zero_grad()
        value.backward()
        adam.step()

    return step


def ours(work: Work, *, compiled: bool = True) -> Step:
    """tnacli's network as `tna train` trains it; without its compiled kernels, the plain PyTorch path."""
    network = build_network(work.model, channels=3, size=(32, 32), classes=CLASSES, seed=0)
    network = network.to(memory_format=torch.channels_last).train()
    for layer in network.spiking.values():
        layer.compiled = compiled
    images, labels = work.images(), work.labels()
    return _training_step(network, lambda: F.cross_entropy(network(images), labels))


def plain(work: Work) -> Step:
    """The same without the compiled kernels."""
    return ours(work, compiled=False)


def twin(work: Work) -> Step:
    """A TNA step: base and twin, Eq. 5."""
    settings = Settings(model=work.model, objective=Twin(alpha=1e-3))
    objective = build_objective(settings, channels=3, size=(32, 32), classes=CLASSES, seed=0)
    objective = objective.to(memory_format=torch.channels_last).train()
    images, labels = work.images(), work.labels()
    return _training_step(objective, lambda: objective(images, labels).total)


def spikingjelly(work: Work) -> Step:
    """SpikingJelly 2, multi-step, its LIF node with the same constants; the first layer's current is computed once."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> nn.Module:
        node: nn.Module = neuron.LIFNode(
            tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, surrogate_function=surrogate.Rect(),
            detach_reset=True, step_mode="m",
        )  # fmt: skip
        return node

    shapes = layer_shapes(work.model.layout, width=work.width, channels=3, size=(32, 32), classes=CLASSES)
    first = nn.Sequential(
        nn.Conv2d(3, shapes[0].weight[0], 3, padding=1, bias=False), nn.BatchNorm2d(shapes[0].weight[0])
    )
    parts: list[nn.Module] = [lif()]
    for shape in shapes[1:-1]:
        out, fan_in = shape.weight[:2]
        if shape.kind == "conv":
            parts += [
                layer.Conv2d(fan_in, out, 3, padding=1, bias=False, step_mode="m"),
                layer.BatchNorm2d(out, step_mode="m"),
            ]
        else:
            if not any(isinstance(part, layer.Flatten) for part in parts):
                parts.append(layer.Flatten(step_mode="m"))
            parts += [layer.Linear(fan_in, out, bias=False, step_mode="m"), layer.BatchNorm1d(out, step_mode="m")]
        parts.append(lif())
        if shape.kind == "fc":
            parts.append(layer.Dropout(0.2, step_mode="m"))
        if shape.pool > 1:
            parts.append(layer.AvgPool2d(shape.pool, step_mode="m"))
    rest = nn.Sequential(*parts, layer.Linear(shapes[-1].weight[1], CLASSES, step_mode="m"))
    network = nn.ModuleList([first, rest]).train()
    images, labels = work.images(), work.labels()

    def loss() -> Tensor:
        functional.reset_net(rest)
        current = first(images).unsqueeze(0).expand(work.timesteps, -1, -1, -1, -1)
        return F.cross_entropy(rest(current).sum(0), labels)

    return _training_step(network, loss)


def limit(work: Work) -> Step:
    """The network's convolutions and matrix products alone, forward and backward: no neurons, norms or pooling."""
    shapes = layer_shapes(work.model.layout, width=work.width, channels=3, size=(32, 32), classes=CLASSES)
    steps = []
    size = (32, 32)
    for number, shape in enumerate(shapes):
        count = work.batch if number == 0 else work.batch * work.timesteps
        out, fan_in = shape.weight[:2]
        if shape.kind == "conv":
            module: nn.Module = nn.Conv2d(fan_in, out, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
            x = (torch.rand(count, fan_in, *size) < 0.15).float().contiguous(memory_format=torch.channels_last)
            size = shape.pooled[1:] if len(shape.pooled) == 3 else size
        else:
            module = nn.Linear(fan_in, out, bias=False)
            x = (torch.rand(count, fan_in) < 0.15).float()
        x.requires_grad_(number > 0)
        steps.append((module, x, torch.randn_like(module(x).detach())))

    def step() -> None:
        for module, x, outward in steps:
            inputs = [x, *module.parameters()] if x.requires_grad else list(module.parameters())
            torch.autograd.grad(module(x), inputs, outward)

    return step


CONTENDERS: dict[str, Callable[[Work], Step]] = {
    "tnacli": ours,
    "tnacli, plain PyTorch": plain,
    "SpikingJelly 2": spikingjelly,
    "convolutions alone": limit,
    "tnacli, TNA (two networks)": twin,
}
