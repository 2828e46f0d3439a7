"""docs/microcontroller.md: its commands are run as they stand, and its excerpts are the example's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "microcontroller.md"
PROGRAMS = ("arm-none-eabi-gcc", "qemu-system-arm", "cc")

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="only in a checkout")


def fenced(language: str) -> list[str]:
    """The blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_the_excerpts_are_lines_of_the_example() -> None:
    lines = (ROOT / "examples" / "spikingjelly_digits.py").read_text(encoding="utf-8").splitlines()
    excerpts = [line for block in fenced("python") for line in block.splitlines()]
    assert len(excerpts) == 3
    assert [excerpt for excerpt in excerpts if excerpt.strip() not in map(str.strip, lines)] == []


@pytest.mark.slow
def test_the_commands_end_on_an_emulated_board_with_nothing_that_differs(tmp_path: Path) -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [] if find_spec("spikingjelly") else ["spikingjelly"]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    for folder in ("examples", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "bin").mkdir()
    for name, arguments in {"python": "", "tna": "-m tnacli"}.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    printed = []
    for block in fenced("sh"):
        done = subprocess.run(
            ["sh", "-e", "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
        printed.append(done.stdout)
    trained, exported, ran = printed
    numbers = re.compile(r"\d[\d,.]*")
    shown = fenced("text")
    for expected, found in ((shown[0], trained), (shown[1].partition(" and those of")[0], exported)):
        assert numbers.sub("#", found).startswith(numbers.sub("#", expected)), found
    assert float(re.search(r"ternary: ([\d.]+)", trained)[1]) > 85
    assert "360 of 360 predictions equal" in exported
    assert ran == ""


@pytest.mark.slow
def test_a_number_that_differs_is_an_exit_code(tmp_path: Path) -> None:
    """What says 0 on the page must be able to say something else."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    boards = ROOT / "benchmarks" / "boards"
    arguments = [
        sys.executable, "-m", "tnacli", "export", str(boards / "digits.safetensors"), "--format", "c",
        "-o", str(tmp_path / "digits"), "--vectors", "1",
    ]  # fmt: skip
    subprocess.run(arguments, check=True, capture_output=True, cwd=ROOT)
    vectors = tmp_path / "digits_vectors.c"
    source = vectors.read_text()
    changed = re.sub(
        r"(classes\[\d*\] = \{\s*)(\d+)", lambda found: f"{found[1]}{(int(found[2]) + 1) % 10}", source, count=1
    )
    assert changed != source
    vectors.write_text(changed)
    flags = [
        "-mcpu=cortex-m4",
        "-mthumb",
        "-Os",
        "-std=c99",
        "-ffp-contract=off",
        "--specs=rdimon.specs",
        "-nostartfiles",
    ]
    files = [str(path) for path in (boards / "start.c", tmp_path / "digits.c", vectors)]
    subprocess.run(
        [
            "arm-none-eabi-gcc",
            *flags,
            "-T",
            str(boards / "link.ld"),
            *files,
            "-o",
            str(tmp_path / "digits.elf"),
        ],
        check=True,
    )
    emulated = [
        "qemu-system-arm",
        "-M",
        "mps2-an386",
        "-nographic",
        "-semihosting",
        "-kernel",
        str(tmp_path / "digits.elf"),
    ]
    assert subprocess.run(emulated, check=False, timeout=120).returncode == 1
