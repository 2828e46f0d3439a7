"""The prepared quarter of an hour, as far as it can be tried without a GPU: it keeps to its time and keeps what it finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.quarter_hour import MINUTES, PARTS, ROOT, Finding, Part, run


def quick(name: str, code: str, seconds: float = 30) -> Part:
    return Part(name, ("-c", code), seconds)


def test_a_part_that_hangs_or_fails_costs_no_other(tmp_path: Path) -> None:
    waits = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    hangs = f"import subprocess, sys; print('began', flush=True); subprocess.run({waits})"
    parts = [quick("hangs", hangs, 2), quick("fails", "raise SystemExit(3)"), quick("finds", "print('FOLDER')")]
    found = run(parts, tmp_path / "found", 1)
    assert [(one.part, one.ended) for one in found] == [("hangs", "cut off"), ("fails", 3), ("finds", 0)]
    assert (tmp_path / "found" / "hangs.txt").read_text() == "began\n"
    kept = json.loads((tmp_path / "found" / "findings.json").read_text())
    assert [Finding(**one) for one in kept] == found


def test_it_ends_in_time_and_says_what_it_did_not_begin(tmp_path: Path) -> None:
    long = quick("long", "import time; time.sleep(60)", 50)
    found = run([long, quick("late", "print(1)")], tmp_path, 12 / 60)
    assert [one.ended for one in found] == ["cut off", "not begun"]
    assert not (tmp_path / "late.txt").exists()


def test_what_is_found_is_kept_before_the_next_part_begins(tmp_path: Path) -> None:
    looks = f"import pathlib; print(pathlib.Path({str(tmp_path)!r}, 'findings.json').read_text())"
    run([quick("first", "pass"), quick("second", looks)], tmp_path, 1)
    assert [one["part"] for one in json.loads((tmp_path / "second.txt").read_text())] == ["first"]


def test_all_parts_fit_into_the_time() -> None:
    assert sum(part.seconds for part in PARTS) <= 60 * MINUTES


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in PARTS if "pytest" in part.arguments], ids=lambda part: part.name)
def test_the_tests_that_it_runs_are_there(part: Part) -> None:
    done = subprocess.run(
        [sys.executable, *part.arguments, "--collect-only"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    for file in (word for word in part.arguments if word.endswith(".py")):
        assert f"{file}::" in done.stdout
