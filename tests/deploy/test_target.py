"""`tna export --format c --target-cc`: the footprint on another machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.deploy.conftest import Quickstart
from tnacli.deploy import c_build
from tnacli.deploy.c import c_source

TARGET = "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb"
needs_target = pytest.mark.skipif(
    shutil.which(TARGET.split()[0]) is None, reason="needs arm-none-eabi-gcc (Debian: gcc-arm-none-eabi)"
)


@needs_target
def test_flash_and_stack_are_those_of_the_target(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    export = ("export", quickstart.checkpoint, "--format", "c", "-o", tmp_path / "net", "--samples", 3, "--force")
    done = tna(*export, "--target-cc", TARGET, "--json")
    assert done.code == 0, done.err
    said = done.json["memory_bytes"]
    assert done.json["compiled_by"] == TARGET
    assert done.json["agreeing"] == 3
    subprocess.run([*TARGET.split(), "-std=c99", "-Os", "-c", "-o", tmp_path / "net.o", tmp_path / "net.c"], check=True)
    sizes = subprocess.run(["arm-none-eabi-size", tmp_path / "net.o"], capture_output=True, text=True, check=True)
    text, data, bss = map(int, sizes.stdout.splitlines()[1].split()[:3])
    assert (said["flash"], said["ram"]) == (text + data, data + bss)
    stack = done.json["stack"]
    assert 300 < stack["size_bytes"] < 450
    undefined = subprocess.run(
        ["arm-none-eabi-nm", "-u", tmp_path / "net.o"], capture_output=True, text=True, check=True
    )
    assert (stack["unbounded"], stack["library"]) == (None, sorted(undefined.stdout.replace("U", "").split()))
    assert "__aeabi_fmul" in stack["library"]
    shown = tna(*export, "--target-cc", TARGET)
    assert f"compiled by {TARGET} {said['flash']:,} bytes" in shown.out
    assert (
        f"stack at most {stack['size_bytes']} bytes and those of {len(stack['library'])} functions of the compiler's library"
        in shown.out
    )
    faster = tna(*export, "--target-cc", f"{TARGET} -O3", "--json").json["memory_bytes"]
    assert faster["flash"] > said["flash"]


@needs_target
def test_pointers_of_four_bytes_take_less(quickstart: Quickstart) -> None:
    source = c_source(quickstart.packed)
    found = c_build.target_footprint(source, TARGET)
    assert found.static_bytes == source.ram_bytes
    assert 5000 < found.flash_bytes < source.table_bytes + 8000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "nir", "--target-cc", "gcc"], "--target-cc applies to --format c, not nir"),
        (
            ["--format", "c", "--target-cc", "no-such-gcc -mcpu=x"],
            "'no-such-gcc -mcpu=x': there is no such program here",
        ),
        (["--format", "c", "--target-cc", "'"], "there is no such program here"),
        (["--format", "c", "--target-cc", ""], "there is no such program here"),
    ],
)
def test_a_target_that_is_none_is_refused(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = tna("export", quickstart.checkpoint, *arguments, "-o", tmp_path / "net")
    assert done.code == 2
    assert said in done.err
    assert not list(tmp_path.iterdir())


@needs_target
def test_arguments_that_its_compiler_does_not_know_are_said(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    command = "arm-none-eabi-gcc -mcpu=cortex-z9"
    done = tna("export", quickstart.checkpoint, "--format", "c", "-o", tmp_path / "net", "--target-cc", command)
    assert done.code == 2
    assert "cortex-z9" in done.err
    assert "are its arguments right?" in done.err
    assert "report" not in done.err
    assert not list(tmp_path.iterdir())
