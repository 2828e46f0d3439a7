"""From checkpoints to files: what is verified before one is written, of layouts and of modules of a user's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tnacli
from tnacli import exporting
from tnacli.errors import FileFormatError, NetworkError, UsageError
from tnacli.experiment import Experiment, Outcome
from tnacli.exporting import Exported, deploy_checkpoint, export_checkpoint
from tnacli.packed.file import read_packed
from tnacli.packed.network import PackedNetwork
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.recipe import Settings, Train

FREE = "tests.snn.own_networks:pooled_by_maximum"
SETTINGS = Settings(
    data=Data(name="digits", train_samples=600, test_samples=90),
    model=Model(build=FREE, args={"maps": 4}, timesteps=3),
    train=Train(epochs=6, batch_size=20),
    compression=Ternary(delta=0.02, start=3),
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A module with maximum pooling, which no layout has."""
    return Experiment(tmp_path_factory.mktemp("own")).execute(Run("own", "free", 0, SETTINGS))


def exported(own: Outcome, to: Path, **wishes: Any) -> Exported:
    return export_checkpoint(own.checkpoint, to, trusted=FREE, **wishes)


@pytest.mark.parametrize("encoding", ["2bit", "base3"])
def test_a_module_of_ones_own_is_packed_as_its_checkpoint_says(own: Outcome, tmp_path: Path, encoding: str) -> None:
    done = exported(own, tmp_path / "own.safetensors", encoding=encoding)
    assert (done.samples, done.agreeing, done.weights) == (90, 90, 0)
    assert done.accuracy == own.result.accuracy["base"] > 30, "or predictions would say little"
    about = read_packed(tmp_path / "own.safetensors").about
    assert (about.origin.recipe, about.origin.run, about.origin.accuracy) == ("own", "free", done.accuracy)
    assert (about.labels, about.input.mean) == (
        tuple("0123456789"),
        tnacli.load(own.checkpoint, trust_build=FREE).input.mean,
    )
    assert [layer.max_pool and layer.max_pool.of for layer in about.layers] == ["spikes", "spikes"]
    assert about.layers[1].encoding == {"2bit": "ternary2", "base3": "ternary5"}[encoding]


@pytest.mark.parametrize(("form", "name"), [("onnx", "own.onnx"), ("c", "own")])
def test_its_other_forms_predict_alike(own: Outcome, tmp_path: Path, form: str, name: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    deployed = deploy_checkpoint(own.checkpoint, tmp_path / name, form, trusted=FREE)
    assert (deployed.samples, deployed.agreeing) == (90, 90)


def test_it_cannot_be_recognised_without_samples(own: Outcome, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"last\.pt cannot be exported with --samples 0: what the network made by tests\.snn"
    ):
        exported(own, tmp_path / "own.safetensors", samples=0)


def test_other_logits_are_no_matter_of_rounding(own: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognised = exporting.recognised

    def other(*args: Any, **said: Any) -> tuple[PackedNetwork, Tensor]:
        packed, logits = recognised(*args, **said)
        return _with(packed, "readout.bias", packed.readout_bias + 1), logits

    monkeypatch.setattr(exporting, "recognised", other)
    with pytest.raises(
        NetworkError, match=r"in the network made by .*:pooled_by_maximum, the logits of 90 of 90 samples differ"
    ):
        exported(own, tmp_path / "own.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_prediction_that_rounding_changed_is_counted(
    own: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a module whose own sums are in another order: the file says its own accuracy then, not the checkpoint's."""
    monkeypatch.setattr(exporting, "require_same", lambda engine, inputs, logits: torch.cat([-logits[:1], logits[1:]]))
    assert exported(own, tmp_path / "own.safetensors").agreeing == 89


def test_nothing_is_written_of_a_layout_whose_file_would_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(layout="4C3-AP2-8C3-AP2-16FC", timesteps=2)
    settings = SETTINGS.model_copy(update={"model": model, "train": Train(epochs=1, batch_size=20)})
    settings = settings.model_copy(update={"compression": Ternary(delta=0.02, start=0)})
    outcome = Experiment(tmp_path / "runs").execute(Run("layout", "small", 0, settings))
    assert export_checkpoint(outcome.checkpoint, tmp_path / "fine.safetensors").agreeing == 90
    pack = exporting.pack_network
    monkeypatch.setattr(
        exporting,
        "pack_network",
        lambda *args, **said: _with(pack(*args, **said), "conv2.shift", torch.ones(8).numpy()),
    )
    with pytest.raises(FileFormatError, match="packed numbers of layer conv2 are not the checkpoint's"):
        export_checkpoint(outcome.checkpoint, tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


def _with(packed: PackedNetwork, name: str, array: Any) -> PackedNetwork:
    return dataclasses.replace(packed, arrays={**packed.arrays, name: array})
