"""`tnacli.load`, and the scripts in examples/."""

from __future__ import annotations

import pickle
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import tnacli
from tests.deploy.conftest import Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.errors import DataError, FileFormatError
from tnacli.experiment import Outcome
from tnacli.packed.file import write_packed

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_packed_file_and_checkpoint_are_the_same_function(quickstart: Quickstart) -> None:
    packed, restored = tnacli.load(quickstart.file), tnacli.load(str(quickstart.checkpoint))
    logits = packed(quickstart.pixels)
    assert torch.equal(logits, restored(quickstart.pixels))
    assert (packed.weights, packed.labels, packed.timesteps) == (restored.weights, restored.labels, restored.timesteps)
    assert packed.input == restored.input
    hits = (logits.argmax(1) == quickstart.labels).float().mean()
    assert 100 * float(hits) == pytest.approx(quickstart.accuracy)
    assert not logits.is_inference()


def test_arrays_labels_and_normalised_floats(quickstart: Quickstart) -> None:
    model = tnacli.load(quickstart.file)
    some = quickstart.pixels[:70]
    named = [model.labels[best] for best in model(some).argmax(1)]
    assert model.predict(some.numpy()) == named == model.predict(some.numpy()[::-1])[::-1]
    assert torch.equal(model(quickstart.inputs[:70], normalised=True), model(some))
    assert model(some[:0]).shape == (0, 10)


def test_full_precision_checkpoints_load_too(trained_full: Outcome) -> None:
    model = tnacli.load(trained_full.checkpoint)
    assert model.weights == "fp32"
    assert model(np.zeros((3, 1, 8, 8), np.uint8)).shape == (3, 10)


def test_events_are_counts_of_any_type(tmp_path: Path) -> None:
    network = make_network()
    write_packed(tmp_path / "net.safetensors", make_packed(network, events=True))
    model = tnacli.load(tmp_path / "net.safetensors")
    frames = make_inputs(network, 5, events=True)
    np.testing.assert_array_equal(model(frames), model(frames.to(torch.int16).numpy()))


def test_what_does_not_fit_is_refused(quickstart: Quickstart, tmp_path: Path) -> None:
    model = tnacli.load(quickstart.file)
    with pytest.raises(DataError, match="takes images of Nx1x8x8; these are 2x8x8"):
        model(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match="uint8 pixels from 0 to 255, not float32"):
        model(torch.zeros(2, 1, 8, 8))
    with pytest.raises(FileFormatError, match="no such file; give a checkpoint"):
        tnacli.load(tmp_path / "none.safetensors")


def test_whatever_holds_the_same_pixels_gives_the_same_logits(quickstart: Quickstart, tmp_path: Path) -> None:
    model, pixels = tnacli.load(quickstart.file), quickstart.pixels[:5].numpy()
    expected = model(pixels)
    pictures = [Image.fromarray(one[0]) for one in pixels]
    for n, picture in enumerate(pictures):
        picture.save(tmp_path / f"{n}.png")
    paths = [tmp_path / f"{n}.png" for n in range(5)]
    read_only = pixels.copy()
    read_only.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = [
            model(pictures), model(paths), model([str(path) for path in paths]), model(pixels.tolist()), model(list(pixels)),
            model(list(torch.from_numpy(pixels))), model(pixels.astype(">i4")), model(pixels.astype("<u2")), model(read_only),
            model(np.asfortranarray(pixels)), model(pixels[:, :, ::-1][:, :, ::-1]),
            model((pixels / 255).astype(np.float32), unit=True), model((pixels / 255).astype(">f4"), unit=True),
            model(torch.from_numpy(pixels) / 255, unit=True), model((torch.from_numpy(pixels) / 255).requires_grad_(), unit=True),
        ]  # fmt: skip
    for n, logits in enumerate(same):
        np.testing.assert_array_equal(logits, expected, err_msg=str(n))
        assert isinstance(logits, torch.Tensor if n in (13, 14) else np.ndarray), n
    np.testing.assert_array_equal(model(paths[0]), expected[:1])
    np.testing.assert_array_equal(model(pictures[0].resize((8, 8)).convert("RGB")), expected[:1])


@pytest.mark.parametrize(
    ("given", "how", "said"),
    [
        (np.zeros((1, 8, 8), np.uint8), {}, r"these are 1x8x8. One sample is a batch of one: samples\[None\]"),
        (np.full((1, 1, 8, 8), 256), {}, "pixels are from 0 to 255; these are from 256 to 256"),
        (np.full((1, 1, 8, 8), -1), {}, "pixels are from 0 to 255; these are from -1 to -1"),
        (np.zeros((1, 1, 8, 8)), {}, "not float64; say unit=True if these are from 0 to 1"),
        (np.full((1, 1, 8, 8), 1.5), {"unit": True}, "floats from 0 to 1; these are from 1.5 to 1.5"),
        (np.full((1, 1, 8, 8), np.nan), {"unit": True}, "floats from 0 to 1; these are from nan to nan"),
        (np.zeros((1, 1, 8, 8), np.uint8), {"unit": True}, "unit=True is for floats from 0 to 1, not uint8"),
        (np.full((1, 1, 8, 8), np.nan), {"normalised": True}, "inputs are finite; these have NaN or infinite values"),
        (
            torch.full((1, 1, 8, 8), torch.inf),
            {"normalised": True},
            "inputs are finite; these have NaN or infinite values",
        ),
        (
            torch.zeros(1, 1, 8, 8).to_sparse(),
            {"normalised": True},
            r"\(torch.float32, torch.sparse_coo, cpu\) is no array",
        ),
        ([torch.zeros(1, 8, 8, device="meta")], {"unit": True}, r"\(torch.float32, torch.strided, meta\) is no array"),
        ([], {}, "there are no samples: the list is empty"),
        ([[1, 2], [3]], {}, "the samples of a list are of one shape and kind; these are of several"),
        ([np.zeros((1, 8, 8), np.uint8), Image.new("L", (8, 8))], {}, "of one shape and kind; these are of several"),
        (None, {}, "samples are numbers, PIL images or paths, alone or in a list; these are NoneType"),
        ([{"a": 1}], {}, "samples are numbers, PIL images or paths"),
        ([Image.new("L", (8, 8)), 3], {}, "a list of images or paths holds a int"),
        (Image.new("I;16", (8, 8)), {}, "the image has pixels of kind I;16, more than 8 bits each"),
        (Image.new("L", (8, 8)), {"unit": True}, "files and PIL images hold pixels"),
        ("missing.png", {}, "missing.png: no such file"),
        ("/", {}, "/: is a folder. Give the files in it"),
    ],
)
def test_what_is_no_sample_is_refused(quickstart: Quickstart, given: object, how: dict[str, bool], said: str) -> None:
    with pytest.raises(DataError, match=said):
        tnacli.load(quickstart.file)(given, **how)


def test_half_precision_is_taken(quickstart: Quickstart) -> None:
    model = tnacli.load(quickstart.file)
    for dtype in (torch.bfloat16, torch.float16):
        unit = (quickstart.pixels[:5] / 255).to(dtype)
        expected = model(unit.float(), unit=True)
        assert torch.equal(model(unit, unit=True), expected)
        np.testing.assert_array_equal(model(list(unit), unit=True), expected)


def test_a_frame_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    network = make_network()
    write_packed(tmp_path / "net.safetensors", make_packed(network, events=True))
    frames = make_inputs(network, 2, events=True)
    frames[1, 0, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="frames hold numbers of events; these have NaN"):
        tnacli.load(tmp_path / "net.safetensors")(frames)


def test_a_model_is_shown_in_short(quickstart: Quickstart) -> None:
    shown = repr(tnacli.load(quickstart.file))
    assert "weights='ternary'" in shown
    assert len(shown) < 600


def test_a_model_can_be_pickled(quickstart: Quickstart, trained_full: Outcome) -> None:
    for file in (quickstart.file, quickstart.checkpoint, trained_full.checkpoint.parent):
        model = tnacli.load(file)
        again = pickle.loads(pickle.dumps(model))
        assert torch.equal(again(quickstart.pixels[:9]), model(quickstart.pixels[:9]))
        assert (again.labels, again.weights, again.origin) == (model.labels, model.weights, model.origin)


def test_importing_loads_no_torch() -> None:
    program = "import sys, tnacli; print('torch' in sys.modules, 'load' in dir(tnacli), hasattr(tnacli, 'loads'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "True", "False"]


def run(script: str, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


in_a_checkout = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are in a checkout only")


@in_a_checkout
def test_example_packed_file(
    quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("packed_file.py", quickstart.file, monkeypatch=monkeypatch)
    first, shown, predicted = capsys.readouterr().out.splitlines()
    assert "10 classes, 4 timesteps, ternary weights" in first
    pairs = zip(shown.split()[1:], predicted.split()[1:], strict=True)
    assert sum(a == b for a, b in pairs) >= 7


@in_a_checkout
def test_example_own_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for label in ("dark", "light"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = random.integers(0, 120, (16, 16, 3), dtype=np.uint8) + (120 if label == "light" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n}.png")
    run("own_images.py", tmp_path, monkeypatch=monkeypatch)
    assert "test accuracy" in capsys.readouterr().out
    model = tnacli.load(tmp_path / "model.safetensors")
    assert model.labels == ("dark", "light")


@in_a_checkout
def test_example_own_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)  # as Python does for a script
    run("own_network.py", tmp_path, monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    names = [f"{function}, {how}" for function in ("narrowing", "largest") for how in ("alone", "with a twin")]
    assert [line.split(":")[0] for line in lines] == names
    assert all(float(line.split(": ")[1].partition(" %")[0]) > 60 for line in lines)
    files = [tmp_path / f"{name.replace(', ', '_').replace(' ', '_')}.safetensors" for name in names]
    assert all(tnacli.load(file).weights == "ternary" for file in files)


@in_a_checkout
@pytest.mark.parametrize("library", ["spikingjelly", "snntorch", "sinabs", "norse"])
def test_examples_of_ternary_weights_in_the_training_scripts_of_other_libraries(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, of deprecated parts of PyTorch
        pytest.importorskip(library)
        run(f"{library}_digits.py", monkeypatch=monkeypatch)
    full, ternary, *shares, _ = capsys.readouterr().out.splitlines()
    assert float(full.removeprefix("full precision: ").removesuffix(" %")) > 80
    assert float(ternary.removeprefix("ternary: ").removesuffix(" %")) > 80
    assert len(shares) == 2, "all layers but the first and the last"
    digits = load_digits()
    images = (digits.images[1440:, None] / 16).astype(np.float32)
    predicted = tnacli.load(f"{library}_digits.safetensors")(images, normalised=True).argmax(1)
    assert f"ternary: {100 * float((predicted == digits.target[1440:]).mean()):.2f} %" == ternary
    assert all(10 < int(share.split(": ")[1].removesuffix("% zero")) < 90 for share in shares)
