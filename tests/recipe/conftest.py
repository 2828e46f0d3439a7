"""Recipes in miniature, in a folder of their own that is also the working directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tnacli.recipe.parse.find
from tnacli.recipe.parse.load import Loaded, load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One recipe and one overlay in place of those that are shipped."""
    place = folder / "shipped"
    (place / "overlays").mkdir(parents=True)
    (place / "quickstart.yaml").write_text("description: |\n  Digits.\n  All of them.\nruns: {a: }\n")
    (place / "_common.yaml").write_text("train: {epochs: 7}\n")
    (place / "overlays" / "smoke.yaml").write_text("description: Tiny.\ntrain: {epochs: 2}\n")
    monkeypatch.setattr(tnacli.recipe.parse.find, "shipped_folder", lambda: place)
    return place


@pytest.fixture
def load_text(folder: Path) -> Callable[..., Loaded]:
    """Write recipe.yaml and other files, and load it under overlays and overrides."""

    def load_text(text: str, *sets: str, overlays: tuple[str, ...] = (), **files: str) -> Loaded:
        for name, content in {"recipe": text, **files}.items():
            (folder / f"{name}.yaml").write_text(content)
        return load("recipe.yaml", overlays=overlays, overrides=sets)

    return load_text
