"""docs/paper.md says where each equation, section, table and figure of the paper is computed.

python -m tests.test_paper    writes the page's second table
"""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from tests.documents import ROOT
from tests.pages import missing, pointers

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


def turned_round() -> str:
    """The second table: a row a file of the package, with the parts of the paper it serves."""
    serves: defaultdict[str, list[str]] = defaultdict(list)
    for part, row in rows().items():
        for file, _ in pointers(row):
            if not file.endswith(".yaml") and part not in serves[file]:
                serves[file].append(part)
    lines = [f"| `{file}` | {', '.join(parts)} |" for file, parts in sorted(serves.items())]
    return "\n".join(["| file | of the paper |", "|---|---|", *lines, ""])


def test_every_part_of_the_paper_has_a_row() -> None:
    assert set(PARTS) <= set(rows())
    assert all(pointers(row) for row in rows().values())


@pytest.mark.parametrize("part", [*PARTS, "network, training, data"])
def test_what_a_row_names_is_there(part: str) -> None:
    assert [gone for file, name in pointers(rows()[part]) if (gone := missing(file, name))] == []


def test_whatever_cites_the_paper_is_listed() -> None:
    for path in [path for kind in ("*.py", "*.[ch]") for path in (ROOT / "tnacli").rglob(kind)]:
        for part in set(CITED.findall(path.read_text("utf-8"))):
            file = path.relative_to(ROOT / "tnacli").as_posix()
            other = f"Li and Liu 2016, {part}" in path.read_text("utf-8")
            if part in PARTS and not other:
                assert file in [name for name, _ in pointers(rows()[part])], (part, file)


def test_the_second_table_is_the_first_one_turned_round() -> None:
    _, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    assert rest.partition(END)[0] == turned_round(), "python -m tests.test_paper writes it"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{turned_round()}{END}{rest.partition(END)[2]}", "utf-8")
