"""What is stored of a run comes back as the model that was stored, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tnacli.errors import DataError, FileFormatError
from tnacli.experiment import Outcome
from tnacli.runs.store import RunFolder
from tnacli.training.checkpoint import load_checkpoint


def copied(folder: RunFolder, name: str, to: Path, **changes: Any) -> RunFolder:
    """A folder with the file `name` of another, some of its keys changed."""
    values = json.loads((folder.path / name).read_text())
    (to / name).write_text(json.dumps({**values, **changes}))
    return RunFolder(to)


def test_what_was_trained_is_what_is_read(trained: Outcome) -> None:
    folder = trained.folder
    assert folder.result == trained.result
    begun = folder.require_begun()
    assert begun == folder.begun
    assert begun.settings == trained.run.settings
    assert (begun.identity, begun.seed, begun.data) == (trained.run.identity, trained.run.seed, trained.result.data)
    assert folder.learned_from == trained.result.data
    metadata = load_checkpoint(trained.checkpoint).metadata
    assert (metadata.settings, metadata.data, metadata.state.epoch) == (
        begun.settings,
        begun.data,
        trained.result.epochs,
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"accuracy": {"sibling1": 90.0}}, "accuracy: has no base"),
        ({"seed": "0"}, "seed: Input should be a valid integer"),
        ({"precision": "fp8"}, "precision: Input should be 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ({"mean": [0.5, 0.5]}, "its mean and standard deviation do not fit its channels"),
        ({"flavour": "sweet"}, "flavour: Extra inputs are not permitted"),
    ],
)
def test_a_result_that_no_training_has_stored_is_refused(
    trained: Outcome, tmp_path: Path, changes: dict[str, Any], key: str
) -> None:
    folder = copied(trained.folder, "result.json", tmp_path, **changes)
    with pytest.raises(FileFormatError) as caught:
        _ = folder.result
    assert str(caught.value).startswith(f"{tmp_path / 'result.json'}: not the result of a run: {key}")


@pytest.mark.parametrize("text", ["", '{"recipe": "ti', "[1, 2]", "\x80"])
def test_a_file_cut_short_is_none(tmp_path: Path, text: str) -> None:
    for name in ("result.json", "run.json"):
        (tmp_path / name).write_text(text, encoding="latin-1")
    folder = RunFolder(tmp_path)
    assert (folder.result, folder.begun) == (None, None)
    with pytest.raises(DataError, match=r"run\.json: is damaged or of another version of tnacli \(not whole\)"):
        folder.require_begun()


def test_a_begun_run_that_cannot_be_used_says_why(trained: Outcome, tmp_path: Path) -> None:
    (tmp_path / "last.pt").touch()
    folder = copied(trained.folder, "run.json", tmp_path)
    assert folder.learned_from == trained.result.data
    folder = copied(trained.folder, "run.json", tmp_path, settings={"train": {"epochs": -1}})
    assert (folder.begun, folder.learned_from) == (None, None)
    with pytest.raises(DataError, match=r"settings\.train\.epochs: Input should be greater than or equal to 0"):
        folder.require_begun()


def test_files_found_to_be_the_same_are_stored(trained: Outcome, tmp_path: Path) -> None:
    folder, files = copied(trained.folder, "result.json", tmp_path), {"train": f"12:{'0a' * 8}"}
    folder.found_same(files)
    data = trained.result.data.model_copy(update={"files": files})
    assert folder.result == trained.result.model_copy(update={"data": data})
