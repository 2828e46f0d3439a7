"""`tna export --format c --for`: CMake configures, builds and runs it; Arduino's and Zephyr's files are as documented.

Neither the Arduino IDE nor Zephyr is run: what they are documented to do with such a folder is done by hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Tna
from tests.deploy.conftest import Quickstart
from tnacli.deploy import c_build

CC = c_build.compiler() or ""
CMAKE = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
pytestmark = pytest.mark.skipif(not CC, reason="no C compiler on this machine")
needs_cmake = pytest.mark.skipif(CMAKE is None, reason="needs cmake (pip install cmake)")

ARDUINO_REQUIRED = {"name", "version", "author", "maintainer", "sentence", "paragraph", "url"}
ARDUINO_KNOWN = ARDUINO_REQUIRED | {"category", "architectures", "includes"}
# What Zephyr documents of its extensions, for a library of its own.
AS_ZEPHYR = """
macro(zephyr_library_named name)
  add_library(${name} STATIC)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
endmacro()
macro(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_compile_options)
  target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_include_directories)
  target_include_directories(app PRIVATE ${ARGN})
endmacro()
"""


def exported(tna: Tna, quickstart: Quickstart, folder: Path, *words: object) -> list[str]:
    """The names of the files in `folder`, exported as "digits"."""
    done = tna("export", quickstart.file, "--format", "c", "-o", folder / "digits", "--samples", 9, *words, "--json")
    assert done.code == 0, done.err
    written = sorted(Path(path).relative_to(folder).as_posix() for path in done.json["paths"])
    assert written == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return written


def application(quickstart: Quickstart, file: Path) -> str:
    """Write a program to `file` that prints the class of each of nine digits, and give what it has to print."""
    pixels = ", ".join(map(str, quickstart.pixels[:9].flatten().tolist()))
    file.write_text(f"""
#include <stdio.h>
#include <digits.h>
static const unsigned char pixels[] = {{{pixels}}};
int main(void)
{{
    static float logits[DIGITS_CLASSES];
    int n;
    for (n = 0; n < 9; n++) printf("%d ", digits_classify(pixels + n * DIGITS_INPUTS, logits));
    return 0;
}}
""")
    return "".join(f"{best} " for best in quickstart.expected[:9].argmax(1).tolist())


def run(*words: object, folder: Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_cmake
def test_cmake_builds_the_library_into_a_program(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    assert exported(tna, quickstart, tmp_path / "net", "--for", "cmake") == ["CMakeLists.txt", "digits.c", "digits.h"]
    expected = application(quickstart, tmp_path / "main.c")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nadd_subdirectory(net)\n"
        "add_executable(app main.c)\ntarget_link_libraries(app PRIVATE digits)\n"
    )
    run(CMAKE, "-S", ".", "-B", "build", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", folder=tmp_path)
    run(CMAKE, "--build", "build", folder=tmp_path)
    assert run(tmp_path / "build" / "app", folder=tmp_path) == expected
    commands = json.loads((tmp_path / "build" / "compile_commands.json").read_text())
    (how,) = [entry["command"] for entry in commands if entry["file"].endswith("digits.c")]
    assert "-std=c99" in how  # or multiplications and additions would be fused where the processor can


@needs_cmake
def test_ctest_runs_the_vectors(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    exported(tna, quickstart, tmp_path, "--for", "cmake", "--vectors", 4)
    run(CMAKE, "-S", ".", "-B", "build", folder=tmp_path)
    run(CMAKE, "--build", "build", "--target", "digits_vectors", folder=tmp_path)
    ctest = Path(str(CMAKE)).with_name("ctest")
    assert "100% tests passed" in run(ctest, "--test-dir", "build", folder=tmp_path)
    text = (tmp_path / "digits_vectors.c").read_text()
    (tmp_path / "digits_vectors.c").write_text(text.replace("digits_logits[40] = {\n", "digits_logits[40] = {\n9"))
    assert text != (tmp_path / "digits_vectors.c").read_text()
    run(CMAKE, "--build", "build", "--target", "digits_vectors", folder=tmp_path)
    failed = subprocess.run([ctest, "--test-dir", "build"], cwd=tmp_path, capture_output=True, check=False)
    assert failed.returncode != 0


def test_arduino_has_all_that_its_specification_requires(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    assert exported(tna, quickstart, tmp_path, "--for", "arduino") == ["digits.c", "digits.h", "library.properties"]
    lines = (tmp_path / "library.properties").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert fields.keys() >= ARDUINO_REQUIRED
    assert fields.keys() <= ARDUINO_KNOWN
    assert all(fields.values())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", fields["name"])
    assert not fields["name"].lower().startswith("arduino")
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert (fields["category"], fields["architectures"]) == ("Data Processing", "*")
    assert (tmp_path / fields["includes"]).exists()
    assert "seed 0" in fields["paragraph"]


def test_a_sketch_in_cpp_links_with_every_file_of_a_flat_library(
    tna: Tna, quickstart: Quickstart, tmp_path: Path
) -> None:
    cpp = shutil.which("c++") or shutil.which("g++")
    if cpp is None:
        pytest.skip("no C++ compiler on this machine")
    library = tmp_path / "digits"
    exported(tna, quickstart, library, "--for", "arduino")
    expected = application(quickstart, tmp_path / "sketch.cpp")
    run(cpp, "-std=gnu++11", f"-I{library}", "-c", "sketch.cpp", "-o", "sketch.o", folder=tmp_path)
    for file in library.glob("*.c"):
        run(*CC.split(), "-std=gnu11", f"-I{library}", "-c", file, "-o", f"{file.stem}.o", folder=tmp_path)
    run(cpp, "-o", "sketch", *sorted(tmp_path.glob("*.o")), folder=tmp_path)
    assert run(tmp_path / "sketch", folder=tmp_path) == expected


@pytest.mark.parametrize("options", [[], ["--integer", "--max-different", "100"]], ids=["floats", "whole numbers"])
def test_on_avr_tables_stay_in_flash(tna: Tna, quickstart: Quickstart, tmp_path: Path, options: list[str]) -> None:
    """With a header that stands for avr-libc's: tables are in the section that PROGMEM names, and read by its functions alone."""
    exported(tna, quickstart, tmp_path, "--for", "arduino", *options)
    (tmp_path / "avr").mkdir()
    (tmp_path / "avr" / "pgmspace.h").write_text("""
#include <string.h>
#define PROGMEM __attribute__((section("progmem_data")))
static uint8_t pgm_read_byte(const void *a) { return *(const uint8_t *)a; }
static uint32_t pgm_read_dword(const void *a) { uint32_t v; memcpy(&v, a, 4); return v; }
static float pgm_read_float(const void *a) { float v; memcpy(&v, a, 4); return v; }
""")
    command = [*CC.split(), "-std=c99", "-D__AVR__", "-I.", "-Wno-unused-function", "-c", "digits.c"]
    run(*command, "-o", "digits.o", folder=tmp_path)
    size = shutil.which("size")
    if size is None:
        pytest.skip("no tool `size` on this machine")
    sections = dict(re.findall(r"^(\S+)\s+(\d+)", run(size, "-A", "digits.o", folder=tmp_path), re.M))
    weights = quickstart.packed.weights
    codes = sum(weights[name].stored.nbytes for name in ("conv2", "fc1"))
    assert int(sections["progmem_data"]) >= codes
    assert int(sections.get(".rodata", 0)) < 512
    taken = run(*command[:-2], "-E", "digits.c", folder=tmp_path)
    assert "pgm_read_byte(" in taken
    assert ("pgm_read_dword(" if options else "pgm_read_float(") in taken.split("number_at", 1)[1]


def test_zephyr_finds_a_module(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    files = ["digits.c", "digits.h", "zephyr/CMakeLists.txt", "zephyr/module.yml"]
    assert exported(tna, quickstart, tmp_path / "net", "--for", "zephyr") == files
    module = yaml.safe_load((tmp_path / "net" / "zephyr" / "module.yml").read_text())
    assert module == {"name": "digits", "build": {"cmake": "zephyr"}}
    assert (tmp_path / "net" / module["build"]["cmake"] / "CMakeLists.txt").exists()


@needs_cmake
def test_what_zephyr_is_asked_for_builds(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    exported(tna, quickstart, tmp_path / "net", "--for", "zephyr")
    expected = application(quickstart, tmp_path / "main.c")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nadd_executable(app main.c)\n"
        f"{AS_ZEPHYR}\nadd_subdirectory(net/zephyr)\ntarget_link_libraries(app PRIVATE digits)\n"
    )
    run(CMAKE, "-S", ".", "-B", "build", folder=tmp_path)
    run(CMAKE, "--build", "build", folder=tmp_path)
    assert run(tmp_path / "build" / "app", folder=tmp_path) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "c", "-o", "net", "--for", "make"], "--for is one of cmake, arduino, zephyr, not 'make'"),
        (["--format", "nir", "-o", "net.nir", "--for", "cmake"], "--for applies to --format c, not nir"),
        (["--format", "c", "-o", "net", "--for", "arduino", "--vectors", "3"], "the main of --vectors too"),
        (["--format", "c", "-o", "test", "--for", "cmake"], "CMake has a target test of its own"),
    ],
)
def test_what_cannot_be_built_is_refused(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = tna("export", quickstart.file, *words)
    assert done.code == 2
    assert said in done.err
    assert not list(tmp_path.iterdir())


def test_a_file_of_ones_own_is_not_replaced(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text("mine")
    export = ("export", quickstart.file, "--format", "c", "-o", tmp_path / "net", "--samples", 0, "--for", "cmake")
    done = tna(*export)
    assert (done.code, "CMakeLists.txt is there already" in done.err) == (2, True)
    assert (tmp_path / "CMakeLists.txt").read_text() == "mine"
    assert not (tmp_path / "net.c").exists()
    assert tna(*export, "--force").code == 0
    assert "add_library(net" in (tmp_path / "CMakeLists.txt").read_text()
