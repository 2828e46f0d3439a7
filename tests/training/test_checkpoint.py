"""Checkpoint files: damage is noticed, nothing in them is executed."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tnacli.errors import FileFormatError
from tnacli.experiment import Outcome
from tnacli.training.checkpoint import load_checkpoint, restore_network, save_checkpoint


def test_round_trip(tmp_path: Path, trained: Outcome) -> None:
    checkpoint = load_checkpoint(trained.checkpoint)
    save_checkpoint(tmp_path / "copy.pt", checkpoint)
    again = load_checkpoint(tmp_path / "copy.pt")
    assert again.metadata == checkpoint.metadata
    assert again.digest == checkpoint.digest
    assert checkpoint.settings == trained.run.settings
    assert restore_network(again).timesteps == 3


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/nonexistent-directory/owned"),))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_checkpoint_is_refused(tmp_path: Path, legacy: bool) -> None:
    mark = tmp_path / "owned"
    Evil.__reduce__ = lambda self: (Path.touch, (mark,))  # type: ignore[method-assign]
    path = tmp_path / "evil.pt"
    if legacy:
        path.write_bytes(pickle.dumps(Evil()))
    else:
        torch.save({"format": "tnacli-checkpoint", "version": 1, "about": Evil()}, path)
    with pytest.raises(FileFormatError):
        load_checkpoint(path)
    assert not mark.exists()


def test_files_of_others_and_other_versions_are_told_apart(tmp_path: Path, trained: Outcome) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(FileFormatError, match="not a tnacli checkpoint"):
        load_checkpoint(tmp_path / "other.pt")
    content = torch.load(trained.checkpoint, weights_only=True)
    for version in (99, True, 1.0):
        torch.save({**content, "version": version}, tmp_path / "newer.pt")
        with pytest.raises(FileFormatError, match=f"checkpoint version {version}; this tnacli reads version 1"):
            load_checkpoint(tmp_path / "newer.pt")
    with pytest.raises(FileFormatError, match="no such file"):
        load_checkpoint(tmp_path / "missing.pt")


def test_a_checkpoint_cut_short_says_so_and_what_to_do(tmp_path: Path, trained: Outcome) -> None:
    whole = trained.checkpoint.read_bytes()
    path = tmp_path / "last.pt"
    path.write_bytes(whole[: len(whole) // 2])

    def said() -> str:
        with pytest.raises(FileFormatError) as caught:
            load_checkpoint(path)
        return str(caught.value)

    assert said().endswith("its end is missing or overwritten, as when writing or copying it was cut short")
    (tmp_path / "run.json").touch()
    assert "cut short (the same `tna train` with --fresh trains the run again)" in said()
    (tmp_path / "previous.pt").write_bytes(whole)
    assert "cut short (the same `tna train` goes on from the checkpoint before it, previous.pt)" in said()
    path.write_text("something else")
    assert "last.pt is a text file, as recipes and exported C are, and a checkpoint is asked for" in said()
    assert "goes on from the checkpoint before it" in said()


def test_altered_contents_fail_the_checksum_even_in_a_sound_archive(tmp_path: Path, trained: Outcome) -> None:
    content = torch.load(trained.checkpoint, weights_only=True)
    name = "networks/base/readout.bias"
    content["tensors"][name] = content["tensors"][name] + 1
    torch.save(content, tmp_path / "altered.pt")
    with pytest.raises(FileFormatError, match="checksum"):
        load_checkpoint(tmp_path / "altered.pt")


def test_a_compressed_archive_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    """A small file cannot make us allocate much: parts must be stored as they are."""
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10_000_000)
    with pytest.raises(FileFormatError, match="parts are compressed"):
        load_checkpoint(path)
