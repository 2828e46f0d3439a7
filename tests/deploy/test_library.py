"""`tnacli.load`, and the scripts in examples/."""

from __future__ import annotations

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
    assert torch.equal(model(frames), model(frames.to(torch.int16).numpy()))


def test_what_does_not_fit_is_refused(quickstart: Quickstart, tmp_path: Path) -> None:
    model = tnacli.load(quickstart.file)
    with pytest.raises(DataError, match="takes images of Nx1x8x8; these are 2x8x8"):
        model(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match="uint8 pixels from 0 to 255, not float32"):
        model(torch.zeros(2, 1, 8, 8))
    with pytest.raises(FileFormatError, match="no such file"):
        tnacli.load(tmp_path / "none.safetensors")


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
    assert all(float(line.split(": ")[1].removesuffix(" %")) > 60 for line in lines)


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
    predicted = tnacli.load(f"{library}_digits.safetensors")(images, normalised=True).argmax(1).numpy()
    assert f"ternary: {100 * float((predicted == digits.target[1440:]).mean()):.2f} %" == ternary
    assert all(10 < int(share.split(": ")[1].removesuffix("% zero")) < 90 for share in shares)
