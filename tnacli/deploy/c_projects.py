"""The few lines with which CMake, the Arduino IDE and Zephyr take a folder with exported C as a library.

Written after CMake's documentation, revision 2.2 of Arduino's library specification (flat layout), and "Modules" of Zephyr's.
"""

from __future__ import annotations

from collections.abc import Callable

from tnacli.deploy.c import origin_text
from tnacli.errors import UsageError
from tnacli.packed.spec import Origin
from tnacli.version import __version__

_RESERVED = (
    "all",
    "clean",
    "depend",
    "edit_cache",
    "help",
    "install",
    "package",
    "preinstall",
    "rebuild_cache",
    "test",
)
_URL = "https://arxiv.org/abs/2409.15849"


def project_files(kind: str, name: str, origin: Origin, *, vectors: bool) -> dict[str, bytes]:
    """What `kind`, one of `PROJECTS`, needs beside `name`.h and `name`.c, by path in their folder.

    `vectors`: test vectors lie there too. Raises UsageError for another kind, or what it cannot build.
    """
    if kind not in PROJECTS:
        raise UsageError(f"--for is one of {', '.join(PROJECTS)}, not {kind!r}")
    return {path: text.encode("ascii") for path, text in PROJECTS[kind](name, origin, vectors).items()}


def _cmake(name: str, origin: Origin, vectors: bool) -> dict[str, str]:
    if name.lower() in _RESERVED:
        raise UsageError(f"CMake has a target {name} of its own; choose another name with -o")
    text = f"""# Written by tnacli {__version__}: add_subdirectory(this folder), then target_link_libraries(yours PRIVATE {name}).
cmake_minimum_required(VERSION 3.13)
project({name} C)
add_library({name} STATIC {name}.c)
target_include_directories({name} PUBLIC "${{CMAKE_CURRENT_SOURCE_DIR}}")
set_target_properties({name} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
"""
    if vectors:
        text += f"""
# cmake --build build --target {name}_vectors && ctest --test-dir build
enable_testing()
add_executable({name}_vectors EXCLUDE_FROM_ALL {name}_vectors.c)
target_link_libraries({name}_vectors PRIVATE {name})
add_test(NAME {name}_vectors COMMAND {name}_vectors)
"""
    return {"CMakeLists.txt": text}


def _arduino(name: str, origin: Origin, vectors: bool) -> dict[str, str]:
    if vectors:
        raise UsageError(
            "--for arduino: the IDE compiles every file in the folder into the sketch, the main of --vectors too; leave one out"
        )
    fields = {
        "name": name,
        "version": "1.0.0",
        "author": f"tnacli {__version__}",
        "maintainer": "whoever exported it",
        "sentence": "A spiking neural network with ternary weights.",
        "paragraph": f"From: {origin_text(origin)}",
        "category": "Data Processing",
        "url": _URL,
        "architectures": "*",
        "includes": f"{name}.h",
    }
    return {"library.properties": "".join(f"{key}={value}\n" for key, value in fields.items())}


def _zephyr(name: str, origin: Origin, vectors: bool) -> dict[str, str]:
    module = f"""# Written by tnacli {__version__}: west build ... -- -DEXTRA_ZEPHYR_MODULES=the folder of {name}.h
name: {name}
build:
  cmake: zephyr
"""
    build = f"""zephyr_library_named({name})
zephyr_library_sources(${{CMAKE_CURRENT_SOURCE_DIR}}/../{name}.c)
zephyr_library_compile_options(-ffp-contract=off)
zephyr_include_directories(${{CMAKE_CURRENT_SOURCE_DIR}}/..)
"""
    return {"zephyr/module.yml": module, "zephyr/CMakeLists.txt": build}


PROJECTS: dict[str, Callable[[str, Origin, bool], dict[str, str]]] = {
    "cmake": _cmake,
    "arduino": _arduino,
    "zephyr": _zephyr,
}
"""By what `--for` calls them."""
