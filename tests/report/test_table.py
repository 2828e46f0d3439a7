"""One table, every format: nothing is lost or changed on the way."""

from __future__ import annotations

import csv as csv_module
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnacli.report.statistics import Spread
from tnacli.report.table import Column, Table, csv, latex, markdown, rows_by_key, text

COLUMNS = (
    Column("name", "name"),
    Column("ours", "ours %", number=True),
    Column("gap", "difference", signed=True, number=True),
    Column("same", "same sign"),
)
texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)
numbers = st.floats(-1e4, 1e4)
spreads = st.builds(Spread, numbers, st.none() | st.floats(0, 1e3), st.integers(1, 9))
rows = st.lists(st.tuples(texts, st.none() | spreads, st.none() | numbers, st.none() | st.booleans()), max_size=5)


@given(rows)
def test_csv_and_json_keep_every_value(rows: list[tuple]) -> None:  # type: ignore[type-arg]
    table = Table("t", COLUMNS, tuple(rows))
    read = list(csv_module.DictReader(io.StringIO(csv(table))))
    found = json.loads(json.dumps(rows_by_key(table), allow_nan=False))
    wide = any(row[1] is not None for row in rows)
    assert len(read) == len(found) == len(rows)
    for row, from_csv, from_json in zip(rows, read, found, strict=True):
        assert from_csv["name"] == from_json["name"] == row[0]
        assert from_json["gap"] == row[2]
        assert (from_csv["gap"] == "") == (row[2] is None)
        if row[2] is not None:
            assert float(from_csv["gap"]) == row[2]
        assert from_json["same"] is row[3]
        if row[1] is not None:
            assert from_json["ours"] == {"mean": row[1].mean, "std": row[1].std, "count": row[1].count}
            assert float(from_csv["ours_mean"]) == row[1].mean
            assert from_csv["ours_std"] == ("" if row[1].std is None else str(row[1].std))
        elif wide:
            assert from_csv["ours_mean"] == ""


@given(rows)
def test_markdown_has_a_cell_for_every_value(rows: list[tuple]) -> None:  # type: ignore[type-arg]
    shown = Table("t", COLUMNS, tuple(rows)).for_people()
    lines = [line for line in markdown(shown).split("\n") if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert line.replace("\\|", "").count("|") == len(shown.columns) + 1


def test_latex_escapes_what_latex_would_obey() -> None:
    table = Table("100 % of a_b", (Column("a", "a & b"), Column("n", "n", number=True)), ((r"x\y $1 {z} ±", -0.5),))
    written = latex(table)
    assert r"100 \% of a\_b" in written
    assert r"a \& b & n \\" in written
    assert r"x\textbackslash{}y \$1 \{z\} $\pm$ & $-$0.50 \\" in written
    assert r"\begin{tabular}{lr}" in written
    assert r"\label{tab:100-of-a-b}" in written
    assert "flushleft" not in written, "no notes"


def test_notes_of_latex_are_below_the_table_and_within_its_environment() -> None:
    written = latex(Table("t", COLUMNS, (("a", None, 1.0, None),), ("50 % of it", "and more")))
    order = [r"\caption{t}", r"\label{tab:t}", r"\end{tabular}", r"\begin{flushleft}", r"50 \% of it\par", r"and more\par",
             r"\end{flushleft}", r"\end{table}"]  # fmt: skip
    assert sorted(order, key=written.index) == order


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Spread(71.904, 0.306, 5), "+71.90 ± 0.31"),
        (Spread(-0.5, None, 1), "-0.50"),
        (-0.001, "0.00"),
        (0.001, "0.00"),
        (1.0, "+1.00"),
        (3, "3"),
        (True, "yes"),
        (None, ""),
    ],
)
def test_numbers_as_people_read_them(value: object, expected: str) -> None:
    assert text(value, Column("x", "x", signed=True)) == expected  # type: ignore[arg-type]


def test_columns_without_values_are_left_out_for_people_only() -> None:
    table = Table("t", COLUMNS, (("a", None, 1.0, None),))
    assert [column.key for column in table.for_people().columns] == ["name", "gap"]
    assert rows_by_key(table)[0].keys() == {"name", "ours", "gap", "same"}


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 values for 4 columns"):
        Table("t", COLUMNS, (("a",),))
