"""Whatever happens to a checkpoint: it is refused with a FileFormatError, or holds what it held before.

By hand, with the memory of the process limited: `python -m tests.training.test_checkpoint_fuzz 10000`.
"""

from __future__ import annotations

import io
import json
import random
import resource
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import tiny_tna_t_snn
from tnacli.errors import FileFormatError
from tnacli.experiment import Experiment, Outcome
from tnacli.recipe.identity import Run
from tnacli.training.checkpoint import FORMAT, VERSION, digest_of, load_checkpoint, restore_network
from tnacli.training.torch_file import Malformed, read_torch_file


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """The file with some bytes changed, inserted, removed, copied, or cut off at the end."""
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 6))):
        # The ends hold the structure: the description first, the archive's directory last.
        near = rng.random()
        place = rng.randrange(len(mutated))
        if near < 0.7:
            place = (
                rng.randrange(min(4000, len(mutated))) if near < 0.35 else -1 - rng.randrange(min(2500, len(mutated)))
            )
            place %= len(mutated)
        match rng.randrange(6):
            case 0:
                mutated[place] ^= 1 << rng.randrange(8)
            case 1:
                mutated[place] = rng.randrange(256)
            case 2:
                del mutated[place : place + rng.randrange(1, 9)]
            case 3:
                mutated[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                other = rng.randrange(len(mutated))
                mutated[place : place + 8] = mutated[other : other + 8]
            case _:
                if rng.random() < 0.3:
                    del mutated[place + 1 :]
        if len(mutated) < 10:
            break
    return bytes(mutated)


def mutated_description(data: bytes, rng: random.Random) -> bytes:
    """The archive made anew, with every checksum of its own right, around a changed pickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(made, "w") as archive:
        for item in whole.infolist():
            content = bytearray(whole.read(item))
            if item.filename.endswith("data.pkl"):
                for _ in range(rng.choice((1, 1, 2, 5))):
                    place = rng.randrange(len(content))
                    match rng.randrange(3):
                        case 0:
                            content[place] = rng.choice(b"}(]).KJMXhqcQRtu\x85\x86\x87\x88\x89\x80ilbo0Njr\x93\x94")
                        case 1:
                            content[place] ^= 1 << rng.randrange(8)
                        case _:
                            content[place : place + 1] = rng.randbytes(rng.randrange(3))
            archive.writestr(item.filename, bytes(content))
    return made.getvalue()


def fuzz(data: bytes, rounds: int, seed: int, folder: Path) -> Counter[str]:
    """Read `rounds` mutations of the checkpoint `data`; what became of them. Anything but a refusal or no change fails."""
    rng, path, outcomes = random.Random(seed), folder / "mutated.pt", Counter[str]()
    path.write_bytes(data)
    digest = load_checkpoint(path).digest
    for number in range(rounds):
        path.write_bytes(mutated_bytes(data, rng) if rng.random() < 0.6 else mutated_description(data, rng))
        try:
            found = load_checkpoint(path)
        except FileFormatError:
            outcomes["refused"] += 1
        else:
            assert found.digest == digest, f"mutation {number} of seed {seed} changed the contents"
            outcomes["unchanged"] += 1
    return outcomes


def test_mutations_are_refused_or_harmless(trained: Outcome, tmp_path: Path) -> None:
    assert fuzz(trained.checkpoint.read_bytes(), 400, 0, tmp_path)["refused"] > 200


def test_descriptions_under_a_new_seal_are_used_or_refused(trained: Outcome, tmp_path: Path) -> None:
    """Whoever can compute a checksum can still not make us fail, or build more than the tensors are."""
    whole, rng, path = load_checkpoint(trained.checkpoint), random.Random(2), tmp_path / "sealed.pt"
    outcomes = Counter[str]()
    for _ in range(250):
        metadata = whole.metadata.model_dump(mode="json")
        _change(metadata, rng)
        text = json.dumps(metadata)
        content = {"format": FORMAT, "version": VERSION, "about": text, "tensors": whole.tensors}
        torch.save({**content, "sha256": digest_of(text.encode(), whole.tensors)}, path)
        try:
            restore_network(load_checkpoint(path))
            outcomes["used"] += 1
        except FileFormatError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes


def _change(value: Any, rng: random.Random) -> None:
    """Replace or remove one value, somewhere."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.7:
            value = value[key]
            continue
        if rng.random() < 0.3:
            del value[key]
        else:
            value[key] = rng.choice([None, -1, 0, 3, 1e9, 1 << 62, "x", "9999999C3", [], {}, [1], True, 0.25])
        return


@given(st.binary(max_size=300))
def test_any_bytes_for_a_description_are_refused(tmp_path_factory: pytest.TempPathFactory, description: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", description)
    with pytest.raises(FileFormatError):
        load_checkpoint(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.text(max_size=20) | st.floats(allow_nan=False),
    lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
shapes = st.lists(st.integers(0, 4), max_size=4)
types = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])


@given(values, st.lists(st.tuples(shapes, types), max_size=4))
def test_what_torch_saves_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, value: object, tensors: list[tuple[list[int], torch.dtype]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.pt"
    made = {str(n): torch.randint(0, 2, shape).to(dtype) for n, (shape, dtype) in enumerate(tensors)}
    torch.save({"value": value, "tensors": made}, path)
    found = read_torch_file(path)
    assert isinstance(found, dict)
    assert found["value"] == value
    assert found["tensors"].keys() == made.keys()
    for name, tensor in made.items():
        assert found["tensors"][name].dtype == tensor.dtype
        assert torch.equal(found["tensors"][name], tensor)


def rewritten(source: Path, target: Path, **changes: bytes) -> None:
    """A copy of an archive with other bytes for some of its records, under right checksums."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as archive:
        for item in whole.infolist():
            archive.writestr(item.filename, changes.get(item.filename.rpartition("/")[2], whole.read(item)))


def test_shapes_larger_than_the_file_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """A terabyte in shapes: by a stride of 0 over one number, and by a record that is said to be longer than it is."""
    path, hostile = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, path)
    with pytest.raises(Malformed, match="not in order"):
        read_torch_file(path)
    torch.save({"a": torch.zeros(70000)}, path)
    with zipfile.ZipFile(path) as archive:
        description = archive.read("a/data.pkl")
    longer = description.replace(b"J" + (70000).to_bytes(4, "little"), b"J" + (0x7FFFFFFF).to_bytes(4, "little"))
    assert longer != description
    rewritten(path, hostile, **{"data.pkl": longer})
    with pytest.raises(Malformed, match="not as many as its shape says"):
        read_torch_file(hostile)


def test_two_tensors_may_not_share_their_bytes(tmp_path: Path) -> None:
    whole = torch.zeros(100)
    torch.save({"a": whole, "b": whole.view(10, 10)}, tmp_path / "a.pt")
    with pytest.raises(Malformed, match="belong to two"):
        read_torch_file(tmp_path / "a.pt")


def test_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    """Many entries of the archive's directory over the same bytes would add up to any size."""
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(1000))
        item = archive.infolist()[1]
        for number in range(1, 50):
            other = zipfile.ZipInfo(f"archive/data/{number}")
            for name in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(other, name, getattr(item, name))
            archive.filelist.append(other)
    with pytest.raises(Malformed, match="larger than the file"):
        read_torch_file(path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = Experiment(Path(place)).execute(Run("tiny", "tna_t_snn", 0, tiny_tna_t_snn()))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        chosen = random.randrange(1 << 30)
        print(f"seed {chosen}:", dict(fuzz(made.checkpoint.read_bytes(), int(sys.argv[1]), chosen, Path(place))))
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
        print(f"peak memory grew by {more / 1024:.1f} MiB for files of {made.checkpoint.stat().st_size / 1024:.0f} KiB")
