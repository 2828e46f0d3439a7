"""Changes to the code that the tests must catch (tests/mutations.yaml), made one at a time in a copy of the tree.

    python -m tests.mutations [WORD ...]    tries those whose description or file has a WORD; all of them without one, which
                                            also writes what was found into docs/reliability.md

A change is caught if a test that is named for it fails, and has survived if they all pass. It is an error of the list if the
old text is not found exactly once, if a named test fails without the change, or if one cannot even be collected with it.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_suffix(".yaml")
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- written by python -m tests.mutations -->\n", "<!-- end -->\n"
COPIED = ("tnacli", "tests", "recipes", "docs", "examples", "benchmarks", "pyproject.toml", "README.md", "CHANGELOG.md")
TIMEOUT_SECONDS = 180


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in `file`; one of `tests` is to fail."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def room(self) -> str:
        """The part of the package that is changed."""
        return self.file.removeprefix("tnacli/").partition("/")[0].removesuffix(".py")

    def count(self, root: Path = ROOT) -> int:
        """How often the old text is found."""
        return (root / self.file).read_text(encoding="utf-8").count(self.old)


@dataclass(frozen=True)
class Finding:
    """What became of a mutation: "caught" by the test `by`, "survived" or "timed out", after so many seconds."""

    mutation: Mutation
    outcome: str
    by: str
    seconds: float


class ListError(Exception):
    """The list of mutations does not fit the tree."""


def mutations() -> list[Mutation]:
    """The list, as it stands in tests/mutations.yaml."""
    rows = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return [Mutation(row["what"], row["file"], row["old"], row["new"], tuple(row["tests"])) for row in rows]


def problems(found: list[Mutation], root: Path = ROOT) -> list[str]:
    """What is wrong with a list: texts that are not found exactly once, changes that change nothing, tests that are not there."""
    said = [f"{m.what}: its old text is found {m.count(root)} times in {m.file}" for m in found if m.count(root) != 1]
    said += [f"{m.what}: changes nothing" for m in found if m.old == m.new]
    said += [
        f"{m.what}: no test {test}"
        for m in found
        for test in m.tests
        if not _is_there(root / test.partition("::")[0], test)
    ]
    twice = [what for what, count in Counter(m.what for m in found).items() if count > 1]
    return said + [f"{what}: stands in the list twice" for what in twice]


def _is_there(path: Path, test: str) -> bool:
    name = test.partition("::")[2].partition("[")[0]
    return path.is_file() and (not name or f"def {name}(" in path.read_text(encoding="utf-8"))


def copy_tree(folder: Path) -> None:
    """The parts of the tree that the tests need, in `folder`."""
    leave_out = shutil.ignore_patterns("__pycache__", "*.so")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)


def run_tests(folder: Path, tests: tuple[str, ...] | list[str]) -> subprocess.CompletedProcess[str]:
    """pytest in a copy of the tree, up to the first failure. Raises TimeoutExpired."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n0",
        "-m",
        "",
        "-x",
        "-rf",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )


def require_sound(folder: Path, found: list[Mutation]) -> None:
    """Raise ListError unless the named tests are the copy's own and pass as long as nothing is changed."""
    where = [sys.executable, "-c", "import tnacli; print(tnacli.__file__)"]
    loaded = subprocess.run(
        where, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    if not Path(loaded.stdout.strip()).is_relative_to(folder):
        raise ListError(f"the copy's tests would test {loaded.stdout.strip()}")
    for test in sorted({test for mutation in found for test in mutation.tests}):
        done = run_tests(folder, [test])
        if done.returncode:
            raise ListError(f"{test} fails without any change:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


def attempt(folder: Path, mutation: Mutation) -> Finding:
    """Make the change in the copy, run its tests, and take it back. Raises ListError if they cannot be collected."""
    path = folder / mutation.file
    before = path.read_text(encoding="utf-8")
    began = time.monotonic()
    path.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        done = run_tests(folder, mutation.tests)
    except subprocess.TimeoutExpired:
        return Finding(mutation, "timed out", "", time.monotonic() - began)
    finally:
        path.write_text(before, encoding="utf-8")
    seconds = time.monotonic() - began
    if done.returncode == 0:
        return Finding(mutation, "survived", "", seconds)
    failed = re.search(r"^FAILED (\S+?)(\[.*)?( - .*)?$", done.stdout, flags=re.M)
    if done.returncode == 1 and failed is not None:
        return Finding(mutation, "caught", failed[1], seconds)
    raise ListError(f"{mutation.what}: the tests cannot be run with it:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


def table(findings: list[Finding]) -> str:
    """The section's text: a sentence with the date and the counts, and a row a change."""
    outcomes = Counter(finding.outcome for finding in findings)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        f"{today.day} {today:%B %Y}: {len(findings)} changes, {outcomes['caught']} caught, {outcomes['survived']} survived, "
        f"{outcomes['timed out']} timed out.",
        "",
        "| in | change | caught by |",
        "|---|---|---|",
    ]
    for finding in findings:
        path, _, name = finding.by.partition("::")
        caught = f"`{path.removeprefix('tests/')}`: {name.removeprefix('test_')}" if finding.by else finding.outcome
        what = finding.mutation.what.replace("|", "\\|")
        lines.append(f"| {finding.mutation.room} | {what} | {caught} |")
    return "\n".join(lines) + "\n"


def section() -> str:
    """What docs/reliability.md shows of the last run."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main(words: list[str]) -> int:
    """Try the mutations that `words` choose; 0 if all were caught."""
    everything = mutations()
    if wrong := problems(everything):
        raise ListError("\n".join(wrong))
    chosen = [m for m in everything if not words or any(word in f"{m.what} {m.file}" for word in words)]
    os.nice(10)
    findings = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        copy_tree(folder)
        require_sound(folder, chosen)
        for number, mutation in enumerate(chosen, 1):
            finding = attempt(folder, mutation)
            findings.append(finding)
            said = f"{finding.outcome} {finding.seconds:.0f} s  {mutation.room}: {mutation.what}  {finding.by}"
            print(f"{number}/{len(chosen)} {said}", flush=True)
    if not words:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page.replace(section(), table(findings)), encoding="utf-8")
    return int(any(finding.outcome != "caught" for finding in findings))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ListError as error:
        sys.exit(f"error: {error}")
