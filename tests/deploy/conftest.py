"""The quickstart's network, trained for a moment, and all of its test digits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.cli.conftest import tna as tna  # the command line as a fixture here, too
from tnacli.data.load import load
from tnacli.experiment import Experiment
from tnacli.exporting import export_checkpoint
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import read_packed
from tnacli.packed.network import PackedNetwork
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.recipe import Settings, Train

SETTINGS = Settings(
    data=Data(name="digits"),
    model=Model(layout="16C3-AP2-32C3-AP2-64FC", timesteps=4),
    train=Train(epochs=3, batch_size=64),
    compression=Ternary(start="60%"),
)

# Networks of every kind: pooling or none, images or events, one layer or many, odd sizes that pooling cuts,
# strides and shortcuts.
KINDS = [
    {},
    {"layout": "5C3-7C5-AP4-3C1-11FC", "size": (16, 13), "mode": "binary", "decay": 0.3},
    {"layout": "9FC-8FC-7FC", "readout": "sum", "timesteps": 5},
    {"layout": "3C3-AP8-4C3-AP2-6C3", "size": (34, 35), "norm": "none"},
    {"layout": "4C3-3C3-5FC", "timesteps": 1, "decay": 1.0},
    {"layout": "5C3-R5-AP2-R7x2/2-11FC", "size": (16, 13)},
    {"layout": "4C3/2-R6x2-6C5/2", "size": (13, 10), "mode": "binary"},
]


@dataclass(frozen=True)
class Quickstart:
    """`inputs` are `pixels` [360, 1, 8, 8], normalised; `expected` the packed engine's logits of them."""

    checkpoint: Path
    file: Path
    packed: PackedNetwork
    pixels: Tensor
    labels: Tensor
    inputs: Tensor
    expected: Tensor
    accuracy: float


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    out = tmp_path_factory.mktemp("quickstart")
    outcome = Experiment(out).execute(Run("quickstart", "t_snn", 0, SETTINGS))
    file = out / "digits.safetensors"
    exported = export_checkpoint(outcome.checkpoint, file)
    packed = read_packed(file)
    test = load(SETTINGS.data, 4, splits=("test",)).test
    engine = PackedSNN(packed)
    pixels, labels = torch.from_numpy(test.inputs), torch.from_numpy(test.labels)
    inputs = engine.normalise(pixels).clone()
    assert exported.accuracy is not None
    assert exported.accuracy > 80  # trained well enough for predictions to mean something
    return Quickstart(outcome.checkpoint, file, packed, pixels, labels, inputs, engine(inputs), exported.accuracy)
