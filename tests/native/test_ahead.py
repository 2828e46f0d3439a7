"""Wheels that bring the engine compiled: used where there is no compiler, and only as long as it is of the very source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tnacli
from tnacli.native import compile as native
from tnacli.native.compile import compile_ahead, compiled

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "benchmarks" / "boards" / "digits.safetensors"

pytestmark = pytest.mark.skipif(native.find_compiler() is None, reason="no C compiler on this machine")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A C file, and beside it the library of it; from then on there is no compiler."""
    monkeypatch.delenv("TNA_NATIVE", raising=False)
    monkeypatch.setenv("TNA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return 42; }\n")
    compile_ahead(path, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    return path


def test_it_is_used_without_a_compiler_and_nothing_is_cached(source: Path, tmp_path: Path) -> None:
    kernels = compiled(source, for_any=True)
    assert kernels.library is not None
    assert (kernels.library.answer(), kernels.reason) == (42, "compiled ahead, in the wheel")
    assert not (tmp_path / "cache").exists()


def test_what_is_tuned_to_a_processor_never_comes_from_a_wheel(source: Path) -> None:
    assert "no C compiler" in compiled(source).reason


@pytest.mark.parametrize("name", ["answer.c", "header.h"])
def test_another_source_has_another_library(source: Path, name: str) -> None:
    source.with_name(name).write_text("int answer(void) { return 43; }\n")
    assert "no C compiler" in compiled(source, for_any=True).reason


def test_one_that_does_not_run_here_is_passed_over(source: Path) -> None:
    (library,) = (path for path in source.parent.iterdir() if path.name.startswith("answer-"))
    library.write_bytes(b"of another processor")
    assert "no C compiler" in compiled(source, for_any=True).reason


def test_it_can_be_switched_off(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNA_NATIVE", "0")
    assert compiled(source, for_any=True).library is None


def test_a_compiler_that_fails_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("int answer(void) { return }\n")
    with pytest.raises(OSError, match=r"could not compile wrong\.c"):
        compile_ahead(tmp_path / "wrong.c", tmp_path)


def test_both_distributions_ask_for_it_where_wheels_are_built() -> None:
    for folder in (ROOT, ROOT / "runtime"):
        settings = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cibuildwheel"]
        assert settings["environment"] == {"TNA_AHEAD": "1"}


_PROGRAM = """
import importlib, json, sys
import numpy
package = importlib.import_module(sys.argv[1])
logits = package.load(sys.argv[2])(numpy.load(sys.argv[3]))
found = importlib.import_module(sys.argv[1] + ".native.library").engine()
print(json.dumps({"from": package.__file__, "reason": found.reason, "logits": logits.tobytes().hex()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("package", "folder"), [("tnacli", ROOT), ("tnacli_runtime", ROOT / "runtime")])
def test_a_wheel_with_and_without_it(package: str, folder: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    expected = np.asarray(tnacli.load(DIGITS)(pixels)).tobytes().hex()
    for ahead, reason in (("1", "compiled ahead, in the wheel"), ("", "no C compiler found")):
        out = tmp_path / f"ahead{ahead}"
        pip = [sys.executable, "-m", "pip", "-q"]
        subprocess.run(
            [*pip, "wheel", "--no-deps", "-w", out, folder], check=True, env=os.environ | {"TNA_AHEAD": ahead}
        )
        (wheel,) = out.glob("*.whl")
        assert wheel.name.endswith("-py3-none-any.whl") is not bool(ahead)
        with zipfile.ZipFile(wheel) as archive:
            libraries = [name for name in archive.namelist() if name.endswith((".so", ".dll"))]
        assert len(libraries) == bool(ahead)
        subprocess.run([*pip, "install", "--no-deps", "--target", out / "installed", wheel], check=True)
        environment = {name: value for name, value in os.environ.items() if name not in ("CC", "TNA_NATIVE")}
        environment |= {"PATH": str(tmp_path), "TNA_CACHE": str(out / "cache"), "PYTHONPATH": str(out / "installed")}
        words: list[str | Path] = [sys.executable, "-c", _PROGRAM, package, DIGITS, tmp_path / "pixels.npy"]
        done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True, cwd=tmp_path)
        found = json.loads(done.stdout)
        assert Path(found["from"]).is_relative_to(out / "installed")
        assert found["reason"].startswith(reason)
        assert found["logits"] == expected
        assert not (out / "cache").exists()
