"""The files of tnacli that the run-time shares, under its own name: the same text, but for the package in import lines.

A package of its own, so that both can be installed side by side and neither finds the other's files in its place.
"""

from __future__ import annotations

import re
from pathlib import Path

TNACLI = Path(__file__).resolve().parent.parent / "tnacli"
OWN = Path(__file__).resolve().parent / "tnacli_runtime"
SHARED = (
    "data/__init__.py",
    "data/folders.py",
    "data/image_files.py",
    "deploy/__init__.py",
    "deploy/numbers.py",
    "errors.py",
    "likeliest.py",
    "machine.py",
    "native/__init__.py",
    "native/compile.py",
    "native/engine.c",
    "native/entries.h",
    "native/library.py",
    "native/lif.h",
    "native/ordered.py",
    "native/sums.h",
    "native/threads.py",
    "native/variant.h",
    "packed/__init__.py",
    "packed/codec.py",
    "packed/compiled.py",
    "packed/container.py",
    "packed/document.py",
    "packed/engine.py",
    "packed/file.py",
    "packed/network.py",
    "packed/plain.py",
    "packed/spec.py",
    "packed/steps.py",
    "pixels.py",
    "places.py",
    "recipe/__init__.py",
    "recipe/schema/__init__.py",
    "recipe/schema/section.py",
    "storage.py",
    "version.py",
)
_IMPORT = re.compile(r"^(\s*(?:from|import) )(tnacli|pydantic)\b", flags=re.M)
_NAMES = {"tnacli": "tnacli_runtime", "pydantic": "tnacli_runtime.checked"}


def renamed(text: str) -> str:
    """`text` of a Python file whose imports are of the run-time: tnacli's own, and `checked` in place of pydantic."""
    return _IMPORT.sub(lambda match: match[1] + _NAMES[match[2]], text)


def collect(into: Path) -> dict[Path, str]:
    """Write the shared files below the folder `into`: where each is, and its path in the package `tnacli_runtime`."""
    written = {}
    for name in SHARED:
        text = (TNACLI / name).read_text(encoding="utf-8")
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(renamed(text) if target.suffix == ".py" else text, encoding="utf-8", newline="\n")
        written[target] = name
    return written


def version() -> str:
    """tnacli's, which is the run-time's: of the checkout, or of a source distribution, which holds the files already."""
    file = (TNACLI if TNACLI.exists() else OWN) / "version.py"
    found = re.search(r'^__version__ = "(.+)"$', file.read_text(encoding="utf-8"), flags=re.M)
    assert found is not None
    return found[1]
