"""docs/journeys.md: every step of a journey is where the page says, and none takes long."""

from __future__ import annotations

import re

import pytest

from tests.documents import ROOT
from tests.pages import missing, pointers

PAGE = ROOT / "docs" / "journeys.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="only in a checkout")


def steps() -> dict[str, list[str]]:
    """The numbered steps of each journey, by its heading."""
    parts = re.split(r"^## (.+)$", PAGE.read_text("utf-8"), flags=re.M)[1:]
    return {
        title: re.split(r"^\d+\. ", text, flags=re.M)[1:] for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def test_there_are_three() -> None:
    assert list(steps()) == [
        "An alpha, from YAML to the loss",
        "An image, from disk to logits",
        "A latent weight, to a byte in the packed file",
    ]


def test_each_step_names_a_file_and_a_function_and_none_takes_ten_files() -> None:
    for title, walked in steps().items():
        assert all(pointers(step)[0][1] for step in walked), title
        assert 5 < len({file for step in walked for file, _ in pointers(step)}) < 10, title


def test_what_is_named_is_there() -> None:
    named = pointers(PAGE.read_text("utf-8"))
    assert len(named) > 30
    assert [gone for file, name in named if (gone := missing(file, name))] == []


def test_a_name_that_is_not_there_is_seen() -> None:
    assert missing("build.py", "build_network") == ""
    assert missing("build.py", "network") == "build.py:network"  # a function within another
    assert missing("training/loop.py", "Trainer.step") == "training/loop.py:Trainer.step"
    assert missing("builder.py") == "builder.py"
