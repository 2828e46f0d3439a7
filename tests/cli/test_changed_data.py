"""Results of different data are never taken for each other, whatever command asks and however the folder is spelled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Tna, loaded_by

RECIPE = """\
name: own
seeds: [0]
data: {name: folder, root: imgs}
model: {layout: 4C3-AP2-6FC, timesteps: 2, neuron: {threshold: 0.5}}
train: {epochs: 1, batch_size: 20}
runs: {baseline: {}, tna: {objective: {kind: twin, alpha: 1e-3}}}
"""


def write_images(root: Path, *, train: int = 8, seed: int = 0) -> None:
    """Bitmaps of one size each, so that no file's size tells what is in it."""
    generator = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", 6)):
        for label, brightness in (("cat", 60), ("dog", 180)):
            folder = root / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = np.clip(generator.normal(brightness, 50, (8, 8)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.bmp")


def swap_classes(root: Path) -> None:
    for split in ("train", "test"):
        for source, target in (("cat", "aside"), ("dog", "cat"), ("aside", "dog")):
            (root / split / source).rename(root / split / target)


def touch_all(root: Path) -> None:
    """Other times, as after a copy; the same bytes."""
    for path in root.rglob("*.bmp"):
        later = path.stat().st_mtime_ns + 10**9
        os.utime(path, ns=(later, later))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "imgs")
    (tmp_path / "own.yaml").write_text(RECIPE)
    return tmp_path


def train(tna: Tna, *arguments: object) -> list[dict[str, object]]:
    done = tna("train", "own.yaml", *arguments, "--json")
    assert done.code == 0, done.err
    runs: list[dict[str, object]] = done.json["runs"]
    return runs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap_classes, "test/cat, test/dog, train/cat and 1 more (files of other names, sizes or times)"),
        (lambda root: write_images(root, train=9), "train/cat, train/dog (8 files then, 9 now)"),
        (lambda root: write_images(root, seed=1), "(files of other names, sizes or times)"),
    ],
)
def test_no_command_takes_what_was_learned_from_other_data(
    tna: Tna, folder: Path, change: Callable[[Path], None], said: str
) -> None:
    baseline = train(tna, "--run", "baseline")[0]
    before = json.loads((Path(str(baseline["folder"])) / "result.json").read_text())
    change(folder / "imgs")

    refused = tna("train", "own.yaml", "--run", "tna", "--run", "baseline")
    assert (refused.code, refused.out) == (4, "")
    assert "1 run learned from other data than is there now:" in refused.err
    assert f"{baseline['folder']}: " in refused.err
    assert said in refused.err
    assert "train again with --fresh" in refused.err
    assert not list(folder.glob("runs/own/tna-*"))  # nothing was trained before all were compared

    shown = tna("report", "own.yaml", "--json").json
    (changed,) = shown["changed_data"]
    assert (changed["run"], changed["seed"], changed["folder"]) == ("baseline", 0, baseline["folder"])
    assert said in changed["changes"]
    assert f"data files changed since: {changed['changes']}" in shown["tables"][0]["rows"][0]["notes"]
    assert said in tna("report", baseline["folder"]).out
    planned = tna("train", "own.yaml", "--dry-run", "--json").json["runs"]
    assert [run["data_changed"] for run in planned] == [changed["changes"], None]

    evaluated = tna("evaluate", baseline["checkpoint"], "--json")
    assert evaluated.code == 0
    assert (
        evaluated.json["same_data"] is False
    )  # images for training come first from the generator: the others differ too
    assert "samples differ from those it was trained with" in evaluated.json["notes"][0]
    part = tna("evaluate", baseline["checkpoint"], "--samples", 4, "--json").json
    assert part["same_data"] is None
    assert "data files changed since it was trained" in part["notes"][0]

    common = ("ternarize", baseline["checkpoint"], "--delta", 0.01, "--epochs", 1)
    refused = tna(*common)
    assert (refused.code, refused.out) == (4, "")
    assert "the checkpoint has learned from other data than is there now" in refused.err
    tuned = tna(*common, "--other-data", "--json")
    assert tuned.code == 0, tuned.err
    assert "fine-tuned on other data than its checkpoint learned from" in tna(*common, "--other-data").out

    fresh = train(tna, "--run", "baseline", "--fresh")[0]
    assert fresh["trained"]
    assert fresh["data"]["fingerprint"] != before["data"]["fingerprint"]  # type: ignore[index]
    assert not train(tna, "--run", "baseline")[0]["trained"]


def test_the_same_data_is_the_same_wherever_it_was_copied_to(tna: Tna, folder: Path) -> None:
    first = train(tna)
    touch_all(folder / "imgs")
    assert len(tna("report", "own.yaml", "--json").json["changed_data"]) == 2
    evaluated = tna("evaluate", first[0]["checkpoint"], "--json").json
    assert (evaluated["same_data"], evaluated["notes"]) == (True, [])
    assert [run["trained"] for run in train(tna)] == [False, False]
    # Found out once, and remembered.
    assert tna("report", "own.yaml", "--json").json["changed_data"] == []


def test_no_file_is_opened_where_none_has_changed(tna: Tna, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tnacli.training import run_data

    train(tna)
    loaded: list[object] = []
    load = run_data.load

    def watched(*given: Any, **named: Any) -> Any:
        loaded.append(given)
        return load(*given, **named)

    monkeypatch.setattr(run_data, "load", watched)
    assert [run["trained"] for run in train(tna)] == [False, False]
    assert loaded == []
    touch_all(folder / "imgs")
    train(tna)
    assert len(loaded) == 1


def test_a_run_is_known_however_its_folder_is_spelled(tna: Tna, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(tna)
    (folder / "link").symlink_to(folder / "imgs")
    spellings = ["./imgs", str(folder / "imgs"), f"../{folder.name}/imgs/", "link"]
    for spelled in spellings:
        for way in (("--data-root", spelled), ("--set", f"data.root={spelled}")):
            again = train(tna, *way)
            assert [(run["identity"], run["trained"]) for run in again] == [(run["identity"], False) for run in first]
    monkeypatch.setenv("HOME", str(folder))
    assert not any(run["trained"] for run in train(tna, "--data-root", "~/imgs"))
    # From another folder, and after the data set was moved as a whole.
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    again = tna("train", "../own.yaml", "--out", "../runs", "--json").json["runs"]
    assert not any(run["trained"] for run in again)
    assert tna("evaluate", folder / str(first[0]["checkpoint"]), "--json").json["same_data"] is True
    shutil.move(folder / "imgs", folder / "elsewhere" / "imgs")
    again = tna("train", "../own.yaml", "--out", "../runs", "--data-root", "imgs", "--json").json["runs"]
    assert not any(run["trained"] for run in again)
    report = tna("report", "../own.yaml", "--out", "../runs", "--data-root", "imgs", "--json").json
    assert report["changed_data"] == []
    assert report["tables"][0]["rows"][0]["seeds"] == 1


def test_another_folder_of_the_same_name_is_other_data(tna: Tna, folder: Path) -> None:
    train(tna)
    write_images(folder / "other" / "imgs", seed=5)
    refused = tna("train", "own.yaml", "--data-root", "other/imgs")
    assert refused.code == 4
    (folder / "other" / "imgs").rename(folder / "other" / "more")
    assert all(run["trained"] for run in train(tna, "--data-root", "other/more"))
    assert len(list(folder.glob("runs/own/*"))) == 4


def test_without_the_data_finished_runs_are_taken_and_it_is_said_once(tna: Tna, folder: Path) -> None:
    train(tna)
    shutil.rmtree(folder / "imgs")
    again = tna("train", "own.yaml", "--json")
    assert again.code == 0, again.err
    assert [run["trained"] for run in again.json["runs"]] == [False, False]
    assert again.err.count("the data set folder is not there now: finished runs are taken without comparing") == 1
    assert tna("report", "own.yaml", "--json").json["changed_data"] == []
    assert tna("train", "own.yaml", "--seed", 1).code == 4


def test_without_the_data_a_packed_file_stays_as_it_is(tna: Tna, folder: Path) -> None:
    text = RECIPE.replace(
        "runs: {baseline: {},", "export: true\nruns: {t: {compression: {mode: ternary, delta: 0.01, start: 0}},"
    )
    (folder / "own.yaml").write_text(text)
    first = train(tna, "--run", "t")[0]
    packed = Path(first["packed"]["path"])  # type: ignore[index]
    content = packed.read_bytes()
    shutil.rmtree(folder / "imgs")
    again = train(tna, "--run", "t")[0]
    assert (again["trained"], again["accuracy"], "packed" in again) == (False, first["accuracy"], False)
    assert packed.read_bytes() == content


def test_an_interrupted_run_does_not_go_on_with_other_data(tna: Tna, folder: Path) -> None:
    stopped = tna("train", "own.yaml", "--run", "baseline", "--time-limit", 0)
    assert stopped.code == 75
    swap_classes(folder / "imgs")
    assert tna("train", "own.yaml").code == 4
    swap_classes(folder / "imgs")
    assert tna("train", "own.yaml").code == 0


def test_a_teacher_that_learned_from_other_data_teaches_nobody(tna: Tna, folder: Path) -> None:
    text = RECIPE.replace("runs: {", "runs: {kd: {objective: {kind: distill, alpha: 1e-3}}, ")
    (folder / "own.yaml").write_text(text)
    train(tna, "--run", "kd")
    (pupil,) = folder.glob("runs/own/kd-*")
    shutil.rmtree(pupil)
    swap_classes(folder / "imgs")
    refused = tna("train", "own.yaml", "--run", "kd")
    assert (refused.code, "own/teacher-" in refused.err) == (4, True)
    assert train(tna, "--run", "kd", "--fresh")[0]["trained"]
    assert len(list(folder.glob("runs/own/teacher-*.old1"))) == 1
    # As it learned from what is there, it is not trained again for another pupil.
    train(tna, "--run", "kd", "--fresh")
    assert len(list(folder.glob("runs/own/teacher-*.old*"))) == 1


def test_classes_are_compared_by_name(tna: Tna, folder: Path) -> None:
    checkpoint = train(tna, "--run", "baseline")[0]["checkpoint"]
    for split in ("train", "test"):
        (folder / "imgs" / split / "dog").rename(folder / "imgs" / split / "ant")
    refused = tna("evaluate", checkpoint)
    assert refused.code == 4
    assert "2 classes there, 2 classes in the network; 'ant' only there; 'dog' only in the network" in refused.err
    tuned = tna("ternarize", checkpoint, "--delta", 0.01, "--other-data")
    assert (tuned.code, "'ant' only there" in tuned.err) == (4, True)


def test_the_accuracy_on_other_data_is_not_stated_in_a_packed_file(tna: Tna, folder: Path) -> None:
    checkpoint = train(tna, "--run", "baseline")[0]["checkpoint"]
    tuned = tna("ternarize", checkpoint, "--delta", 0.01, "--epochs", 0, "--json").json["runs"][0]["checkpoint"]
    for name, stated in (("same", True), ("other", False)):
        assert tna("export", tuned, "-o", f"{name}.safetensors").code == 0
        inspected = tna("inspect", f"{name}.safetensors", "--json").json
        assert (inspected["accuracy"] is not None) is stated
        swap_classes(folder / "imgs")


def test_comparing_files_in_a_report_loads_no_torch(tna: Tna, folder: Path) -> None:
    train(tna, "--run", "baseline")
    loaded, _, code = loaded_by("report", folder / "own.yaml", "--out", folder / "runs")
    assert (code, "torch" in loaded, "tnacli.data.files" in loaded) == (0, False, True)
