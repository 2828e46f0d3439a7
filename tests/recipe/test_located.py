"""Paths in recipes: seen from the file that says them, from the current folder on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tnacli.recipe.parse.load import load, plan
from tnacli.recipe.schema.recipe import Settings

OWN = "data: {name: folder, root: %s, size: [8, 8]}\nruns: {a: , b: {data: {root: inner}}}\n"


def settings(reference: Path | str, run: str = "a", overlay: str | None = None, **sets: str) -> Settings:
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in sets.items()]
    return load(reference, overlays=[overlay] if overlay else [], overrides=overrides).recipe.runs[run]


@pytest.fixture
def away(folder: Path) -> Path:
    """A folder beside the current one, which holds recipes."""
    place = folder / "away"
    (place / "deep").mkdir(parents=True)
    return place


def test_a_root_is_seen_from_the_file_that_says_it(away: Path, folder: Path) -> None:
    (away / "deep" / "lower.yaml").write_text(OWN % "imgs")
    (away / "upper.yaml").write_text("extends: deep/lower.yaml\nruns: {c: {data: {root: ../c}}}\n")
    (folder / "over.yaml").write_text("data: {root: ./over}\n")
    upper = away / "upper.yaml"
    assert settings(upper).data.root == str(away / "deep" / "imgs")
    assert settings(upper, "b").data.root == str(away / "deep" / "inner")
    assert settings(upper, "c").data.root == f"{away}/../c"
    assert settings(upper, overlay="over.yaml").data.root == str(folder / "over")
    assert settings(upper, data__root="here").data.root == str(folder / "here")
    assert settings(upper, "b", runs__b__data__root="here").data.root == str(folder / "here")
    os.chdir(away)
    assert settings("upper.yaml").data.root == str(away / "deep" / "imgs")


def test_absolute_and_home(away: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/mine")
    for written, meant in (("/data", "/data"), ("~/data", "/home/of/mine/data"), ("~", "/home/of/mine")):
        (away / "r.yaml").write_text(OWN % f'"{written}"')
        assert settings(away / "r.yaml").data.root == meant
        if written != "~":  # which is null in YAML
            assert settings(away / "r.yaml", data__root=written).data.root == meant
    assert settings(away / "r.yaml", data__root="~nobody-of-that-name/x").data.root == str(
        folder / "~nobody-of-that-name" / "x"
    )


def test_a_module_is_looked_for_beside_the_file_that_names_it(away: Path, folder: Path) -> None:
    (away / "nets.py").touch()
    (away / "deep" / "package").mkdir()
    (away / "r.yaml").write_text(
        'model: {build: "nets:small"}\nruns: {a: , b: {model: {build: "package.nets:small"}}}\n'
    )
    (away / "deep" / "over.yaml").write_text('model: {build: "package.nets:small"}\n')
    recipe = away / "r.yaml"
    assert settings(recipe).model.build == f"{away}/nets:small"
    assert settings(recipe, "b").model.build == "package.nets:small"  # nothing of the name there: an installed one
    assert settings(recipe, overlay=str(away / "deep" / "over.yaml")).model.build == f"{away}/deep/package.nets:small"
    assert settings(recipe, model__build="nets:small").model.build == "nets:small"  # not in this folder
    for written, meant in (("away/nets:small", away), ("./away/nets:small", away), ("/nets:small", Path("/"))):
        found = settings(recipe, model__build=written).model
        assert found.build == os.path.join(meant, "nets:small")
        assert found.function == "nets:small"


def identity(reference: Path | str, *overrides: str) -> str:
    return plan(load(reference, overrides=overrides), runs=["a"])[0].identity


def test_spelling_and_place_make_no_other_run(away: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (away / "imgs").mkdir()
    (away / "deep" / "imgs").mkdir()
    (away / "nets.py").touch()
    (folder / "link").symlink_to(away / "imgs")
    build = 'model: {build: "nets:small"}\n'
    (away / "r.yaml").write_text(build + OWN % "imgs")
    known = identity(away / "r.yaml")
    roots = [
        "away/imgs",
        "./away//imgs/",
        str(away / "imgs"),
        "away/../away/imgs",
        "link",
        "away/deep/imgs",
        "/no/imgs",
    ]
    assert {identity(away / "r.yaml", f"data.root={root}") for root in roots} == {known}
    builds = ["nets:small", "away/nets:small", f"{away}/nets:small", "/elsewhere/nets:small"]
    assert {identity(away / "r.yaml", f"model.build={one}") for one in builds} == {known}
    others = ("data.root=away/deep", "model.build=nets:other", "model.build=away.nets:small")
    assert known not in {identity(away / "r.yaml", other) for other in others}
    monkeypatch.setenv("TNA_DATA", str(away / "imgs"))
    assert identity(away / "r.yaml", "data.root=null") == known
    monkeypatch.setenv("TNA_DATA", str(away / "deep"))
    assert identity(away / "r.yaml", "data.root=null") != known


def test_a_recipe_in_a_pipe_lies_in_the_current_folder(folder: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, (OWN % "imgs").encode())
    os.close(writer)
    assert settings(f"/dev/fd/{reader}").data.root == str(folder / "imgs")
    os.close(reader)
