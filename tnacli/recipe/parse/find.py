"""Where recipes and overlays are: a file of the user's, or a shipped one by its name."""

from __future__ import annotations

import contextlib
import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from tnacli.errors import RecipeError
from tnacli.recipe.parse.yaml_strict import read_entry

_LISTED = "`tna recipes` lists all"


@dataclass(frozen=True)
class RecipeEntry:
    """A shipped recipe; `title` is the first line of its description."""

    name: str
    path: Path
    title: str


def shipped_folder() -> Path:
    """The folder of the shipped recipes: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parents[2]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def list_recipes() -> tuple[RecipeEntry, ...]:
    """The shipped recipes by name. One whose name begins with `_` is there to be extended, and left out."""
    return _entries(shipped_folder())


def list_overlays() -> tuple[RecipeEntry, ...]:
    """The shipped overlays by name."""
    return _entries(shipped_folder() / "overlays")


def find_recipe(reference: str | Path) -> Path:
    """The file that `reference` means: a path that exists, or a shipped recipe's name, `.yaml` or not.

    Raises RecipeError, with the closest names and the places that were searched, if there is none.
    """
    return _find(Path(reference), str(reference), what="recipe", folder=shipped_folder(), advice=_LISTED)


def find_listed(reference: str) -> Path:
    """The file of what `tna recipes` lists: a recipe as `find_recipe` finds it, or else a shipped overlay."""
    overlay = shipped_folder() / "overlays" / f"{reference.removesuffix('.yaml')}.yaml"
    if reference in (overlay.name, overlay.stem) and overlay.is_file() and not os.path.exists(reference):
        return overlay
    return find_recipe(reference)


def find_overlay(reference: str | Path) -> Path:
    """The same for an overlay, as given to `--with`; shipped ones are in the folder `overlays`."""
    folder = shipped_folder() / "overlays"
    return _find(
        Path(reference), str(reference), what="overlay", folder=folder, advice=f"{_LISTED}; or give the path of a file"
    )


def find_extended(reference: str, by: Path) -> Path:
    """The recipe that the file `by` extends: a path seen from its folder, or the name of a shipped one."""
    return _find(by.parent / reference, reference, what="recipe", folder=shipped_folder(), advice=_LISTED)


def shown(path: Path) -> str:
    """The path as messages call it: relative where that is shorter and stays below the working directory."""
    absolute, here = os.path.abspath(path), os.getcwd()
    return os.path.relpath(absolute, here) if absolute.startswith(here.rstrip(os.sep) + os.sep) else str(path)


def _find(path: Path, reference: str, *, what: str, folder: Path, advice: str) -> Path:
    if os.path.exists(path) and not os.path.isdir(path):  # a pipe, `<(...)` of a shell, will do
        _refuse_network(path, what)
        return path
    name = path.name.removesuffix(".yaml")
    if reference in (name, f"{name}.yaml") and os.path.isfile(shipped := folder / f"{name}.yaml"):
        return shipped
    if os.path.isfile(os.path.join(path, "run.json")):
        raise RecipeError(f"{shown(path)} is the folder of a run, no {what}; `tna report {reference}` shows its result")
    names = [entry.name for entry in _entries(folder)]
    there = f"{shown(path)} is {'a folder' if os.path.isdir(path) else 'no file'}"
    close = [f"{name!r}" for name in difflib.get_close_matches(name, names, n=3, cutoff=0.5)]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise RecipeError(f"{what} {reference!r} not found: {there}, and no shipped {what} has that name; {advice}{hint}")


def _refuse_network(path: Path, what: str) -> None:
    """Raise RecipeError if the file holds a network: a checkpoint, a zip archive, or a packed file."""
    if not os.path.isfile(path):
        return
    kind = "a packed file" if path.suffix == ".safetensors" else ""
    with contextlib.suppress(OSError), path.open("rb") as file:
        kind = "a checkpoint" if file.read(4) == b"PK\x03\x04" else kind
    if kind:
        also = f", `tna report {shown(path.parent)}` its run" if os.path.isfile(path.parent / "run.json") else ""
        raise RecipeError(f"{shown(path)} is {kind}, no {what}; `tna evaluate {shown(path)}` measures it{also}")


def _entries(folder: Path) -> tuple[RecipeEntry, ...]:
    files = sorted(path for path in folder.glob("*.yaml") if not path.name.startswith("_"))
    return tuple(RecipeEntry(path.stem, path, _title(path)) for path in files)


def _title(path: Path) -> str:
    """The first line of the file's description; nothing for a broken file, which loading it explains."""
    description = read_entry(path, "description")
    text = description.value if description else None
    return text.strip().partition("\n")[0] if isinstance(text, str) else ""
