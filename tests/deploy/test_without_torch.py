"""A packed file is read, inspected, loaded, evaluated and predicted from without PyTorch and what else takes long to import."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.nn import functional as F

import tnacli
from tests.deploy.conftest import Quickstart
from tnacli.packed.file import write_packed

_BLOCKED = """
import importlib.machinery, sys

class Blocked:  # found, as files of theirs may be, and not imported
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "sklearn", "scipy", "tonic"}:
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            spec.loader = self
            return spec

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Blocked())
"""


MAIN = "from tnacli.cli.app import main; main()"


def without_torch(program: str, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKED + program, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def picture(quickstart: Quickstart, tmp_path: Path) -> Path:
    Image.fromarray(quickstart.pixels[0, 0].numpy()).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def test_load(quickstart: Quickstart, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", quickstart.pixels.numpy())
    program = "import numpy, tnacli; print(tnacli.load(sys.argv[1])(numpy.load(sys.argv[2])).tobytes().hex())"
    found = np.frombuffer(bytes.fromhex(without_torch(program, quickstart.file, tmp_path / "pixels.npy")), np.float32)
    expected = tnacli.load(quickstart.checkpoint)(quickstart.pixels.numpy())
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("command", ["predict", "inspect"])
def test_commands(quickstart: Quickstart, picture: Path, command: str) -> None:
    words = [quickstart.file, *([picture] if command == "predict" else []), "--json"]
    found = json.loads(without_torch(MAIN, command, *words))
    if command == "predict":
        expected = tnacli.load(quickstart.checkpoint)(quickstart.pixels[:1].numpy())[0]
        assert found["predictions"][0]["top"][0]["logit"] == float(expected.max())
    else:
        assert found["kind"] == "packed"


def test_evaluate(quickstart: Quickstart) -> None:
    found = json.loads(without_torch(MAIN, "evaluate", quickstart.file, "--json"))
    assert (found["samples"], found["accuracy"]) == (360, quickstart.accuracy)
    assert found["loss"] == pytest.approx(float(F.cross_entropy(quickstart.expected, quickstart.labels)), rel=1e-6)
    few = json.loads(without_torch(MAIN, "evaluate", quickstart.file, "--samples", 10, "--json"))
    assert few["samples"] == 10


def test_evaluate_on_class_folders(quickstart: Quickstart, tmp_path: Path) -> None:
    for number, (pixels, label) in enumerate(zip(quickstart.pixels, quickstart.labels.tolist(), strict=True)):
        for split in ("train", "test"):
            (tmp_path / "mine" / split / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0].numpy()).save(tmp_path / "mine" / split / str(label) / f"{number}.png")
    about = quickstart.packed.about
    origin = about.origin.model_copy(update={"data_set": "folder"})
    write_packed(
        tmp_path / "own.safetensors",
        replace(quickstart.packed, about=about.model_copy(update={"origin": origin})),
    )
    words = ["evaluate", tmp_path / "own.safetensors", "--data-root", tmp_path / "mine", "--json"]
    assert json.loads(without_torch(MAIN, *words))["accuracy"] == quickstart.accuracy


def test_what_is_blocked_is_missed() -> None:
    """Or the tests above would show nothing."""
    with pytest.raises(AssertionError, match="is blocked"):
        without_torch("import torch")
