"""docs/lif.md lists every definition of the neuron, and what it names is there."""

from __future__ import annotations

import re

import pytest

from tests.documents import ROOT
from tests.pages import missing, pointers

PAGE = ROOT / "docs" / "lif.md"
FIRES = re.compile(r">=\s*(?:[\w.]+\()?[\w.]*threshold|GreaterOrEqual", re.I)

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="only in a checkout")


def named() -> list[tuple[str, str]]:
    return pointers(PAGE.read_text("utf-8"))


def test_what_the_page_names_is_there() -> None:
    assert len(named()) > 30
    assert [gone for file, name in named() if (gone := missing(file, name))] == []


def test_every_file_in_which_neurons_fire_is_listed() -> None:
    listed = {file for file, _ in named()}
    fires = {
        path.relative_to(ROOT / "tnacli").as_posix()
        for kind in ("*.py", "*.c", "*.h")
        for path in (ROOT / "tnacli").rglob(kind)
        if FIRES.search(path.read_text("utf-8"))
    }
    assert {
        "snn/lif.py",
        "native/lif.h",
        "native/variant.h",
        "packed/plain.py",
        "deploy/network.c",
        "deploy/onnx.py",
        "deploy/nir_steps.py",
    } <= fires
    assert fires <= listed, "a definition of the neuron that docs/lif.md does not list"
