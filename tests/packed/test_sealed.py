"""Files whose digest is right and whose contents are not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.packed.described import NETWORKS, described
from tests.packed.networks import make_network, make_packed, same
from tnacli.errors import FileFormatError
from tnacli.packed import container
from tnacli.packed.document import seal
from tnacli.packed.file import digest_of, from_bytes, to_bytes
from tnacli.packed.network import PackedNetwork

Change = Callable[[dict[str, Any], container.Arrays], object]


def resealed(data: bytes, change: Change) -> bytes:
    """The file `data` with its document and arrays changed in place by `change`, and a digest that matches
    again.
    """
    text, arrays = container.read(io.BytesIO(data), len(data), "")
    document = json.loads(text)
    del document["sha256"]
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(document, arrays)
    body = json.dumps(document)[:-1]
    return container.to_bytes(seal(body, digest_of(body, arrays)), arrays)


def test_a_resealed_file_is_a_file(packed: PackedNetwork, packed_bytes: bytes) -> None:
    # The tests below change one thing and seal again; this shows that sealing is not what they are refused
    # for.
    assert same(from_bytes(resealed(packed_bytes, lambda document, arrays: None)), packed)


def _set(*keys: str | int, to: object) -> Change:
    def change(document: dict[str, Any], arrays: container.Arrays) -> None:
        part: Any = document
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = to

    return change


def _three_channels(document: dict[str, Any], arrays: container.Arrays) -> None:
    document["input"] |= {"channels": 3, "mean": None, "std": None}


def _invalid_codes(document: dict[str, Any], arrays: container.Arrays) -> None:
    arrays["conv2.weight"][1, 2] = 0b11000000


def _filled_padding(document: dict[str, Any], arrays: container.Arrays) -> None:
    arrays["conv2.weight"][3, -1] = 0b00101010  # 54 weights: the upper two of the last byte's digits are left over


def _not_a_number(document: dict[str, Any], arrays: container.Arrays) -> None:
    arrays["fc1.scale"][0] = np.nan


def _missing(document: dict[str, Any], arrays: container.Arrays) -> None:
    del arrays["readout.bias"]


def _extra(document: dict[str, Any], arrays: container.Arrays) -> None:
    arrays["aaa"] = np.zeros(3, dtype=np.uint8)


def _other_shape(document: dict[str, Any], arrays: container.Arrays) -> None:
    arrays["fc2.shift"] = arrays["fc2.shift"][:-1]


def _other_type(document: dict[str, Any], arrays: container.Arrays) -> None:
    arrays["fc2.weight"] = arrays["fc2.weight"].astype(np.float32)


CASES = [
    (_set("format", to="other"), "its format is not tnacli-packed"),
    (_set("version", to=5), "packed file of version 5; this tnacli reads versions 1, 2, 3 and 4"),
    (_set("version", to=3), "its layers are those of version 1, not 3"),
    (_set("version", to=2), "its layers are those of version 1, not 2"),
    (_set("layers", 1, "stride", to=1), "layers have no stride in version 1"),
    (_set("layers", 1, "shortcut", to=None), "layers have no shortcut in version 1"),
    (_set("layers", 1, "neuron", to=None), "layers have no neuron in version 1"),
    (_set("layers", 1, "stride", to=2), "its layers are those of version 2, not 1"),
    (_set("version", to=True), "packed file of version True"),
    (_set("version", to=1.0), "packed file of version 1.0"),
    (_set("version", to=[1]), "packed file of version .1."),
    (_set("timesteps", to=0), "timesteps: "),
    (_set("timesteps", to=True), "timesteps: Input should be a valid integer"),
    (_set("timesteps", to=4.0), "timesteps: Input should be a valid integer"),
    (_set("timesteps", to="4"), "timesteps: Input should be a valid integer"),
    (_set("input", "channels", to=2.0), "input.channels: Input should be a valid integer"),
    (_set("input", "size", to=[9, 8.0]), "input.size.1: Input should be a valid integer"),
    (_set("input", "size", to="98"), "input.size: Input should be a valid array"),
    (_set("input", "mean", to=[0.5, False]), "input.mean.1: Input should be a valid number"),
    (_set("input", "kind", to=True), "input.kind: Input should be 'images' or 'events'"),
    (_set("neuron", "decay", to=True), "neuron.decay: Input should be a valid number"),
    (_set("neuron", "decay", to="0.5"), "neuron.decay: Input should be a valid number"),
    (_set("layers", 1, "binary", to=0), "layers.1.binary: Input should be a valid boolean"),
    (_set("layers", 1, "binary", to="false"), "layers.1.binary: Input should be a valid boolean"),
    (_set("layers", 1, "pool", to=True), "layers.1.pool: Input should be a valid integer"),
    (_set("layers", 1, "pool", to=2.0), "layers.1.pool: Input should be a valid integer"),
    (_set("layers", 1, "pool", to="2"), "layers.1.pool: Input should be a valid integer"),
    (_set("layers", 1, "name", to=True), "layers.1.name: Input should be a valid string"),
    (_set("layers", 1, "weight", to=[9, 6, 3, True]), "layers.1.weight.*: Input should be a valid integer"),
    (_set("layers", 1, "weight", to=[9, 6, 3.0, 3]), "layers.1.weight.*: Input should be a valid integer"),
    (_set("origin", "seed", to=False), "origin.seed: Input should be a valid integer"),
    (_set("origin", "seed", to=0.0), "origin.seed: Input should be a valid integer"),
    (_set("origin", "accuracy", to=True), "origin.accuracy: Input should be a valid number"),
    (_set("origin", "test_samples", to=1.0), "origin.test_samples: Input should be a valid integer"),
    (_set("timesteps", to=1.5), "timesteps: "),
    (_set("timesteps", to=10**12), "timesteps: "),
    (_set("neuron", "threshold", to=-1.0), "neuron.threshold: "),
    (_set("neuron", "threshold", to=1e-60), "neuron.threshold: "),
    (_set("neuron", "decay", to=1.01), "neuron.decay: "),
    (_set("neuron", "extra", to=1), "neuron.extra: Extra inputs"),
    (_set("neuron", "subtract", to=None), "neurons have no subtract in version 1"),
    (_set("neuron", "subtract", to=1.0), "its layers are those of version 3, not 1"),
    (_set("neuron", "subtract", to=0.0), "neuron.subtract: "),
    (_set("neuron", "most_spikes", to=2), "more than one spike in a timestep needs a subtract"),
    (_set("neuron", "lowest", to=0.5), "neuron.lowest: "),
    (_set("neuron", "lowest", to=-0.5), "its layers are those of version 3, not 1"),
    (_set("surprise", to=1), "surprise: Extra inputs"),
    (_set("layers", 1, "encoding", to="ternary9"), "layers.1.encoding: "),
    (_set("layers", 1, "encoding", to="fp32"), "layer conv2: the first layer is fp32"),
    (_set("layers", 0, "encoding", to="ternary2"), "layer conv1: the first layer is fp32"),
    (_set("layers", 0, "binary", to=True), "layer conv1: fp32 weights are not binary"),
    (_set("layers", 1, "binary", to=True), "layer conv2: .* weights are zero, but it is called binary"),
    (_set("layers", 1, "pool", to=12), "layers.1.pool: "),
    (_set("layers", 1, "pool", to=3), "its layers are those of version 4, not 1"),
    (_set("layers", 1, "pool", to=8), "layer conv2: pool 8 leaves nothing of 4x4"),
    (_set("layers", 2, "pool", to=2), "layer fc1: fully connected neurons are not pooled"),
    (
        _set("layers", 1, "weight", to=[9, 7, 3, 3]),
        "layer conv2: weight .* does not fit inputs of .6, 4, 4.",
    ),
    (_set("layers", 1, "weight", to=[9, 6, 3, 5]), "layer conv2: a kernel of 3x5"),
    (_set("layers", 1, "weight", to=[9, 6, 2, 2]), "layer conv2: a kernel of 2x2"),
    (_set("layers", 2, "weight", to=[17, 37]), "layer fc1: weight .* does not fit"),
    (_set("layers", 1, "weight", to=[10**30, 6, 3, 3]), "layers.1.weight"),
    (_set("layers", 1, "name", to="conv1"), "two layers have the same name"),
    (_set("layers", 1, "name", to="readout"), "two layers have the same name"),
    (_set("layers", 1, "name", to="../evil"), "layers.1.name: "),
    (_set("layers", to=[]), "layers: "),
    (_set("readout", "weight", to=[5, 8]), "readout: weight is .5, 8., but 5 labels and 7 features"),
    (_set("labels", to=["a"]), "readout: weight is"),
    (_set("labels", to=[1, 2, 3, 4, 5]), "labels.0: "),
    (_three_channels, "layer conv1: weight"),
    (_set("input", "size", to=[90, 80]), "layer fc1: weight"),
    (_set("input", "size", to=[2**40, 2**40]), "input.size.0"),
    (_set("input", "std", to=None), "input: mean and std belong together"),
    (_set("input", "std", to=[1.0, 0.0]), "input.std.1"),
    (_set("input", "mean", to=[1.0]), "one value for each of the 2 channels"),
    (_set("input", "kind", to="events"), "event frames are counts and are not normalised"),
    (_set("origin", "accuracy", to=101), "origin.accuracy"),
    (_invalid_codes, "layer conv2: byte 2 of row 1 is 192"),
    (_filled_padding, "layer conv2: the padding at the end of row 3"),
    (_not_a_number, "tensor 'fc1.scale' holds a NaN"),
    (_missing, "tensor 'readout.bias' is missing"),
    (_extra, "tensor 'aaa' is in no layer"),
    (_other_shape, "tensor 'fc2.shift' is float32 "),
    (_other_type, "tensor 'fc2.weight' is float32 "),
]


@pytest.mark.parametrize(("change", "what"), CASES)
def test_a_sealed_file_must_make_sense_too(packed_bytes: bytes, change: Change, what: str) -> None:
    with pytest.raises(FileFormatError, match=f"^net.tna: .*{what}"):
        from_bytes(resealed(packed_bytes, change), "net.tna")


CONVOLUTION = {"weight": [9, 6, 1, 1], "stride": 2, "encoding": "ternary2", "binary": False}


@pytest.fixture(scope="session")
def residual() -> bytes:
    """Layers conv1, conv2, conv3 (identity from conv1), conv4, conv5 (convolution from conv3), fc1."""
    return to_bytes(make_packed(make_network("6C3-R6-R9/2-7FC")))


def _no_scale(document: dict[str, Any], arrays: container.Arrays) -> None:
    del arrays["conv5.shortcut.scale"]


RESIDUAL_CASES = [
    (_set("version", to=1), "its layers are those of version 2, not 1"),
    (_set("version", to=2.0), "packed file of version 2.0"),
    (_set("layers", 3, "stride", to=True), "layers.3.stride: Input should be a valid integer"),
    (_set("layers", 3, "stride", to=2.0), "layers.3.stride: Input should be a valid integer"),
    (
        _set("layers", 4, "shortcut", "convolution", "stride", to=2.0),
        "layers.4.shortcut.convolution.stride: Input should be a valid integer",
    ),
    (
        _set("layers", 4, "shortcut", "convolution", "stride", to=True),
        "layers.4.shortcut.convolution.stride: Input should be a valid integer",
    ),
    (
        _set("layers", 4, "shortcut", "convolution", "binary", to=0),
        "layers.4.shortcut.convolution.binary: Input should be a valid boolean",
    ),
    (_set("layers", 3, "stride", to=3), "layers.3.stride: "),
    (
        _set("layers", 3, "stride", to=1),
        "layer conv5, shortcut: gives .9, 5, 4., which does not fit currents of .9, 9, 8.",
    ),
    (_set("layers", 5, "stride", to=2), "layer fc1: fully connected neurons have no stride"),
    (
        _set("layers", 2, "shortcut", "source", to="conv3"),
        "layer conv3, shortcut: there is no layer conv3 before it",
    ),
    (
        _set("layers", 2, "shortcut", "source", to="conv9"),
        "layer conv3, shortcut: there is no layer conv9 before it",
    ),
    (_set("layers", 2, "shortcut", to={"source": "conv1"}), "layers.2.shortcut.convolution: Field required"),
    (
        _set("layers", 4, "shortcut", "convolution", to=None),
        "layer conv5, shortcut: gives .6, 9, 8., which does not",
    ),
    (_set("layers", 4, "shortcut", "convolution", "stride", to=1), "layer conv5, shortcut: gives .9, 9, 8."),
    (_set("layers", 4, "shortcut", "convolution", "encoding", to="fp32"), "layers.4.shortcut.convolution.encoding"),
    (_set("layers", 4, "shortcut", "convolution", "weight", to=[9, 5, 1, 1]), "layer conv5, shortcut: weight"),
    (_set("layers", 4, "shortcut", "convolution", "weight", to=[9, 6, 2, 2]), "a kernel of 2x2"),
    (_set("layers", 4, "shortcut", "convolution", "binary", to=True), "layer conv5.shortcut: .* weights are zero"),
    (_set("layers", 5, "shortcut", to={"source": "conv5", "convolution": None}), "layer fc1, shortcut: gives"),
    (_set("layers", 2, "shortcut", "convolution", to=CONVOLUTION), "layer conv3, shortcut: gives .9, 5, 4."),
    (_no_scale, "tensor 'conv5.shortcut.scale' is missing"),
]


@pytest.mark.parametrize(("change", "what"), RESIDUAL_CASES)
def test_a_residual_network_must_fit_together(residual: bytes, change: Change, what: str) -> None:
    assert from_bytes(resealed(residual, lambda document, arrays: None)).about.version == 2
    with pytest.raises(FileFormatError, match=f"^net.tna: .*{what}"):
        from_bytes(resealed(residual, change), "net.tna")


def _nine_outputs_in_two_groups(document: dict[str, Any], arrays: container.Arrays) -> None:
    document["layers"][1] |= {"groups": 2, "weight": [9, 3, 1, 1]}


PAIRS = {"of": "spikes", "size": 2, "stride": 2, "padding": 0}
SEVERAL = {"decay": 0.5, "threshold": 1.0, "subtract": 1.0, "lowest": None}
DESCRIBED_CASES = [
    ("maxima of spikes", _set("version", to=2), "its layers are those of version 3, not 2"),
    ("maxima of spikes", _set("layers", 1, "max_pool", to={**PAIRS, "size": 1}), "layers.1.max_pool.size: "),
    ("maxima of spikes", _set("layers", 1, "max_pool", to={**PAIRS, "size": 9}), "layers.1.max_pool.size: "),
    ("maxima of spikes", _set("layers", 1, "max_pool", to={**PAIRS, "stride": 0}), "layers.1.max_pool.stride: "),
    (
        "maxima of spikes",
        _set("layers", 1, "max_pool", to={**PAIRS, "padding": 2}),
        "a padding of 2 is more than half of 2",
    ),
    ("maxima of spikes", _set("layers", 1, "max_pool", to={**PAIRS, "of": "sums"}), "layers.1.max_pool.of: "),
    (
        "maxima of spikes",
        _set("layers", 1, "max_pool", to={**PAIRS, "size": 6}),
        "layer conv2: pool 6 leaves nothing of 4x4",
    ),
    ("maxima of spikes", _set("layers", 1, "pool", to=2), "layer conv2: it pools by averages and by maxima"),
    ("maxima of spikes", _set("layers", 2, "max_pool", to=PAIRS), "layer fc3: fully connected neurons are not pooled"),
    ("maxima of spikes", _set("layers", 1, "max_pool", to=None), "layer fc3: weight"),
    ("maxima of spikes", _set("layers", 1, "neuron", to={"decay": 0.5}), "layers.1.neuron.threshold: Field required"),
    ("maxima of spikes", _set("layers", 1, "neuron", to={"decay": 1.5, "threshold": 1.0}), "layers.1.neuron.decay: "),
    ("no padding", _set("layers", 1, "padding", to=-1), "layers.1.padding: "),
    ("no padding", _set("layers", 0, "padding", to=5), "layer conv1: a padding of 5 does not fit a kernel of 5 on 9x8"),
    ("no padding", _set("layers", 3, "padding", to=1), "layer fc4: fully connected neurons have no padding"),
    (
        "no padding",
        _set("layers", 3, "groups", to=2),
        "layer fc4: fully connected neurons have no padding and no groups",
    ),
    ("no padding", _set("layers", 1, "padding", to=2), "layer fc4: weight"),
    ("no padding", _set("layers", 1, "groups", to=0), "layers.1.groups: "),
    (
        "no padding",
        _set("layers", 1, "groups", to=2),
        "layer conv2: weight .* in 2 groups does not fit inputs of .6, 5, 4.",
    ),
    ("no padding", _set("layers", 1, "weight", to=[9, 3, 3, 3]), "layer conv2: weight"),
    ("no padding", _set("input", "size", to=[4, 8]), "layer conv1: a padding of 0 does not fit a kernel of 5 on 4x8"),
    (
        "several spikes",
        _set("layers", 0, "neuron", to={**SEVERAL, "most_spikes": 32}),
        "layer conv1: 128 spikes",
    ),
    (
        "several spikes",
        _set("layers", 0, "neuron", to={**SEVERAL, "most_spikes": 128}),
        "layers.0.neuron.most_spikes: ",
    ),
    (
        "maxima of spikes",
        _set("layers", 0, "neuron", to={**SEVERAL, "most_spikes": 2}),
        "layer conv1: maximum pooling is",
    ),
    ("groups", _nine_outputs_in_two_groups, "layer conv2: 9 outputs are no 2 equal groups"),
    ("sums of spikes", _set("version", to=3), "its layers are those of version 4, not 3"),
    ("sums of spikes", _set("layers", 1, "pool", to=3), "layer conv2: a pool of 3 is of the last layer alone"),
    ("sums of spikes", _set("layers", 3, "source", to="conv9"), "layer conv4: there is no layer conv9 before it"),
    ("sums of spikes", _set("layers", 3, "source", to="conv4"), "layer conv4: there is no layer conv4 before it"),
    ("sums of spikes", _set("layers", 3, "source", to="conv3"), "layer conv4: weight"),
    ("sums of spikes", _set("layers", 3, "added", to="conv4"), "layer conv4, added: there is no layer conv4 before it"),
    (
        "sums of spikes",
        _set("layers", 3, "added", to="conv2"),
        "layer conv4, added: spikes of conv2, .6, 5, 4. over 1,",
    ),
    ("sums of spikes", _set("layers", 3, "added", to=None), "layer conv3: nothing takes its spikes"),
    (
        "sums of spikes",
        _set("layers", 1, "max_pool", to=PAIRS),
        "layer conv2, added: spikes of conv1, .* without maximum",
    ),
    (
        "sums of several spikes, skipped",
        _set("layers", 3, "source", to="conv3"),
        "layer fc4: fully connected neurons take",
    ),
    (
        "sums of several spikes, skipped",
        _set("layers", 3, "added", to="conv3"),
        "layer fc4: fully connected neurons take",
    ),
    (
        "sums of several spikes, skipped",
        _set("layers", 0, "neuron", to={**SEVERAL, "most_spikes": 127}),
        "layer conv2: 128 spikes in a square are more than 127",
    ),
]


@pytest.mark.parametrize(("name", "change", "what"), DESCRIBED_CASES)
def test_what_no_layout_has_must_make_sense(name: str, change: Change, what: str) -> None:
    data = to_bytes(described(NETWORKS[name]))
    assert from_bytes(resealed(data, lambda document, arrays: None)).about.version >= 3
    with pytest.raises(FileFormatError, match=f"^net.tna: .*{what}"):
        from_bytes(resealed(data, change), "net.tna")
