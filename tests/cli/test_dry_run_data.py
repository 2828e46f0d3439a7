"""`--dry-run` looks for the data, says what runs on one's own images take, and `tna compare-kd` has it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from tests.cli.conftest import Tna
from tnacli.recipe.costs import Sample, costs
from tnacli.recipe.parse import load
from tnacli.recipe.schema.recipe import Settings

OWN = "data: {name: folder}\nmodel: {layout: 4C3-AP2-5FC}\ntrain: {epochs: 3, batch_size: 2}\nruns: {a: {}}\n"


@pytest.fixture
def own_images(tmp_path: Path) -> Path:
    """Seven gray images of three classes to train on, and one of each to test on, 6 high and 10 wide."""
    for split, counts in (("train", (2, 2, 3)), ("test", (1, 1, 1))):
        for label, count in zip("abc", counts, strict=True):
            folder = tmp_path / "own" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("L", (10, 6), number).save(folder / f"{number}.png")
    return tmp_path / "own"


def dry(tna: Tna, tmp_path: Path, recipe: str, *more: object) -> Any:
    (tmp_path / "own.yaml").write_text(recipe)
    return tna("train", tmp_path / "own.yaml", "--dry-run", "--out", tmp_path / "runs", *more)


def test_costs_of_ones_own_images_are_those_of_their_shape(tna: Tna, tmp_path: Path, own_images: Path) -> None:
    shown = dry(tna, tmp_path, OWN, "--data-root", own_images, "--json").json
    assert shown["data"] == [{
        "name": "folder", "there": True,
        "text": f"found at {own_images}: 3 classes, 7 train, 3 test images; 1x6x10 by the first of them",
    }]  # fmt: skip
    (run,) = shown["runs"]
    # By hand, of 4C3-AP2-5FC on 1x6x10: 4 * 9 * 60 for the first layer, once; 5 * 60 and 3 * 5 a timestep.
    settings = Settings.model_validate(run["settings"])
    first, rest = 4 * 9 * 60, settings.model.timesteps * (4 * 3 * 5 * 5 + 5 * 3)
    assert run["costs"]["sample_flop"] == 2 * (2 * first + 3 * rest)
    assert run["costs"]["run_flop"] == run["costs"]["sample_flop"] * 3 * 7
    assert run["size"]["parameters"] == 4 * 9 + 8 + 60 * 5 + 10 + 5 * 3 + 3
    shown = dry(tna, tmp_path, OWN, "--data-root", own_images)
    assert f"data: folder: found at {own_images}: 3 classes" in shown.err
    assert "depends on your" not in shown.out


def test_the_recipes_size_counts_where_it_has_one(tna: Tna, tmp_path: Path, own_images: Path) -> None:
    recipe = OWN.replace("{name: folder}", "{name: folder, size: [4, 4]}")
    shown = dry(tna, tmp_path, recipe, "--data-root", own_images, "--json").json
    expected = costs(load(tmp_path / "own.yaml").recipe.runs["a"], Sample(1, (4, 4), 3), 7)
    assert expected is not None
    assert shown["runs"][0]["costs"]["run_flop"] == expected.run_flop


def test_data_that_is_not_there_is_said_and_the_plan_shown(tna: Tna, tmp_path: Path) -> None:
    shown = dry(tna, tmp_path, OWN, "--data-root", tmp_path / "nowhere")
    assert shown.code == 0
    assert f"data: folder: not found; looked for {tmp_path / 'nowhere'}" in shown.err
    assert "depends on your data" in shown.out
    known = OWN.replace("{name: folder}", "{name: cifar10, train_samples: 20}")
    shown = dry(tna, tmp_path, known, "--data-root", tmp_path / "nowhere", "--json").json
    assert [(one["name"], one["there"]) for one in shown["data"]] == [("cifar10", False)]
    assert shown["runs"][0]["costs"]["run_flop"] is not None


def test_folders_that_cannot_be_learned_from_are_said(tna: Tna, tmp_path: Path, own_images: Path) -> None:
    (own_images / "train" / "d").mkdir()
    shown = dry(tna, tmp_path, OWN, "--data-root", own_images, "--json").json
    (seen,) = shown["data"]
    assert not seen["there"]
    assert "has no folder for" in seen["text"]


def test_compare_kd_has_a_plan_too(tna: Tna, tmp_path: Path) -> None:
    (tmp_path / "kd.yaml").write_text("data: {name: digits}\nmodel: {layout: 5FC}\nruns: {baseline: {}}\n")
    common = ("compare-kd", tmp_path / "kd.yaml", "--alpha", "1e-3", "--out", tmp_path / "runs", "--dry-run")
    shown = tna(*common)
    assert (shown.code, (tmp_path / "runs").exists()) == (0, False)
    assert "data: digits: comes with scikit-learn" in shown.err
    document = tna(*common, "--json").json
    assert document["command"] == "compare-kd --dry-run"
    assert {run["status"] for run in document["runs"]} == {"new"}
    alphas = [run["settings"]["objective"].get("alpha") for run in document["runs"]]
    assert alphas.count(1e-3) == 1
    assert len(document["runs"]) >= 5  # the baseline, a teacher, KD, KD + CE and TNA


def test_a_set_that_is_not_whole_is_not_called_there(tna: Tna, tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    recipe = OWN.replace("{name: folder}", "{name: cifar10, train_samples: 20}")
    (seen,) = dry(tna, tmp_path, recipe, "--data-root", tmp_path / "data", "--json").json["data"]
    assert not seen["there"]
    assert "not whole; missing: " in seen["text"]
    assert "data_batch_1" in seen["text"]


def test_images_that_lie_are_taken_upright_and_16_bits_refused(tna: Tna, tmp_path: Path, own_images: Path) -> None:
    """As training reads them."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for path in own_images.rglob("*.png"):
        Image.new("L", (10, 6)).save(path, exif=exif)
    shown = dry(tna, tmp_path, OWN, "--data-root", own_images, "--json").json
    assert shown["data"][0]["text"].endswith("1x10x6 by the first of them")
    Image.new("I;16", (10, 6)).save(own_images / "train" / "a" / "0.png")
    (seen,) = dry(tna, tmp_path, OWN, "--data-root", own_images, "--json").json["data"]
    assert not seen["there"]
    assert "more than 8 bits" in seen["text"]


def test_ones_own_images_are_predicted_on_known_gpus_too(tna: Tna, tmp_path: Path, own_images: Path) -> None:
    common = ("--data-root", own_images, "--device", "cuda")
    (run,) = dry(tna, tmp_path, OWN, *common, "--json").json["runs"]
    assert all(one["needed_bytes"] > 1e9 and one["hours"] > 0 for one in run["gpus"])
    shown = dry(tna, tmp_path, OWN, *common)
    assert "own: on a GPU, estimated" in shown.out
    assert [one["card"] for one in run["gpus"] if one["card"] not in shown.out] == []
