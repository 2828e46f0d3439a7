"""A file of the user's, or a shipped one by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

import tnacli.recipe.parse.find
from tnacli.errors import RecipeError
from tnacli.recipe.parse.find import (
    find_listed,
    find_overlay,
    find_recipe,
    list_overlays,
    list_recipes,
    shipped_folder,
    shown,
)


@pytest.mark.parametrize("reference", ["quickstart", "quickstart.yaml"])
def test_a_shipped_recipe_by_name(reference: str, shipped: Path) -> None:
    assert find_recipe(reference) == shipped / "quickstart.yaml"


def test_a_path_that_exists_comes_first(shipped: Path, folder: Path) -> None:
    (folder / "quickstart.yaml").write_text("runs: {mine: }\n")
    assert find_recipe("quickstart.yaml") == Path("quickstart.yaml")
    assert find_recipe(folder / "quickstart.yaml") == folder / "quickstart.yaml"
    (folder / "quickstart").mkdir()  # as the results of the recipe may be called
    assert find_recipe("quickstart") == shipped / "quickstart.yaml"


def test_a_shipped_overlay_by_name(shipped: Path, folder: Path) -> None:
    assert find_overlay("smoke") == shipped / "overlays" / "smoke.yaml"
    (folder / "mine.yaml").write_text("")
    assert find_overlay("mine.yaml") == Path("mine.yaml")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (
            "quikstart",
            "recipe 'quikstart' not found: quikstart is no file, and no shipped recipe has that name; "
            "`tna recipes` lists all; did you mean 'quickstart'?",
        ),
        (
            "shipped",
            "recipe 'shipped' not found: shipped is a folder, and no shipped recipe has that name"
            "; `tna recipes` lists all",
        ),
        (
            "recipes/quickstart.yaml",
            "recipe 'recipes/quickstart.yaml' not found: recipes/quickstart.yaml is no file, and "
            "no shipped recipe has that name; `tna recipes` lists all; "
            "did you mean 'quickstart'?",
        ),
    ],
)
def test_what_is_not_there_is_looked_for_aloud(reference: str, says: str, shipped: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe(reference)
    assert str(caught.value) == says


def test_no_more_than_three_names_are_offered(shipped: Path) -> None:
    for number in range(5):
        (shipped / f"quickstart{number}.yaml").write_text("runs: {a: }\n")
    with pytest.raises(RecipeError, match=r"lists all; did you mean '[^']+' or '[^']+' or '[^']+'\?$"):
        find_recipe("quickstarts")


def test_a_network_in_place_of_a_recipe_is_recognised(folder: Path) -> None:
    run = folder / "a-seed0-0123456789"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "last.pt").write_bytes(b"PK\x03\x04")
    (folder / "a.safetensors").write_bytes(bytes(8))
    with pytest.raises(RecipeError, match=r"last\.pt is a checkpoint, no recipe; `tna evaluate .*`tna report a-seed0"):
        find_recipe(run / "last.pt")
    with pytest.raises(RecipeError, match=r"a\.safetensors is a packed file, no recipe; `tna evaluate a\.safetensors`"):
        find_recipe("a.safetensors")
    with pytest.raises(RecipeError, match="the folder of a run, no recipe; `tna report a-seed0-0123456789`"):
        find_recipe(run.name)


@pytest.mark.parametrize("reference", ["", ".", "..", "/", "../shipped/quickstart", "a\0b", "x" * 5000, "smoke"])
def test_odd_references_are_refused(reference: str, shipped: Path) -> None:
    with pytest.raises(RecipeError, match="not found"):
        find_recipe(reference)


def test_listing_shows_first_lines_and_hides_what_is_only_extended(shipped: Path) -> None:
    (shipped / "broken.yaml").write_text("a: [\n")
    (shipped / "plain.yaml").write_text("runs: {a: }\n")
    (shipped / "folded.yaml").write_text(
        "name: description\ndescription: >-\n\n  Two\n  lines.\n# a remark\nruns: {a: }\n"
    )
    (shipped / "quoted.yaml").write_text('description: "Table 1: all."\ndata: {description: no}\nruns: [\n')
    assert [(entry.name, entry.title) for entry in list_recipes()] == [
        ("broken", ""),
        ("folded", "Two lines."),
        ("plain", ""),
        ("quickstart", "Digits."),
        ("quoted", "Table 1: all."),
    ]
    assert [(entry.name, entry.title) for entry in list_overlays()] == [("smoke", "Tiny.")]


def test_a_wheel_has_its_recipes_inside_and_a_checkout_beside_the_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = folder / "site" / "tnacli" / "recipe" / "parse" / "find.py"
    monkeypatch.setattr(tnacli.recipe.parse.find, "__file__", str(module))
    assert shipped_folder() == folder / "site" / "recipes"
    (folder / "site" / "tnacli" / "recipes").mkdir(parents=True)
    assert shipped_folder() == folder / "site" / "tnacli" / "recipes"


def test_paths_are_shown_as_seen_from_here(folder: Path) -> None:
    assert shown(folder / "a" / "b.yaml") == "a/b.yaml"
    assert shown(Path("a/b.yaml")) == "a/b.yaml"
    assert shown(folder.parent / "c.yaml") == str(folder.parent / "c.yaml")
    assert shown(Path("../c.yaml")) == "../c.yaml"


def test_what_is_listed_is_found_by_name_overlays_too(shipped: Path, folder: Path) -> None:
    assert find_listed("smoke") == find_listed("smoke.yaml") == shipped / "overlays" / "smoke.yaml"
    assert find_listed("quickstart") == shipped / "quickstart.yaml"
    (folder / "smoke").write_text("runs: {a: }\n")
    assert find_listed("smoke") == Path("smoke"), "a file of the user's comes first, as with recipes"
    with pytest.raises(RecipeError, match="quickstart"):
        find_listed("quickstrat")
