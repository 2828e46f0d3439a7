from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.packed.networks import ORIGIN, make_network, make_packed
from tnacli.errors import FileFormatError
from tnacli.packed import container
from tnacli.packed.document import Document, seal
from tnacli.packed.file import _digest, digest, from_bytes, read_packed, to_bytes, write_packed
from tnacli.packed.model import PackedNetwork
from tnacli.recipe.layout import layer_shapes

Change = Callable[[dict[str, Any], container.Arrays], object]


def resealed(data: bytes, change: Change) -> bytes:
    """The file `data` with its document and arrays changed in place by `change`, and a digest that matches again."""
    text, arrays = container.read(io.BytesIO(data), len(data), "")
    document = json.loads(text)
    del document["sha256"]
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(document, arrays)
    body = json.dumps(document)[:-1]
    return container.to_bytes(seal(body, _digest(body, arrays)), arrays)


def same(one: PackedNetwork, other: PackedNetwork) -> bool:
    ours, theirs = one.arrays(), other.arrays()
    return one.about == other.about and ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and np.array_equal(ours[name], theirs[name]) for name in ours
    )


def test_what_was_written_is_read(packed: PackedNetwork, tmp_path: Path) -> None:
    path = tmp_path / "net.tna"
    write_packed(path, packed)
    again = read_packed(path)
    assert same(again, packed)
    assert digest(again) == digest(packed)
    assert again.about.origin == ORIGIN
    assert again.about.labels[0] == "class 0 é"


def test_the_same_network_gives_the_same_bytes(packed: PackedNetwork) -> None:
    assert len({to_bytes(packed) for _ in range(8)}) == 1


def test_a_resealed_file_is_a_file(packed: PackedNetwork, packed_bytes: bytes) -> None:
    # The tests below change one thing and seal again; this shows that sealing is not what they are refused for.
    assert same(from_bytes(resealed(packed_bytes, lambda document, arrays: None)), packed)


@pytest.mark.parametrize("old", [b'threshold\\":1.0', b'decay\\":0.5', b"class 1", b'leak\\":0.5', b'"seed\\":0', b"92.5"])
def test_an_altered_document_is_noticed(packed_bytes: bytes, old: bytes) -> None:
    assert old.replace(b'"seed', b"seed") in packed_bytes
    old = old.replace(b'"seed', b"seed")
    altered = packed_bytes.replace(old, old[:-1] + (b"7" if old[-1:].isdigit() else b"0"))
    with pytest.raises(FileFormatError, match="altered, its contents do not match its SHA-256"):
        from_bytes(altered)


def test_an_altered_tensor_is_noticed(packed: PackedNetwork, packed_bytes: bytes) -> None:
    start = len(packed_bytes) - sum(array.nbytes for array in packed.arrays().values())
    for place in range(start, len(packed_bytes), 97):
        altered = bytearray(packed_bytes)
        altered[place] ^= 1
        with pytest.raises(FileFormatError, match="altered"):
            from_bytes(bytes(altered))


def test_tensors_cannot_change_places(packed_bytes: bytes) -> None:
    scale, shift = b'"conv1.scale":', b'"conv1.shift":'
    swapped = packed_bytes.replace(scale, b"?").replace(shift, scale).replace(b"?", shift)
    assert len(swapped) == len(packed_bytes)
    assert swapped != packed_bytes
    with pytest.raises(FileFormatError, match="altered"):
        from_bytes(swapped)


def _set(*keys: str | int, to: object) -> Change:
    def change(document: dict[str, Any], arrays: container.Arrays) -> None:
        part: Any = document
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = to

    return change


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


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_set("format", to="other"), "its format is not tnacli-packed"),
        (_set("version", to=2), "packed file of version 2; this tnacli reads version 1"),
        (_set("version", to=True), "packed file of version True"),
        (_set("timesteps", to=0), "timesteps: "),
        (_set("timesteps", to=1.5), "timesteps: "),
        (_set("timesteps", to=10**12), "timesteps: "),
        (_set("neuron", "threshold", to=-1.0), "neuron.threshold: "),
        (_set("neuron", "threshold", to=1e-60), "neuron.threshold: "),
        (_set("neuron", "decay", to=1.01), "neuron.decay: "),
        (_set("neuron", "extra", to=1), "neuron.extra: Extra inputs"),
        (_set("surprise", to=1), "surprise: Extra inputs"),
        (_set("layers", 1, "encoding", to="ternary9"), "layers.1.encoding: "),
        (_set("layers", 1, "encoding", to="fp32"), "layer conv2: the first layer is fp32"),
        (_set("layers", 0, "encoding", to="ternary2"), "layer conv1: the first layer is fp32"),
        (_set("layers", 0, "binary", to=True), "layer conv1: fp32 weights are not binary"),
        (_set("layers", 1, "binary", to=True), "layer conv2: .* weights are zero, but it is called binary"),
        (_set("layers", 1, "pool", to=3), "layers.1.pool: "),
        (_set("layers", 1, "pool", to=8), "layer conv2: pool 8 leaves nothing of 4x4"),
        (_set("layers", 2, "pool", to=2), "layer fc1: fully connected neurons are not pooled"),
        (_set("layers", 1, "weight", to=[9, 7, 3, 3]), "layer conv2: weight .* does not fit inputs of .6, 4, 4."),
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
        (_set("input", "channels", to=3), "layer conv1: weight"),
        (_set("input", "size", to=[90, 80]), "layer fc1: weight"),
        (_set("input", "size", to=[2**40, 2**40]), "input.size.0"),
        (_set("input", "std", to=None), "input: Value error, mean and std belong together"),
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
    ],
)
def test_a_sealed_file_must_make_sense_too(packed_bytes: bytes, change: Change, what: str) -> None:
    with pytest.raises(FileFormatError, match=f"^net.tna: .*{what}"):
        from_bytes(resealed(packed_bytes, change), "net.tna")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "tnacli-packed", "version": 1}', '"\ud800"'])
def test_other_texts_are_no_documents(text: str) -> None:
    raw = json.dumps({"__metadata__": {"tnacli": text}}).encode()
    with pytest.raises(FileFormatError, match="its description cannot be read"):
        from_bytes(len(raw).to_bytes(8, "little") + raw)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.tna", tmp_path):
        with pytest.raises(FileFormatError, match="no such file; packed files are made by `tna export"):
            read_packed(path)


def test_a_file_that_cannot_be_read(packed_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FileFormatError, match="cannot be read: Permission denied"):
        read_packed(packed_file)


def test_every_truncation_is_refused(packed_bytes: bytes) -> None:
    for kept in [*range(0, len(packed_bytes), 41), len(packed_bytes) - 1]:
        with pytest.raises(FileFormatError):
            from_bytes(packed_bytes[:kept])


def test_reading_takes_little_more_memory_than_the_file(packed: PackedNetwork) -> None:
    import tracemalloc

    wide = make_packed(make_network("4C3-2048FC-1024FC", timesteps=1))
    data = to_bytes(wide)
    assert len(data) > 1 << 19
    tracemalloc.start()
    try:
        from_bytes(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(data)


def fuzz(data: bytes, rounds: int, seed: int = 0) -> tuple[int, int]:
    """Read `rounds` mutations of the file `data`: how many were refused, and how many left the network as it was.

    Any other exception, or a network that is not that of `data`, fails. By hand:
    `python -m tests.packed.test_file 10000`.
    """
    rng, original = random.Random(seed), from_bytes(data)
    refused = harmless = 0
    for number in range(rounds):
        mutated = _mutated(data, rng)
        try:
            found = from_bytes(mutated)
        except FileFormatError:
            refused += 1
        else:
            assert same(found, original), f"mutation {number} of seed {seed} changed the network"
            harmless += 1
    return refused, harmless


def _mutated(data: bytes, rng: random.Random) -> bytes:
    header = 8 + int.from_bytes(data[:8], "little")
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = rng.randrange(header if rng.random() < 0.7 else len(mutated)) % len(mutated)
        match rng.randrange(6):
            case 0:
                mutated[place] ^= 1 << rng.randrange(8)
            case 1:
                mutated[place] = rng.choice(b'0123456789"{}[]:,\\ \n-.eE\x00\xff')
            case 2:
                del mutated[place : place + rng.randrange(1, 9)]
            case 3:
                mutated[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                other = rng.randrange(header)
                mutated[place : place + 8] = data[other : other + 8]
            case _:
                del mutated[place + 1 :]
        if len(mutated) < header:
            break
    if rng.random() < 0.5:
        # With the right length of the header again, or most mutations of it would be found by that alone.
        mutated[:8] = max(0, header + len(mutated) - len(data) - 8).to_bytes(8, "little")
    return bytes(mutated)


def test_mutations_are_refused_or_harmless(packed_bytes: bytes) -> None:
    refused, _ = fuzz(packed_bytes, 400)
    assert refused > 300


def test_mutations_under_a_new_seal_are_read_or_refused(packed_bytes: bytes) -> None:
    rng = random.Random(1)
    text, arrays = container.read(io.BytesIO(packed_bytes), len(packed_bytes), "")
    body = text[:-77]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        changed = bytearray(body.encode())
        for _ in range(rng.randrange(3)):
            changed[rng.randrange(len(changed))] = rng.choice(b'0123456789"{}[]:,-.eE azx')
        new_body = changed.decode(errors="replace")
        new_arrays = {name: array.copy() for name, array in arrays.items()}
        if rng.random() < 0.5:
            chosen = new_arrays[rng.choice(sorted(new_arrays))].reshape(-1).view(np.uint8)
            chosen[rng.randrange(chosen.size)] = rng.randrange(256)
        try:
            from_bytes(container.to_bytes(seal(new_body, _digest(new_body, new_arrays)), new_arrays))
            outcomes["read"] += 1
        except FileFormatError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


@pytest.mark.parametrize(("encoding", "zeros", "most_mb"), [("ternary2", 0b01010101, 11.4), ("ternary5", 121, 9.2)])
def test_a_full_width_cifarnet_is_small(
    packed: PackedNetwork, encoding: str, zeros: int, most_mb: float, tmp_path: Path
) -> None:
    shapes = layer_shapes("cifarnet", width=1.0, channels=3, size=(32, 32), classes=10)
    about = packed.about.model_dump()
    about["layers"] = [
        {"name": s.name, "kind": s.kind, "weight": s.weight, "pool": s.pool, "encoding": encoding} for s in shapes[:-1]
    ]
    about["layers"][0]["encoding"] = "fp32"
    about["readout"]["weight"] = shapes[-1].weight
    about["labels"] = tuple(f"class {n}" for n in range(10))
    about["input"] |= {"channels": 3, "size": (32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    about["layers"] = tuple(about["layers"])
    network = dataclasses.replace(
        packed,
        about=Document.model_validate(about),
        readout_weight=np.zeros(shapes[-1].weight, dtype=np.float32),
        readout_bias=np.zeros(10, dtype=np.float32),
    )
    layers = []
    for facts in network.about.layers:
        constants = np.ones(facts.weight[0], dtype=np.float32)
        fp32 = facts.encoding == "fp32"
        stored = np.full(facts.stored, 0 if fp32 else zeros, dtype=np.float32 if fp32 else np.uint8)
        layers.append(dataclasses.replace(packed.layers[0], facts=facts, stored=stored, scale=constants, shift=constants))
    network = dataclasses.replace(network, layers=tuple(layers))
    write_packed(tmp_path / "full.tna", network)
    assert os.path.getsize(tmp_path / "full.tna") <= most_mb * 1e6
    assert same(read_packed(tmp_path / "full.tna"), network)


if __name__ == "__main__":
    print(fuzz(to_bytes(make_packed(make_network())), int(sys.argv[1]), seed=random.randrange(1 << 30)))
