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
        for number in (row[3], row[4], row[5]):
            assert number in shown
    if "─" in shown:
        assert max(map(len, lines)) <= width
        header = shown.partition("─")[0].split()
        assert {"accuracy", "packed", "training"} <= set(header)


def test_a_terminal_too_narrow_for_a_table_gets_a_line_a_cell() -> None:
    rows = [["a", "fp32", "0", "95.83", "", "20.2 s", ""], ["b", "ternary", "0", "95.00", "9.1 kB", "1.0 s", "smoke"]]
    assert on_a_terminal(40, rows) == [
        "a title",
        "run              a",
        "weights          fp32",
        "seeds            0",
        "test accuracy %  95.83",
        "training         20.2 s",
        "",
        "run              b",
        "weights          ternary",
        "seeds            0",
        "test accuracy %  95.00",
        "packed file      9.1 kB",
        "training         1.0 s",
        "note             smoke",
    ]


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
