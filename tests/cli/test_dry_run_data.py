"""`--dry-run` looks for the data, says what runs on one's own images take, and `tna compare-kd` has it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from tests.cli.conftest import Tna
from tnacli.recipe.costs import Sample, costs
from tnacli.recipe.gpus import on_cards
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
        "text": f"found at {own_images}: 3 classes, 7 train, 3 test images; 1x6x10 by the first of them; "
        "3 channels if any of them is in colour",
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


def test_of_images_in_colour_and_gray_ones_it_is_said_what_becomes(tna: Tna, tmp_path: Path, own_images: Path) -> None:
    """Training looks at all of them, a plan at the first."""
    Image.new("RGB", (10, 6)).save(own_images / "test" / "c" / "0.png")
    (seen,) = dry(tna, tmp_path, OWN, "--data-root", own_images, "--json").json["data"]
    assert seen["text"].endswith("1x6x10 by the first of them; 3 channels if any of them is in colour")
    prepared = tna("data", "prepare", "folder", "--data-root", own_images)
    assert "9 of 10 images are gray, the others in colour: all are read as colour" in prepared.err
    assert "3x6x10" in prepared.err
    Image.new("RGB", (10, 6)).save(own_images / "train" / "a" / "0.png")
    (seen,) = dry(tna, tmp_path, OWN, "--data-root", own_images, "--json").json["data"]
    assert seen["text"].endswith("3x6x10 by the first of them")


@pytest.mark.parametrize(
    ("said", "size"),
    [("sensor: [8, 12]", (8, 12)), ("sensor: [8, 12], size: [4, 6]", (4, 6)), ("size: [64, 32]", (64, 32))],
)
def test_costs_of_ones_own_recordings_are_those_of_their_frames(
    tna: Tna, tmp_path: Path, said: str, size: tuple[int, int]
) -> None:
    for split, count in (("train", 3), ("test", 1)):
        for label in "ab":
            folder = tmp_path / "mine" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                if "sensor" in said:
                    np.savez(folder / f"{number}.npz", x=[1, 2], y=[3, 4], t=[0, 1], p=[0, 1])
                else:  # the camera, of 128x128 pixels, is what the recording says
                    header = (
                        b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n#End Of ASCII Header\r\n"
                    )
                    (folder / f"{number}.aedat").write_bytes(header + np.array([2, 0, 4, 1], ">u4").tobytes())
    recipe = OWN.replace("{name: folder}", f"{{name: event_folder, {said}}}")
    shown = dry(tna, tmp_path, recipe, "--data-root", tmp_path / "mine", "--json").json
    (seen,), (run,) = shown["data"], shown["runs"]
    assert seen["there"]
    assert seen["text"].endswith(f"2 classes, 6 train, 2 test recordings; 2x{size[0]}x{size[1]} by the first of them")
    # By hand, of 4C3-AP2-5FC on 2 polarities: each frame is another, so that the first layer is computed at every timestep.
    pixels, timesteps = size[0] * size[1], Settings.model_validate(run["settings"]).model.timesteps
    first, rest = 4 * 2 * 9 * pixels * timesteps, timesteps * (4 * pixels // 4 * 5 + 5 * 2)
    assert run["costs"]["sample_flop"] == 2 * (2 * first + 3 * rest)
    assert run["costs"]["run_flop"] == run["costs"]["sample_flop"] * 3 * 6
    prepared = tna("data", "prepare", "event_folder", "--data-root", tmp_path / "mine", *_options(said))
    assert f"2x{size[0]}x{size[1]}, from folder files" in prepared.err


def _options(said: str) -> list[str]:
    """The settings of a recipe as options of `tna data prepare`."""
    values = yaml.safe_load(f"{{{said}}}")
    return [str(word) for name, pair in values.items() for word in (f"--{name}", *pair)]


def test_recordings_that_do_not_say_their_camera_are_refused_as_in_training(tna: Tna, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / "mine" / split / label).mkdir(parents=True)
            np.savez(tmp_path / "mine" / split / label / "0.npz", x=[1], y=[3], t=[0], p=[0])
    recipe = OWN.replace("{name: folder}", "{name: event_folder}")
    (seen,) = dry(tna, tmp_path, recipe, "--data-root", tmp_path / "mine", "--json").json["data"]
    assert not seen["there"]
    assert "data.sensor: [height, width]" in seen["text"]


def test_data_that_training_fetches_is_said_to_be(tna: Tna, tmp_path: Path) -> None:
    recipe = OWN.replace("{name: folder}", "{name: cifar10, download: true}")
    (seen,) = dry(tna, tmp_path, recipe, "--data-root", tmp_path, "--json").json["data"]
    assert not seen["there"]
    assert seen["text"].endswith("; training fetches it first (data.download), 163 MB")
    (tmp_path / "cifar-10-batches-py").mkdir()
    (seen,) = dry(tna, tmp_path, recipe, "--data-root", tmp_path, "--json").json["data"]
    assert "but not whole; missing: " in seen["text"]
    assert seen["text"].endswith("; training fetches it first (data.download), 163 MB")
    (seen,) = dry(tna, tmp_path, recipe.replace("true", "false"), "--data-root", tmp_path, "--json").json["data"]
    assert "fetches" not in seen["text"]


def test_the_recipes_size_counts_where_it_has_one(tna: Tna, tmp_path: Path, own_images: Path) -> None:
    recipe = OWN.replace("{name: folder}", "{name: folder, size: [4, 4]}")
    shown = dry(tna, tmp_path, recipe, "--data-root", own_images, "--json").json
    expected = costs(load(tmp_path / "own.yaml").recipe.runs["a"], Sample(1, (4, 4), 3, train=7))
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
    assert "1x10x6 by the first of them" in shown["data"][0]["text"]
    Image.new("I;16", (10, 6)).save(own_images / "train" / "a" / "0.png")
    (seen,) = dry(tna, tmp_path, OWN, "--data-root", own_images, "--json").json["data"]
    assert not seen["there"]
    assert "more than 8 bits" in seen["text"]


def test_ones_own_images_are_predicted_on_known_gpus_too(tna: Tna, tmp_path: Path, own_images: Path) -> None:
    common = ("--data-root", own_images, "--device", "cuda")
    (run,) = dry(tna, tmp_path, OWN, *common, "--json").json["runs"]
    assert all(one["needed_bytes"] > 1e9 and one["hours"] > 0 for one in run["gpus"])
    without_samples = on_cards(Settings.model_validate(run["settings"]), Sample(1, (6, 10), 3))
    for one, card in zip(run["gpus"], without_samples, strict=True):
        assert card.needed_bytes is not None
        assert one["needed_bytes"] == card.needed_bytes + 10 * 6 * 10, "ten images stay there"
    shown = dry(tna, tmp_path, OWN, *common)
    assert "own: on a GPU, estimated" in shown.out
    assert [one["card"] for one in run["gpus"] if one["card"] not in shown.out] == []
