"""The table of results says which seeds it is over."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tnacli.cli.results import seeds_text


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([0], "0"), ([0, 1, 2], "0, 1, 2"), (range(24), "0 to 23"), ([5, 6, 7, 8, 2, 9], "5 to 8, 2, 9")],
)
def test_many_seeds_in_a_row_are_a_range(seeds: Iterable[int], text: str) -> None:
    assert seeds_text(seeds) == text
