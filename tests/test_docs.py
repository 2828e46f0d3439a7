"""What the documents say is what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="only in a checkout")


def blocks(path: Path) -> list[str]:
    """The fenced blocks of a page, without their fences."""
    return re.findall(r"^```[a-z]*\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = [line for block in blocks(README) for line in block.splitlines() if "-m pytest" in line]
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readme_names_every_command_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from tnacli.cli.app import app

    names = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    text = README.read_text(encoding="utf-8")
    used = set(re.findall(r"(?:^|[`$/ ])tna ([a-z][a-z-]+)", text))
    assert used - {"train"} <= names
    assert {str(name) for name in names} <= used


def test_links_between_pages_lead_somewhere() -> None:
    for page in (README, *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    from tnacli import errors

    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", README.read_text(encoding="utf-8"), flags=re.M)}
    raised = {e.exit_code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.TnaError)}
    assert documented == {0, *raised}


def test_recipes_of_the_readme_exist() -> None:
    from tnacli.recipe.find import list_recipes

    names = {entry.name for entry in list_recipes()}
    for name in re.findall(r"tna train (?:recipes/)?([a-z0-9_]+)", README.read_text(encoding="utf-8")):
        assert name in names


def test_python_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "tnacli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tna ")
