"""What a packed file is read, inspected, loaded and predicted with: no PyTorch, nor what brings it or takes long to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tnacli
from tests.deploy.conftest import Quickstart

_BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "sklearn", "scipy", "tonic"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
"""


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
    found = json.loads(without_torch("from tnacli.cli.app import main; main()", command, *words))
    if command == "predict":
        expected = tnacli.load(quickstart.checkpoint)(quickstart.pixels[:1].numpy())[0]
        assert found["predictions"][0]["top"][0]["logit"] == float(expected.max())
    else:
        assert found["kind"] == "packed"


def test_what_is_blocked_is_missed() -> None:
    """Or the tests above would show nothing."""
    with pytest.raises(AssertionError, match="is blocked"):
        without_torch("import torch")
