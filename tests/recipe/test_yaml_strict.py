"""Values mean what they look like, whatever other readers of YAML make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tnacli.recipe.parse.node import Node, plain
from tnacli.recipe.parse.yaml_strict import read_value, read_yaml, scalar

PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | PRINTABLE
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(PRINTABLE, inner), max_leaves=20)


@given(tree=st.dictionaries(PRINTABLE, TREES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_json_is_read_as_json(tree: dict[str, Any], folder: Path) -> None:
    (folder / "a.yaml").write_text(json.dumps(tree, ensure_ascii=False), "utf-8")
    node, problems = read_yaml(folder / "a.yaml", "a.yaml")
    assert not problems
    assert plain(node) == tree


@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63) + 1, 2**63 - 1))
def test_numbers_as_python_writes_them(value: float) -> None:
    read = scalar(repr(value))
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1e5", 1e5), ("1E+2", 100.0), (".5", 0.5), ("-.5e1", -5.0), ("1.", 1.0),
        ("0.50", 0.5), ("+3", 3), ("-0", 0), ("", None), ("~", None), ("null", None),
        ("true", True), ("false", False),
    ],
)  # fmt: skip
def test_plain_values(text: str, value: Any) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["on", "off", "yes", "no", "y", "n", "True", "FALSE", "Null", "NULL", "none", "0x10", "0o17", "0b1",
     "1_000", "1:30", "12:30:45", "2024-01-01", "1e", "1e-", ".e3", ".", "+", "-", "5.3.1", "1.2e3.4", "inf",
     "nan", "Infinity", "60%", "3a", "٣", "1,5", "=", "<<", "cuda:1"],
)  # fmt: skip
def test_whatever_is_no_number_stays_text(text: str) -> None:
    assert scalar(text) == text


@pytest.mark.parametrize(
    "text", ["010", "00", "-007", "+01.5", "08", "09e1", ".inf", "-.Inf", ".NaN", "1e999", "9" * 19]
)
def test_doubtful_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"begins with 0|not a finite number|too large"):
        scalar(text)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_make_text(quote: str) -> None:
    for text in ("010", "true", "1e-3", "", ".inf", "~"):
        node, problems = read_value(f"{quote}{text}{quote}", "--set", "x")
        assert not problems
        assert node.value == text


def test_every_value_knows_its_line(folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "# a comment\na:\n  b: 1\n  c: [x,\n      y]\n\nd: |\n  text\n  more\ne: {f: {g: 2}}\n"
    )
    node, problems = read_yaml(folder / "a.yaml", "somewhere/a.yaml", layer=4)
    found: dict[str, str] = {}

    def collect(node: Node) -> None:
        found[node.key] = str(node.origin)
        assert node.layer == 4
        for child in node.value if isinstance(node.value, list) else node.entries.values():
            collect(child)

    collect(node)
    lines = {"a": 2, "a.b": 3, "a.c": 4, "a.c[0]": 4, "a.c[1]": 5, "d": 7, "e": 10, "e.f": 10, "e.f.g": 10}
    assert not problems
    assert {key: place for key, place in found.items() if key} == {
        key: f"somewhere/a.yaml:{line}" for key, line in lines.items()
    }


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n", "\ufeff", "\n\n"])
def test_an_empty_file_is_an_empty_mapping(text: str, folder: Path) -> None:
    (folder / "a.yaml").write_text(text, "utf-8")
    node, problems = read_yaml(folder / "a.yaml", "a.yaml")
    assert (node.value, problems, node.broken) == ({}, [], False)


def test_line_ends_and_byte_order_mark_of_windows(folder: Path) -> None:
    (folder / "a.yaml").write_bytes("\ufeffa: 1\r\nb: 2\r\n".encode())
    node, problems = read_yaml(folder / "a.yaml", "a.yaml")
    assert (plain(node), problems) == ({"a": 1, "b": 2}, [])
    assert node.entries["b"].origin.line == 2


def test_a_file_that_cannot_be_read_says_why(folder: Path) -> None:
    node, problems = read_yaml(folder, "here")
    assert node.broken
    assert [str(problem) for problem in problems] == ["here: cannot be read: Is a directory"]


@given(text=st.text(st.characters(codec="utf-8"), min_size=1))
def test_plain_text_of_an_override_is_taken_whole(text: str) -> None:
    if text.strip().startswith(tuple("[{\"'&*!|>%@`")):
        return
    node, problems = read_value(text, "--set", "x")
    if isinstance(node.value, str):
        assert node.value == text.strip()
        assert bool(problems) == node.broken
