"""The packed files of docs/results still say what they said, on the real test set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tests.documents import ROOT
from tnacli.packed.file import read_packed

FILES = sorted((ROOT / "docs" / "results" / "packed").glob("*.tna"))


@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason="only in a checkout")
def test_a_kept_packed_file_has_the_accuracy_of_its_run(tna: Tna, real_cifar10: Path) -> None:
    """All 10,000 images, from the file alone; every other file differs only in its weights."""
    file = FILES[0]
    evaluated = tna("evaluate", file, "--data-root", real_cifar10, "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["accuracy"] == read_packed(file).about.origin.accuracy
