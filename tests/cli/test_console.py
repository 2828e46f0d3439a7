"""What a terminal shows, by its width, and what becomes of output that cannot be written."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.cli.conftest import environment
from tnacli.cli.console import Output
from tnacli.cli.fitting import without_shared_folder
from tnacli.cli.streams import READER_GONE, Explained
from tnacli.errors import StorageError

COLUMNS = ["run", "weights", "seeds", "test accuracy %", "packed file", "training", "note"]
NUMBERS = ["test accuracy %", "packed file", "training"]


def on_a_terminal(width: int, rows: list[list[str]], columns: list[str] = COLUMNS) -> list[str]:
    received = io.StringIO()
    terminal = Console(file=received, force_terminal=True, color_system=None, width=width, soft_wrap=True)
    Output(stdout=terminal).table("a title", columns, rows, right=NUMBERS)
    return received.getvalue().splitlines()


@given(
    st.integers(20, 200),
    st.lists(st.tuples(st.text("ab_-/ ", max_size=40), st.floats(0, 100)), min_size=1, max_size=4),
)
def test_numbers_stay_whole_at_every_width(width: int, found: list[tuple[str, float]]) -> None:
    rows = [
        [f"r{text}", "ternary", "0, 1", f"{number:.2f} ± 1.25", "9.1 kB", "2:10:00 h", text] for text, number in found
    ]
    lines = on_a_terminal(width, rows)
    shown = "\n".join(lines)
    for row in rows:
        for number in (*row[3].split(" ± "), row[4], row[5]):
            assert number in shown
    if "─" in shown:
        assert max(map(len, lines)) <= width
        for heading in ("accuracy", "packed", "training"):
            assert heading in shown.split()


ROWS = [
    ["a", "fp32", "0", "95.83 ± 0.25", "", "20.2 s", ""],
    ["b", "ternary", "0", "95.00 ± 1.00", "9.1 kB", "1.0 s", "smoke"],
]


def test_means_are_broken_before_a_table_is_parted() -> None:
    assert [line.rstrip() for line in on_a_terminal(56, ROWS) if line.strip()] == [
        "a title",
        "                          test",
        "                      accuracy  packed",
        " run  weights  seeds         %    file  training  note",
        " ──────────────────────────────────────────────────────",
        " a    fp32     0         95.83            20.2 s",
        "                        ± 0.25",
        " b    ternary  0         95.00  9.1 kB     1.0 s  smoke",
        "                        ± 1.00",
    ]  # fmt: skip


def test_a_table_that_fits_in_two_is_parted_by_what_tells_its_rows_apart() -> None:
    rows = [["a", "fp32", *ROWS[0][2:]], ["a", "ternary", *ROWS[1][2:]]]
    first, second = "\n".join(on_a_terminal(46, rows)).split("\n" + " " * 12 + "\n", 1)[0], on_a_terminal(46, rows)
    assert "a title" in first
    heads = [line.split() for line in second if "run" in line]
    assert [line[:2] for line in heads] == [["run", "weights"], ["run", "weights"]]
    assert sum("95.83" in line for line in second) == 1
    assert sum("fp32" in line for line in second) == 2, "in both parts"
    assert max(map(len, second)) <= 46


def test_a_terminal_too_narrow_for_two_tables_gets_a_line_a_cell() -> None:
    assert on_a_terminal(20, ROWS) == [
        "a title",
        "run              a",
        "weights          fp32",
        "seeds            0",
        "test accuracy %  95.83 ± 0.25",
        "training         20.2 s",
        "",
        "run              b",
        "weights          ternary",
        "seeds            0",
        "test accuracy %  95.00 ± 1.00",
        "packed file      9.1 kB",
        "training         1.0 s",
        "note             smoke",
    ]


@given(st.integers(20, 200))
def test_paths_are_shortened_by_what_they_share_only_where_there_is_no_room(width: int) -> None:
    rows = [[n, Path(f"a/long/folder/for/runs/{n}/last.pt"), 1.5] for n in ("one", "two")]
    received = io.StringIO()
    terminal = Console(file=received, force_terminal=True, color_system=None, width=width, soft_wrap=True)
    Output(stdout=terminal).table("runs", ["run", "file", "size"], rows, right=["size"])
    shown = received.getvalue()
    if width >= 3 + 34 + 4 + 8:
        assert "a/long/folder/for/runs/one/last.pt" in shown
        assert "below" not in shown
    else:
        assert " ".join(shown.split()).startswith("runs, file below a/long/folder/for/runs ")
        assert "one/last.pt" in shown.replace("\n", "")


def test_paths_that_share_nothing_stay_as_they_are() -> None:
    for paths in (["a/x", "b/y"], ["/a/x", "b/y"], ["a/x", "a/x"], ["a/x", "y"]):
        assert without_shared_folder([Path(path) for path in paths]) is None
    assert without_shared_folder([Path("a/x"), "y"]) is None
    assert without_shared_folder([Path("a/b/x"), Path("a/c/x")]) == (Path("a"), ["b/x", "c/x"])
    assert without_shared_folder([Path("/b/x"), Path("/c/x")]) is None


class Broken(io.StringIO):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "raised", "code"),
    [(errno.ENOSPC, StorageError, 8), (errno.EIO, StorageError, 8), (errno.EPIPE, SystemExit, READER_GONE)],
)
def test_output_that_fails_once_fails_for_good(number: int, raised: type[BaseException], code: int) -> None:
    stream = Explained(Broken(number), "stdout")
    assert stream.write("text") == 4
    for attempt in (stream.flush, lambda: stream.write(""), lambda: stream.writelines([])):
        with pytest.raises(raised) as caught:
            attempt()  # type: ignore[operator]
        assert (caught.value.exit_code if isinstance(caught.value, StorageError) else caught.value.code) == code  # type: ignore[attr-defined]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs the device that is always full")
@pytest.mark.parametrize("arguments", [["recipes", "--schema"], ["recipes"], ["--help"]])
def test_a_full_disk_behind_stdout_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tnacli", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 8
    assert done.stderr.startswith("error: stdout could not be written: No space left on device")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["recipes", "--schema"], ["recipes"]])
def test_a_reader_that_goes_early_is_no_bug(arguments: list[str]) -> None:
    """`tna recipes | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "tnacli", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == READER_GONE
