"""The rooms of the house and which may know of which, read from the imports themselves."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tnacli

PACKAGE = Path(tnacli.__file__).parent
ROOT = Path(__file__).parents[1]

# The arrows of the house: the rooms that each room imports. Files at the top of the package are rooms of their own.
_IMPORTS = {
    "errors": "",
    "version": "",
    "seeds": "",
    "places": "",
    "pixels": "",
    "likeliest": "",
    "machine": "",
    "native": "machine places",
    "storage": "errors",
    "recipe": "errors places storage",
    "snn": "errors machine native recipe",
    "data": "errors pixels places recipe seeds storage version",
    "objectives": "errors recipe snn",
    "quant": "errors recipe snn",
    "runs": "data errors recipe storage",
    "build": "errors objectives recipe seeds snn",
    "packed": "errors native pixels quant recipe snn storage version",
    "report": "data errors recipe runs storage",
    "evaluation": "data errors likeliest packed recipe snn",
    "training": "build data errors evaluation machine objectives quant recipe runs seeds snn storage",
    "deploy": "data errors evaluation packed pixels quant snn storage training version",
    "importing": "build data deploy errors evaluation packed pixels quant recipe runs snn training version",
    "__init__": "deploy importing objectives quant scripting version",
    "exporting": "data deploy errors evaluation importing packed snn storage training",
    "experiment": "build data errors evaluation exporting machine recipe runs snn training version",
    "cli": "data deploy errors evaluation experiment exporting importing likeliest packed places quant recipe report runs snn "
    "storage training version",
    "scripting": "cli deploy errors recipe runs",
    "__main__": "cli",
}
ARROWS = {room: set(others.split()) for room, others in _IMPORTS.items()}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """The rooms that a file imports anywhere, lazily or not."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports are not read here"
            names = [node.module or ""] if node.module != "tnacli" else [f"tnacli.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("tnacli.")}
    return rooms - {room_of(path), "__version__"}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("room", sorted({room_of(path) for path in FILES}))
def test_a_room_imports_the_rooms_that_are_listed_for_it(room: str) -> None:
    found = {path: imports(path) for path in FILES if room_of(path) == room}
    strays = {
        str(path.relative_to(PACKAGE)): rooms - ARROWS[room] for path, rooms in found.items() if rooms - ARROWS[room]
    }
    assert strays == {}
    assert ARROWS[room] == set().union(*found.values()), "an arrow that is not needed any more"


def test_no_arrow_goes_in_a_circle() -> None:
    graphlib.TopologicalSorter(ARROWS).prepare()


def test_the_drawing_has_every_room_and_no_other() -> None:
    drawn = re.findall(r"^\| (.+?) \|", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), flags=re.M)
    rooms = [name.removesuffix("/").removesuffix(".py") for cell in drawn for name in re.findall(r"`(.+?)`", cell)]
    assert sorted(rooms) == sorted(ARROWS.keys() - {"__init__", "__main__"})


def test_other_rooms_see_of_recipe_its_doors_alone() -> None:
    """The sections in `schema/`, the folder `parse/` as one, and what follows from settings, beside the two."""
    seen = {
        f"{path.relative_to(PACKAGE)}: {node.module}"
        for path in FILES
        if room_of(path) != "recipe"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("tnacli.recipe")
        and not re.fullmatch(
            r"tnacli\.recipe\.(schema\.\w+|parse|datasets|layout|costs|gpu_costs|gpus|identity)", node.module or ""
        )
    }
    assert seen == set()


ANSWER_AT_ONCE = ("recipe", "runs", "report", "cli", "scripting")


def test_rooms_that_answer_at_once_load_no_torch() -> None:
    """Nor anything that loads it: each of their modules is imported, and what is there then is looked at."""
    modules = [
        ".".join(("tnacli", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in FILES
        if room_of(path) in ANSWER_AT_ONCE
    ]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if {'torch', 'torchvision'} & sys.modules.keys(): sys.exit(f'{name} loads torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *modules], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_files_stay_small() -> None:
    long = {str(f.relative_to(PACKAGE)): n for f in FILES if (n := len(f.read_text().splitlines())) > 420}
    assert long == {}


@pytest.mark.parametrize("name", ["loop", "distributed", "epoch_sums"])
def test_the_loop_knows_nothing_of_what_is_minimised(name: str) -> None:
    """Not what the parts of a loss are called, how they are reduced or weighed, or which kinds of objective there are."""
    tree = ast.parse((PACKAGE / "training" / f"{name}.py").read_text())
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {word for node in ast.walk(tree) if isinstance(node, ast.Constant) for word in str(node.value).split(".")}
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert named & {"alpha", "reduction", "kind", "matching", "cross_entropy", "features", "start"} == set()
    assert (
        modules & {"tnacli.recipe.schema.objective", "tnacli.recipe.schema.matching", "tnacli.objectives.losses"}
        == set()
    )
    settings = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "objective"]
    assert {ast.unparse(node.value) for node in settings} <= {"self"}, "of the settings, that is"
