"""The rooms of the house and which may know of which, read from the imports themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tnacli

PACKAGE = Path(tnacli.__file__).parent

# A room may import the rooms listed for it, and itself. Files at the top of the package count as rooms of their own.
ALLOWED = {
    "errors": set(),
    "version": set(),
    "seeds": set(),
    "storage": {"errors"},
    "places": set(),
    "pixels": set(),
    "recipe": {"errors", "places", "version"},
    "report": {"data", "errors", "recipe", "runs", "storage", "version"},
    "runs": {"data", "errors", "recipe", "storage"},
    "data": {"errors", "pixels", "places", "recipe", "seeds", "storage", "version"},
    "snn": {"errors", "places", "recipe"},
    "quant": {"errors", "recipe", "snn"},
    "objectives": {"errors", "recipe", "snn"},
    "build": {"errors", "objectives", "recipe", "seeds", "snn"},
    "evaluation": {"data", "errors", "packed", "quant", "recipe", "snn"},
    "packed": {"errors", "pixels", "quant", "recipe", "snn", "storage", "version"},
    "training": {
        "build", "data", "errors", "evaluation", "objectives", "quant", "recipe", "runs", "seeds", "snn", "storage", "version",
    },
    "deploy": {"errors", "packed", "pixels", "quant", "recipe", "snn", "storage", "training", "version"},
    "importing": {"deploy", "errors", "packed", "snn", "version"},
    "fine_tuning": {"errors", "recipe", "training"},
}  # fmt: skip


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """The rooms that a file imports anywhere, lazily or not."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "tnacli" else [f"tnacli.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("tnacli.")}
    return rooms


def loads_torch(path: Path) -> bool:
    """Whether a file imports torch at module level, outside `if TYPE_CHECKING`."""
    return any(
        isinstance(node, ast.Import | ast.ImportFrom) and "torch" in ast.unparse(node).replace(",", " ").split()
        for node in ast.parse(path.read_text()).body
    )


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", [f for f in FILES if room_of(f) in ALLOWED], ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_room_knows_only_the_rooms_it_may(path: Path) -> None:
    room = room_of(path)
    assert imports(path) - {room, "__version__"} <= ALLOWED[room]


def test_nothing_imports_the_command_line() -> None:
    inside = {path for path in FILES if "cli" in imports(path)}
    assert {room_of(path) for path in inside} <= {"cli", "__main__"}


@pytest.mark.parametrize("room", ["recipe", "runs", "report", "cli"])
def test_rooms_that_answer_at_once_load_no_torch(room: str) -> None:
    offenders = [path.name for path in FILES if room_of(path) == room and loads_torch(path)]
    assert offenders == []


def test_files_stay_small() -> None:
    long = {str(f.relative_to(PACKAGE)): n for f in FILES if (n := len(f.read_text().splitlines())) > 420}
    assert long == {}


@pytest.mark.parametrize("name", ["loop", "distributed", "sums"])
def test_the_loop_knows_nothing_of_what_is_minimised(name: str) -> None:
    """Not what the parts of a loss are called, how they are reduced or weighed, or which kinds of objective there are."""
    tree = ast.parse((PACKAGE / "training" / f"{name}.py").read_text())
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {word for node in ast.walk(tree) if isinstance(node, ast.Constant) for word in str(node.value).split(".")}
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert named & {"alpha", "reduction", "kind", "matching", "cross_entropy", "features", "start"} == set()
    assert modules & {"tnacli.recipe.objective_section", "tnacli.recipe.matching", "tnacli.objectives.losses"} == set()
    settings = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "objective"]
    assert {ast.unparse(node.value) for node in settings} <= {"self"}, "of the settings, that is"
