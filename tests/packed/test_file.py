from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.packed.networks import ORIGIN, make_network, make_packed, same
from tnacli.errors import FileFormatError
from tnacli.packed.document import Document, body_of
from tnacli.packed.file import digest, from_bytes, read_packed, to_bytes, write_packed
from tnacli.packed.network import PackedNetwork
from tnacli.recipe.layout import layer_shapes


def test_what_was_written_is_read(packed: PackedNetwork, tmp_path: Path) -> None:
    path = tmp_path / "net.tna"
    write_packed(path, packed)
    again = read_packed(path)
    assert same(again, packed)
    assert digest(again) == digest(packed)
    assert again.about.origin == ORIGIN
    assert again.about.labels[0] == "class 0 é"


def test_version_2_is_written_only_where_something_of_it_is_needed(packed: PackedNetwork) -> None:
    in_version_1 = {"name", "kind", "weight", "pool", "encoding", "binary"}
    plain = json.loads(body_of(packed.about) + "}")
    assert plain["version"] == 1
    assert all(layer.keys() == in_version_1 for layer in plain["layers"])
    for layout in ("6C3/2-5C3-7FC", "6C3-R6-7FC"):
        newer = json.loads(body_of(make_packed(make_network(layout)).about) + "}")
        assert newer["version"] == 2
        assert all(layer.keys() == in_version_1 | {"stride", "shortcut"} for layer in newer["layers"])


def test_the_same_network_gives_the_same_bytes(packed: PackedNetwork) -> None:
    assert len({to_bytes(packed) for _ in range(8)}) == 1


@pytest.mark.parametrize("old", ["threshold:1.0", "decay:0.5", "leak:0.5", "seed:0", "accuracy:92.5", "class 1"])
def test_an_altered_document_is_noticed(packed_bytes: bytes, old: str) -> None:
    escaped = old.replace(":", '\\":').encode()
    assert escaped in packed_bytes
    altered = packed_bytes.replace(escaped, escaped[:-1] + b"7")
    with pytest.raises(FileFormatError, match="altered, its contents do not match its SHA-256"):
        from_bytes(altered)


def test_an_altered_tensor_is_noticed(packed: PackedNetwork, packed_bytes: bytes) -> None:
    start = len(packed_bytes) - sum(array.nbytes for array in packed.arrays.values())
    for place in range(start, len(packed_bytes), 97):
        altered = bytearray(packed_bytes)
        altered[place] ^= 1
        with pytest.raises(FileFormatError, match="altered"):
            from_bytes(bytes(altered))


def test_tensors_cannot_change_places(packed_bytes: bytes) -> None:
    scale, shift = b'"conv1.scale":', b'"conv1.shift":'
    held = b'"conv1.@@@@@":'
    swapped = packed_bytes.replace(scale, held).replace(shift, scale).replace(held, shift)
    assert len(swapped) == len(packed_bytes)
    assert swapped != packed_bytes
    with pytest.raises(FileFormatError, match="altered"):
        from_bytes(swapped)


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
    document = Document.model_validate(about)
    arrays: dict[str, Any] = {}
    for name, spec in document.steps().weights.items():
        fp32, constants = spec.encoding == "fp32", np.ones(spec.weight[0], dtype=np.float32)
        stored = np.full(spec.stored, 0 if fp32 else zeros, dtype=np.float32 if fp32 else np.uint8)
        arrays |= {f"{name}.weight": stored, f"{name}.scale": constants, f"{name}.shift": constants}
    arrays["readout.weight"] = np.zeros(shapes[-1].weight, dtype=np.float32)
    arrays["readout.bias"] = np.zeros(10, dtype=np.float32)
    network = PackedNetwork(document, arrays)
    write_packed(tmp_path / "full.tna", network)
    assert os.path.getsize(tmp_path / "full.tna") <= most_mb * 1e6
    assert same(read_packed(tmp_path / "full.tna"), network)
