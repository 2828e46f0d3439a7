"""The list of mutations fits the code, its script tells what is caught from what survives, and its findings are documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import mutations
from tests.mutations import ListError, Mutation

LISTED = mutations.mutations()
ROOMS = {"recipe", "data", "snn", "quant", "objectives", "training", "evaluation", "packed", "deploy", "report", "cli"}


def test_every_old_text_is_found_once_and_every_test_is_there() -> None:
    assert mutations.problems(LISTED) == []


def test_every_room_is_covered() -> None:
    assert len(LISTED) >= 40
    assert {mutation.room for mutation in LISTED} >= ROOMS


def test_what_is_documented_is_the_list_and_none_survives() -> None:
    said = mutations.section()
    assert re.match(rf"\d+ \w+ \d{{4}}: {len(LISTED)} changes, {len(LISTED)} caught, 0 survived, 0 timed out\.\n", said)
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| ")][1:]
    assert [(row[0].removeprefix("| "), row[1]) for row in rows] == [(m.room, m.what) for m in LISTED]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"old": "no such text anywhere"}, "found 0 times"),
        ({"old": "import"}, r"found \d+ times"),
        ({"new": LISTED[0].old}, "changes nothing"),
        ({"tests": ("tests/no_such.py",)}, "no test tests/no_such.py"),
        ({"tests": ("tests/test_constants.py::test_no_such",)}, "no test tests/test_constants.py::test_no_such"),
    ],
)
def test_a_list_that_does_not_fit_is_an_error(change: dict[str, object], said: str) -> None:
    fields = {name: getattr(LISTED[0], name) for name in ("what", "file", "old", "new", "tests")}
    (problem,) = mutations.problems([Mutation(**{**fields, **change})])
    assert re.search(said, problem)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package of one function, and tests of it: of its value, and of nothing."""
    (tmp_path / "rule.py").write_text("def at_least(value, bound):\n    return value >= bound\n")
    header = "import sys; sys.path.insert(0, '.')\nfrom rule import at_least\n\ndef test_it():\n"
    (tmp_path / "test_good.py").write_text(f"{header}    assert at_least(1, 1)\n")
    (tmp_path / "test_idle.py").write_text(f"{header}    assert at_least(2, 1)\n")
    return tmp_path


@pytest.mark.parametrize(
    ("new", "tests", "outcome", "by"),
    [
        ("value > bound", ("test_idle.py", "test_good.py"), "caught", "test_good.py::test_it"),
        ("value > bound", ("test_idle.py",), "survived", ""),
    ],
)
def test_a_change_is_caught_by_a_test_that_can_fail(
    tree: Path, new: str, tests: tuple[str, ...], outcome: str, by: str
) -> None:
    before = (tree / "rule.py").read_text()
    found = mutations.attempt(tree, Mutation("x", "rule.py", "value >= bound", new, tests))
    assert (found.outcome, found.by) == (outcome, by)
    assert (tree / "rule.py").read_text() == before


def test_a_change_with_which_nothing_can_be_imported_is_an_error(tree: Path) -> None:
    with pytest.raises(ListError, match="cannot be run with it"):
        mutations.attempt(tree, Mutation("x", "rule.py", "value >= bound", "(", ("test_good.py",)))


def test_a_change_that_never_ends_is_told_apart(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "TIMEOUT_SECONDS", 3)
    change = Mutation("x", "rule.py", "return value >= bound", "while True: pass", ("test_good.py",))
    assert mutations.attempt(tree, change).outcome == "timed out"
