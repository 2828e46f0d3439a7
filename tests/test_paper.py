"""docs/paper.md says where each equation, section, table and figure of the paper is computed.

python -m tests.test_paper    writes the page's second table
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict

import pytest

from tests.documents import ROOT

PAGE = ROOT / "docs" / "paper.md"
BEGIN, END = "<!-- written by python -m tests.test_paper -->\n", "<!-- end -->\n"
PARTS = ("Eq. 1", "Eq. 4", "Eq. 5", "Eq. 6", "section 4.2", "section 5.3.1", "section 5.3.3", "Table 1", "Table 2", "Table 3",
         "Figure 2", "Figure 3a", "Figure 3b")  # fmt: skip
CITED = re.compile(r"\b(?:Eq\. \d|section \d(?:\.\d)+)")

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="only in a checkout")


def rows() -> dict[str, str]:
    """The rest of each row of the page's first table, by the part of the paper."""
    first, _, _ = PAGE.read_text("utf-8").partition(BEGIN)
    found = re.findall(r"^\| ([^|]+) \|(.*)\|$", first, flags=re.M)
    return dict(found[1:])  # but for the heading


def places(row: str) -> list[tuple[str, str]]:
    """The files and recipes that a row names, each with the name after its `:`, or nothing."""
    return re.findall(r"`([\w/]+\.(?:py|c|h|yaml))(?::(\w+))?`", row.replace("; `", "`, `").replace("(`", "`"))


def turned_round() -> str:
    """The second table: a row a file of the package, with the parts of the paper it serves."""
    serves = defaultdict(list)
    for part, row in rows().items():
        for file, _ in places(row):
            if not file.endswith(".yaml") and part not in serves[file]:
                serves[file].append(part)
    lines = [f"| `{file}` | {', '.join(parts)} |" for file, parts in sorted(serves.items())]
    return "\n".join(["| file | of the paper |", "|---|---|", *lines, ""])


def test_every_part_of_the_paper_has_a_row() -> None:
    assert set(PARTS) <= set(rows())
    assert all(places(row) for row in rows().values())


@pytest.mark.parametrize("part", [*PARTS, "network, training, data"])
def test_what_a_row_names_is_there(part: str) -> None:
    for file, name in places(rows()[part]):
        path = ROOT / "recipes" / file if file.endswith(".yaml") else ROOT / "tnacli" / file
        assert path.exists(), path
        if name:
            assert name in defined(path.read_text("utf-8")), (file, name)


def defined(source: str) -> set[str]:
    """The functions, classes and constants at the top of a Python file."""
    names = set()
    for node in ast.parse(source).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def test_whatever_cites_the_paper_is_listed() -> None:
    for path in [path for kind in ("*.py", "*.[ch]") for path in (ROOT / "tnacli").rglob(kind)]:
        for part in set(CITED.findall(path.read_text("utf-8"))):
            file = path.relative_to(ROOT / "tnacli").as_posix()
            other = f"Li and Liu 2016, {part}" in path.read_text("utf-8")
            if part in PARTS and not other:
                assert file in [name for name, _ in places(rows()[part])], (part, file)


def test_the_second_table_is_the_first_one_turned_round() -> None:
    _, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    assert rest.partition(END)[0] == turned_round(), "python -m tests.test_paper writes it"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{turned_round()}{END}{rest.partition(END)[2]}", "utf-8")
