from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

from tests.packed.networks import ORIGIN, make_inputs, make_network, make_packed
from tnacli.build import build_network
from tnacli.errors import FileFormatError, StorageError, UsageError
from tnacli.packed.document import Document
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import write_packed
from tnacli.packed.network import PackedNetwork, layer_sizes
from tnacli.packed.pack import pack_network, verify
from tnacli.packed.spec import InputSpec
from tnacli.recipe.schema.model import Model
from tnacli.snn.network import SpikingNetwork

FACTS = InputSpec(kind="images", channels=2, size=(9, 8))
LABELS = ["a", "b", "c", "d", "e"]


def pack(network: SpikingNetwork, source: str = "runs/x/last.pt") -> PackedNetwork:
    return pack_network(network, inputs=FACTS, labels=LABELS, origin=ORIGIN, source=source)


@pytest.mark.parametrize("encoding", ["ternary2", "ternary5"])
@pytest.mark.parametrize("mode", ["ternary", "binary"])
def test_packed_weights_are_the_networks(mode: str, encoding: str) -> None:
    network = make_network(mode=mode)  # type: ignore[arg-type]
    packed = make_packed(network, encoding)
    assert list(packed.weights) == list(network.weighted)
    for name, weights in packed.weights.items():
        np.testing.assert_array_equal(weights.values(), network.weighted[name].synapse.weight.detach().numpy())
        counts = weights.counts
        assert (counts is None) == (weights.spec.encoding == "fp32") == (name == "conv1")
        if counts is not None:
            assert weights.spec.binary == (mode == "binary") == (counts.zero == 0)


def test_a_full_precision_network_is_refused_with_the_command_that_helps() -> None:
    network = build_network(Model(layout="4C3-6C3-8FC"), channels=2, size=(9, 8), classes=5, seed=0)
    with pytest.raises(UsageError, match=r"full-precision weights: conv2, fc1\..*`tna ternarize runs/x/last.pt`"):
        pack(cast(SpikingNetwork, network))


def test_one_full_precision_layer_is_enough_to_refuse() -> None:
    network = make_network()
    parametrize.remove_parametrizations(network.hidden["fc1"].synapse, "weight", leave_parametrized=True)
    with pytest.raises(UsageError, match=r"full-precision weights: fc1\."):
        pack(network)


def test_a_network_without_hidden_layers_is_refused() -> None:
    network = build_network(Model(layout="4C3", dropout=0), channels=2, size=(9, 8), classes=5, seed=0)
    with pytest.raises(UsageError, match="no hidden layer"):
        pack(cast(SpikingNetwork, network))


def test_infinite_values_are_refused(network: SpikingNetwork) -> None:
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.readout.bias[2] = torch.inf
    with pytest.raises(UsageError, match=r"NaN or infinity in readout\.bias"):
        pack(broken)


def test_facts_that_do_not_fit_the_network_are_refused(network: SpikingNetwork) -> None:
    with pytest.raises(UsageError, match="readout: weight is"):
        pack_network(network, inputs=FACTS, labels=["one"], origin=ORIGIN)
    wide = InputSpec(kind="images", channels=2, size=(19, 18))
    with pytest.raises(UsageError, match="layer fc1: weight"):
        pack_network(network, inputs=wide, labels=LABELS, origin=ORIGIN)


def test_verification_says_what_it_compared(network: SpikingNetwork) -> None:
    packed, samples = pack(network), make_inputs(network, 40)
    verification = verify(network, packed, samples)
    assert (verification.samples, verification.agreeing) == (40, 40)
    assert verification.weights == sum(layer.synapse.weight.numel() for layer in network.hidden.values())
    assert verification.largest_difference == 0


def _with(packed: PackedNetwork, name: str, array: np.ndarray) -> PackedNetwork:
    return dataclasses.replace(packed, arrays={**packed.arrays, name: array})


def test_verification_notices_any_difference(network: SpikingNetwork) -> None:
    packed, samples = pack(network), make_inputs(network, 8)
    verify(network, packed, samples)
    for name, array in packed.arrays.items():
        changed, layer = array.copy(), name.partition(".")[0]
        changed.reshape(-1)[0] = changed.reshape(-1)[0] ^ 1 if changed.dtype == np.uint8 else 7.0
        what = "readout is" if layer == "readout" else f"numbers of layer {layer} are"
        with pytest.raises(FileFormatError, match=f"{what} not the checkpoint's"):
            verify(network, _with(packed, name, changed), samples)
    other = _with(packed, "readout.bias", packed.readout_bias + 1)
    with pytest.raises(FileFormatError, match="readout is not the checkpoint's"):
        verify(network, other, samples)


@pytest.mark.parametrize("part", ["timesteps", "threshold", "decay", "leak"])
def test_verification_notices_other_neurons(network: SpikingNetwork, part: str) -> None:
    packed = pack(network)
    about = packed.about.model_dump()
    holder = {"timesteps": about, "leak": about["readout"]}.get(part, about["neuron"])
    holder[part] = 2 if part == "timesteps" else 0.75
    other = dataclasses.replace(packed, about=Document.model_validate(about))
    with pytest.raises(FileFormatError, match="the packed neurons are not the checkpoint's"):
        verify(network, other, make_inputs(network, 0))


def test_verification_notices_another_pooling(network: SpikingNetwork) -> None:
    packed = pack(network)
    layers = list(packed.about.layers)
    assert [layer.pool for layer in layers[:2]] == [2, 2]  # on 9x8; 4 and 1 leave as many values for fc1
    layers[:2] = (layer.model_copy(update={"pool": pool}) for layer, pool in zip(layers[:2], (4, 1), strict=True))
    other = dataclasses.replace(packed, about=packed.about.model_copy(update={"layers": tuple(layers)}))
    with pytest.raises(FileFormatError, match="numbers of layer conv1 are not the checkpoint's"):
        verify(network, other, make_inputs(network, 0))


def test_verification_notices_other_predictions(network: SpikingNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    right = PackedSNN.__call__
    monkeypatch.setattr(PackedSNN, "__call__", lambda engine, inputs: right(engine, inputs).roll(1, dims=1))
    with pytest.raises(FileFormatError, match=r"predicts 40 of 40 samples otherwise than the checkpoint"):
        verify(network, pack(network), make_inputs(network, 40))


def test_weights_alone_can_be_verified(network: SpikingNetwork) -> None:
    verification = verify(network, pack(network), make_inputs(network, 0))
    assert verification.samples == 0
    assert verification.weights > 0


def test_verification_leaves_the_network_in_its_mode(network: SpikingNetwork) -> None:
    training = copy.deepcopy(network).train()
    before = {name: value.clone() for name, value in training.state_dict().items()}
    verify(training, pack(training), make_inputs(network, 3))
    assert training.training
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())


def test_a_failed_write_leaves_the_previous_file(
    network: SpikingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.tna"
    path.write_bytes(b"previous")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_packed(path, pack(network))
    assert path.read_bytes() == b"previous"
    assert list(tmp_path.iterdir()) == [path]


def test_sizes_add_up(network: SpikingNetwork, packed: PackedNetwork) -> None:
    rows = layer_sizes(packed)
    assert [row.name for row in rows] == ["conv1", "conv2", "fc1", "fc2", "readout"]
    assert sum(row.size_bytes for row in rows) == sum(array.nbytes for array in packed.arrays.values())
    synapses = [layer.synapse for layer in network.spiking.values()]
    weights = [synapse.weight for synapse in synapses]
    assert sum(row.weights for row in rows[:-1]) == sum(weight.numel() for weight in weights)
    assert rows[1].fp32_bytes == 4 * (weights[1].numel() + 2 * 9)
    assert rows[1].size_bytes == 9 * 14 + 4 * 2 * 9  # rows of 54 weights in 14 bytes, scale and shift
    assert rows[1].out == (9, 2, 2)
    assert rows[0].shares is None
    assert rows[-1].shares is None
    for row, weight in zip(rows[1:-1], weights[1:], strict=True):
        assert row.shares == pytest.approx([float((weight == value).float().mean()) for value in (-1, 0, 1)])
