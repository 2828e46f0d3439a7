"""Functions that a recipe could name under model.build; imported by name in the tests."""

from __future__ import annotations

from torch import Tensor, nn

from tnacli.errors import Interrupted
from tnacli.recipe.schema.model import Model
from tnacli.snn.lif import LIF
from tnacli.snn.network import SpikingNetwork
from tnacli.snn.own import OverTime, TimeFirst
from tnacli.snn.readout import Readout


def pooled_by_maximum(model: Model, *, channels: int, size: tuple[int, int], classes: int, maps: int = 4) -> nn.Module:
    """What no layout can say, and a packed file can: maximum pooling."""
    neurons = (model.neuron, model.timesteps)
    return nn.Sequential(
        TimeFirst(),
        OverTime(nn.Conv2d(channels, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps)),
        LIF(*neurons),
        OverTime(nn.MaxPool2d(2), nn.Conv2d(maps, 2 * maps, 3, padding=1, bias=False), nn.BatchNorm2d(2 * maps)),
        LIF(*neurons),
        OverTime(nn.MaxPool2d(2), nn.Flatten()),
        Readout(2 * maps * (size[0] // 4) * (size[1] // 4), classes, model.neuron.decay),
    )


def pooled_to_a_size(model: Model, *, channels: int, size: tuple[int, int], classes: int, maps: int = 4) -> nn.Module:
    """What no packed file can say: first maximum pooling to a given size, then rectified linear units."""
    network = pooled_by_maximum(model, channels=channels, size=size, classes=classes, maps=maps)
    assert isinstance(network, nn.Sequential)
    network[3][0] = nn.AdaptiveMaxPool2d((size[0] // 2, size[1] // 2))  # type: ignore[operator,index]
    network[5] = OverTime(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten())
    return network


def by_layout(model: Model, *, channels: int, size: tuple[int, int], classes: int, maps: int) -> nn.Module:
    """A layout put together by a program."""
    chosen = model.model_copy(update={"layout": f"{maps}C3-AP2-R{2 * maps}/2-{3 * maps}FC"})
    return SpikingNetwork(chosen, channels=channels, size=size, classes=classes)


class TwoLayers(nn.Module):
    """Too few layers for compression, in a forward pass of its own."""

    def __init__(self, model: Model, *, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(channels * size[0] * size[1], 8)
        self.last = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.first(images.flatten(1)).relu())
        return logits


def too_many_logits(model: Model, *, channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    return TwoLayers(model, channels=channels, size=size, classes=classes + 1)


def a_word(model: Model, *, channels: int, size: tuple[int, int], classes: int) -> str:
    return "network"


def interrupted(model: Model, *, channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """As a signal's handler ends the process while the function runs."""
    raise SystemExit(130) from Interrupted("interrupted")


a_number = 3
