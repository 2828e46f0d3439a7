"""The code in docs/deployment.md does what the page says; its commands are run by tests/test_docs.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Tna
from tests.deploy.conftest import Quickstart
from tnacli.deploy import c_build

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""

pytestmark = pytest.mark.skipif(not TEXT, reason="documents are in a checkout only")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.filterwarnings("ignore")  # of the libraries shown
@pytest.mark.parametrize("number", range(3), ids=["onnx", "nir", "load"])
def test_python_blocks_predict_every_digit(
    quickstart: Quickstart, tna: Tna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for package in [("onnx", "onnxruntime"), ("nir", "nirtorch", "spikingjelly"), ()][number]:
        pytest.importorskip(package, reason="not installed")
    monkeypatch.chdir(tmp_path)
    form, file = [("onnx", "digits.onnx"), ("nir", "digits.nir"), ("packed", "digits.safetensors")][number]
    assert tna("export", quickstart.checkpoint, "--format", form, "-o", file, "--samples", 5).code == 0
    shutil.copytree(PAGE.parent / "images" / "scans", tmp_path / "scans")
    names: dict[str, Any] = {"pixels": quickstart.pixels.numpy(), "x": quickstart.inputs}
    source = blocks("python")[number]
    exec(compile(source, "docs/deployment.md", "exec"), names)
    answers = names["logits"].argmax(1)
    assert answers.tolist() == quickstart.expected.argmax(1).tolist()
    if "labels" in names:
        assert names["labels"] == [quickstart.packed.about.labels[best] for best in answers.tolist()]


def test_the_c_block_compiles_and_runs(quickstart: Quickstart, tna: Tna, tmp_path: Path) -> None:
    program = c_build.compiler()
    if program is None:
        pytest.skip("no C compiler on this machine")
    assert tna("export", quickstart.checkpoint, "--format", "c", "-o", tmp_path / "digits", "--samples", 5).code == 0
    (block,) = blocks("c")
    pixels = ", ".join(map(str, quickstart.pixels[0].flatten().tolist()))
    main = f"{block}\nint main(void)\n{{\n    static const unsigned char p[] = {{{pixels}}};\n    return show(p) < 0;\n}}\n"
    (tmp_path / "main.c").write_text(main)
    sources = [tmp_path / "main.c", tmp_path / "digits.c"]
    subprocess.run([program, *c_build.STRICT, "-o", tmp_path / "show", *sources], check=True)
    shown = subprocess.run([tmp_path / "show"], capture_output=True, text=True, check=True).stdout
    label = quickstart.packed.about.labels[int(quickstart.expected[0].argmax())]
    assert re.fullmatch(rf"{label} \(\d+ bytes of RAM\)\n", shown)
