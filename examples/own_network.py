"""Your own network, with and without a twin: a layout that a function puts together, and what no layout can say; both as files.

python examples/own_network.py FOLDER

A recipe asks for the same with `model: {build: "own_network:narrowing", args: {maps: 16}}`, run where this file lies.
"""

import sys
from pathlib import Path

from torch import nn

from tnacli.experiment import Experiment
from tnacli.exporting import export_checkpoint
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.recipe.schema.objective import Solo, Twin
from tnacli.recipe.schema.recipe import Settings, Train
from tnacli.snn.lif import LIF
from tnacli.snn.network import SpikingNetwork
from tnacli.snn.own import OverTime, TimeFirst
from tnacli.snn.readout import Readout


def narrowing(model: Model, *, channels: int, size: tuple[int, int], classes: int, maps: int) -> nn.Module:
    """A layout: 5x5 convolution, pooling, a residual block at half the size, a hidden layer."""
    layout = f"{maps // 2}C5-AP2-R{maps}/2-{2 * maps}FC"
    chosen = model.model_copy(update={"layout": layout})
    return SpikingNetwork(chosen, channels=channels, size=size, classes=classes)


def largest(model: Model, *, channels: int, size: tuple[int, int], classes: int, maps: int) -> nn.Module:
    """Maximum pooling, which no layout has. An export runs the module and recognises what a packed file can say."""
    neurons = (model.neuron, model.timesteps)
    return nn.Sequential(
        TimeFirst(),
        OverTime(nn.Conv2d(channels, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps)),
        LIF(*neurons),
        OverTime(nn.MaxPool2d(2), nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps)),
        LIF(*neurons),
        OverTime(nn.Flatten()),
        Readout(maps * (size[0] // 2) * (size[1] // 2), classes, model.neuron.decay),
    )


if __name__ == "__main__":
    for function in (narrowing, largest):
        model = Model(
            build=f"own_network:{function.__name__}", args={"maps": 16}, timesteps=3, neuron=Neuron(decay=0.75)
        )
        settings = Settings(
            data=Data(name="digits"),
            model=model,
            train=Train(epochs=4, batch_size=64),
            compression=Ternary(start="60%"),
        )
        for name, objective in (("alone", Solo()), ("with_a_twin", Twin(alpha=1e-3))):
            chosen = settings.model_copy(update={"objective": objective})
            outcome = Experiment(Path(sys.argv[1])).execute(Run(function.__name__, name, 0, chosen))
            file = Path(sys.argv[1], f"{function.__name__}_{name}.safetensors")
            packed = export_checkpoint(outcome.checkpoint, file, trusted=model.build)
            accuracy = outcome.result.accuracy["base"]
            print(f"{function.__name__}, {name.replace('_', ' ')}: {accuracy:.2f} %, {packed.size_bytes} bytes packed")
