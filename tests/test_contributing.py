"""CONTRIBUTING.md sends people to files and names that are there."""

from __future__ import annotations

import pytest

from tests.documents import ROOT
from tests.pages import missing, pointers

PAGE = ROOT / "CONTRIBUTING.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="only in a checkout")


@pytest.mark.parametrize("what", ["A recipe", "A data set", "A layer", "A form of export"])
def test_each_thing_to_add_has_its_files(what: str) -> None:
    _, found, text = PAGE.read_text("utf-8").partition(f"\n**{what}")
    assert found
    assert len(pointers(text.partition("\n**")[0])) >= 2


def test_what_is_named_is_there() -> None:
    assert [gone for file, name in pointers(PAGE.read_text("utf-8")) if (gone := missing(file, name))] == []
