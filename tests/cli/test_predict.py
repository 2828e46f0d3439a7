"""`tna predict`: one's own samples through every kind of file, as the data set's own would go."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tnacli
from tests.cli.conftest import Tna
from tests.cli.test_contract import terminal
from tests.deploy.conftest import Quickstart
from tests.deploy.conftest import quickstart as quickstart
from tests.packed.networks import make_network, make_packed
from tnacli.data.frames import to_frames
from tnacli.data.recordings import read_recording
from tnacli.likeliest import probabilities
from tnacli.packed.file import write_packed
from tnacli.packed.network import PackedNetwork


@pytest.fixture
def scans(quickstart: Quickstart, tmp_path: Path) -> Path:
    """The first test digits: two as they are, one in colour and twice as large in a folder below, and a text."""
    folder = tmp_path / "scans"
    (folder / "deeper").mkdir(parents=True)
    for n in range(2):
        Image.fromarray(quickstart.pixels[n, 0].numpy()).save(folder / f"{n}.png")
    large = Image.fromarray(quickstart.pixels[2, 0].numpy()).resize((16, 16), Image.Resampling.NEAREST)
    large.convert("RGB").save(folder / "deeper" / "2.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize("kind", ["packed", "checkpoint", "run folder", "onnx"])
def test_every_file_predicts_what_the_network_does(
    tna: Tna, quickstart: Quickstart, scans: Path, tmp_path: Path, kind: str
) -> None:
    file = {"packed": quickstart.file, "checkpoint": quickstart.checkpoint}.get(kind, quickstart.checkpoint.parent)
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        file = tmp_path / "net.onnx"
        assert tna("export", quickstart.file, "-o", file, "--samples", 20).code == 0
    found = tna("predict", file, scans, "--json", "--top", 10).json
    assert found["kind"] == kind.replace("run folder", "checkpoint")
    assert [Path(one["sample"]).name for one in found["predictions"]] == ["0.png", "1.png", "2.png"]
    logits = np.array([
        [guess["logit"] for guess in sorted(one["top"], key=lambda guess: guess["index"])]
        for one in found["predictions"]
    ])  # fmt: skip
    # The two that were not resized are test samples.
    np.testing.assert_allclose(logits[:2], quickstart.expected[:2].numpy(), atol=1e-4)
    expected = torch.softmax(quickstart.expected[:2].double(), 1).max(1).values.numpy()
    shown = [one["top"][0]["probability"] for one in found["predictions"][:2]]
    np.testing.assert_allclose(shown, expected, atol=1e-4)
    assert all(sum(guess["probability"] for guess in one["top"]) == pytest.approx(1) for one in found["predictions"])
    assert found["notes"] == [
        "colour made gray: 1 of 3", "resized to 8x8: 1 of 3", f"passed over, not images: {scans / 'notes.txt'}"
    ]  # fmt: skip


def test_in_a_pipe_and_as_csv(tna: Tna, quickstart: Quickstart, scans: Path) -> None:
    model = tnacli.load(quickstart.file)
    labels = model.predict(quickstart.pixels[:2])
    shown = tna("predict", quickstart.file, scans / "1.png", scans / "0.png")
    assert [line.split()[1] for line in shown.out.splitlines()[1:]] == [labels[1], labels[0]]
    assert shown.err == ""  # nothing had to be done
    rows = list(csv.DictReader(io.StringIO(tna("predict", quickstart.file, scans, "--csv", "--top", 2).out)))
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    assert [row["label"] for row in rows[:4:2]] == labels
    assert float(rows[0]["logit"]) == pytest.approx(float(quickstart.expected[0].max()), rel=1e-6)
    said = tna("predict", quickstart.file, scans)
    assert "resized to 8x8: 1 of 3" in said.err
    assert tna("predict", quickstart.file, scans, "--quiet").err == ""


def test_of_an_animation_the_first_picture_is_taken_and_it_is_said(
    tna: Tna, quickstart: Quickstart, tmp_path: Path
) -> None:
    first, second = (Image.fromarray(quickstart.pixels[n, 0].numpy()) for n in range(2))
    first.save(tmp_path / "a.tiff", save_all=True, append_images=[second])
    found = tna("predict", quickstart.file, tmp_path / "a.tiff", "--json").json
    assert found["notes"] == ["the first of several pictures in the file: the sample"]
    assert found["predictions"][0]["top"][0]["logit"] == pytest.approx(float(quickstart.expected[0].max()), rel=1e-6)


def test_on_a_terminal(quickstart: Quickstart, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal("predict", quickstart.file, "0.png"))
    assert re.search(r"sample\s+label\s+probability %\s+logit", shown)
    assert re.search(r"0\.png\s+\d\s+\d+\.\d\d\s+-?\d+\.\d{4}", shown)


def test_a_terminal_sees_how_far_it_is(quickstart: Quickstart, scans: Path) -> None:
    shown = terminal("predict", quickstart.file, scans, "--batch-size", 1)
    assert re.search(r"predicting.*[12]/3", shown)
    assert "predicting" not in terminal("predict", quickstart.file, scans, "--batch-size", 1, "--quiet")


@pytest.mark.skipif(sys.platform == "win32", reason="names of files as POSIX allows them")
def test_a_name_can_neither_break_the_table_nor_command_the_terminal(
    tna: Tna, quickstart: Quickstart, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scans)
    name = "a\n\x1b[2J\x9b.png"
    (scans / "0.png").rename(name)
    shown = tna("predict", quickstart.file, name)
    assert [line.split()[0] for line in shown.out.splitlines()] == ["sample", "a\\n\\x1b[2J\\x9b.png"]
    on_terminal = terminal("predict", quickstart.file, name)
    assert r"a\n\x1b[2J\x9b.png" in on_terminal
    assert "\x1b[2J" not in on_terminal
    assert "\x9b" not in on_terminal
    refused = tna("predict", quickstart.file, f"{name}.gone")
    assert (refused.code, r"\x1b[2J\x9b.png.gone: no such file" in refused.err) == (4, True)
    # Data is as it is.
    assert tna("predict", quickstart.file, name, "--json").json["predictions"][0]["sample"] == name
    assert next(csv.DictReader(io.StringIO(tna("predict", quickstart.file, name, "--csv").out)))["sample"] == name


def test_batches_are_alike(tna: Tna, quickstart: Quickstart, scans: Path) -> None:
    one_by_one, at_once = (tna("predict", quickstart.file, scans, "--csv", "--batch-size", n).out for n in (1, 64))
    assert one_by_one == at_once


def test_recordings_become_frames_as_in_training(tna: Tna, tmp_path: Path) -> None:
    network = make_network()
    packed = make_packed(network, events=True)
    write_packed(tmp_path / "net.safetensors", packed)
    height, width = packed.about.input.size
    random = np.random.default_rng(0)
    recording = np.zeros(4000, [("x", "<i4"), ("y", "<i4"), ("t", "<i8"), ("p", "<i4")])
    recording["x"], recording["y"] = random.integers(0, 128, 4000), random.integers(0, 128, 4000)
    recording["t"], recording["p"] = np.sort(random.integers(0, 10**6, 4000)), random.integers(0, 2, 4000)
    np.save(tmp_path / "one.npy", recording)
    origin = packed.about.origin.model_copy(update={"data_set": "cifar10dvs"})
    packed = PackedNetwork(packed.about.model_copy(update={"origin": origin}), packed.arrays)
    write_packed(tmp_path / "net.safetensors", packed)
    found = tna("predict", tmp_path / "net.safetensors", tmp_path / "one.npy", "--json", "--top", 2)
    events, sensor, _ = read_recording(str(tmp_path / "one.npy"), (128, 128))
    frames = to_frames(events, sensor=sensor, timesteps=network.timesteps, size=(height, width), binning="count")
    expected = tnacli.load(tmp_path / "net.safetensors")(frames[None])[0]
    (one,) = found.json["predictions"]
    assert [guess["logit"] for guess in one["top"]] == sorted(expected.tolist(), reverse=True)[:2]
    assert found.json["notes"][1] == f"128x128 brought to {height}x{width}: the sample"
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert "a.png is no recording: the network takes events" in tna(
        "predict", tmp_path / "net.safetensors", tmp_path / "a.png"
    ).err  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["missing.png"], 4, "missing.png: no such file. Give images"),
        (["/dev/null"], 4, "/dev/null: not a regular file. Give images"),
        (["deeper/2.png", "notes.txt"], 4, "notes.txt cannot be decoded"),
        (["0.png", "--top", "11"], 2, "--top 11 is more than the 10 classes"),
        (["0.png", "--csv", "--json"], 2, "--csv and --json both replace the table"),
        (["0.png", "--trust-build", "a:b"], 2, "a packed file needs no code"),
        (["empty"], 4, "empty holds no files that the network takes"),
        (["a.npy"], 4, "a.npy is a recording of events, and the network takes images"),
    ],
)
def test_mistakes(
    tna: Tna, quickstart: Quickstart, scans: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:  # fmt: skip
    monkeypatch.chdir(scans)
    (scans / "empty").mkdir()
    np.save("a.npy", np.zeros(3))
    refused = tna("predict", quickstart.file, *arguments)
    assert (refused.code, refused.out if "--json" not in arguments else "") == (code, "")
    assert said in " ".join(refused.err.split())


def test_an_onnx_file_of_another_program_is_refused(
    tna: Tna, quickstart: Quickstart, scans: Path, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    file = tmp_path / "net.onnx"
    assert tna("export", quickstart.file, "-o", file, "--samples", 5).code == 0
    model = onnx.load(file)
    del model.metadata_props[:]
    onnx.save(model, file)
    refused = tna("predict", file, scans, "--json")
    assert (refused.code, refused.json["error"]["kind"]) == (8, "FileFormatError")
    assert "does not say its classes and inputs" in refused.err
    file.write_bytes(b"nothing")
    assert tna("predict", file, scans).code == 8


def test_probabilities_of_large_logits_are_finite() -> None:
    shares = probabilities(np.array([[1000.0, 0.0, -1000.0], [0.0, 0.0, 0.0]], np.float32))
    np.testing.assert_allclose(shares, np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]))


def test_the_reader_of_samples_loads_no_torch() -> None:
    program = "import sys, tnacli.data.own_samples, tnacli.deploy.predictor, tnacli.deploy.onnx; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_onnx_file_predicts_without_torch(tna: Tna, quickstart: Quickstart, scans: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert tna("export", quickstart.file, "-o", tmp_path / "net.onnx", "--samples", 5).code == 0
    program = "import sys; sys.modules['torch'] = None; from tnacli.cli.app import main; main()"  # as if not installed
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", str(tmp_path / "net.onnx"), str(scans)], capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == tna("predict", tmp_path / "net.onnx", scans).out
