"""`tna runs diff`: two run folders side by side."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Tna, loaded_by
from tests.cli.conftest import recipe as recipe
from tests.cli.test_contract import check, terminal
from tests.report.conftest import Finish
from tests.report.conftest import finish as finish
from tnacli.recipe.parse.load import load, plan
from tnacli.recipe.schema.recipe import Runtime


@pytest.fixture
def pair(recipe: Path, finish: Finish) -> tuple[Path, Path]:
    """A baseline of seed 0 and a TNA T-SNN of seed 1 that learned from other data and ran on another device."""
    loaded = load(recipe)
    (a,), (b,) = (plan(loaded, runs=[name], seeds=[seed]) for name, seed in (("baseline", 0), ("tna_t_snn", 1)))
    settings = b.settings.model_copy(update={"runtime": Runtime(device="cpu")})
    there = finish(a, 50.0).path
    return there, finish(type(b)(b.recipe, b.name, b.seed, settings), 51.25, fingerprint="1", sibling1=49.0).path


def test_settings_and_results(tna: Tna, pair: tuple[Path, Path]) -> None:
    document = tna("runs", "diff", *pair, "--json").json
    check("runs_diff", document)
    assert [(document[side]["run"], document[side]["seed"]) for side in "ab"] == [("baseline", 0), ("tna_t_snn", 1)]
    settings = document["settings"]
    assert settings["seed"] == {"a": 0, "b": 1}
    assert settings["objective.kind"] == {"a": "solo", "b": "twin"}
    assert settings["objective.alpha"] == {"b": 0.01}
    assert settings["runtime.device"] == {"a": "auto", "b": "cpu"}
    assert "train.epochs" not in settings
    results = {one["key"]: (one["a"], one["b"], one["difference"]) for one in document["results"]}
    assert results["accuracy.base"] == (50.0, 51.25, 1.25)
    assert results["accuracy.sibling1"] == (None, 49.0, None)
    assert results["status"] == ("finished", "finished", None)
    assert results["data.fingerprint"] == ("0", "1", None)
    assert "versions.torch" not in results, "of what computed them only what differs"


def test_as_tables(tna: Tna, pair: tuple[Path, Path]) -> None:
    settings, results = (
        {row[next(iter(row))]: row for row in csv.DictReader(io.StringIO(text))}
        for text in tna("runs", "diff", *pair, "--format", "csv").out.split("\n\n")
    )
    assert (settings["compression.mode"]["a"], settings["compression.mode"]["b"]) == ("", "ternary")
    assert "compression.threshold" not in settings, "a default of a section that the other has not"
    assert results["accuracy.base"]["difference"] == "1.25"
    shown = re.sub(r"\x1b\[[0-9;]*m|\r", "", terminal("runs", "diff", *pair, COLUMNS="80"))
    assert re.search(r"test accuracy of the base, %\s+50\.00\s+51\.25\s+\+1\.25", shown)
    assert re.search(r"objective\.kind\s+solo\s+twin", shown)
    for name, path in zip("AB", pair, strict=True):
        assert f"{name}: {path}" in shown.replace("\n", "")


def test_the_same_run_has_no_other_settings(tna: Tna, pair: tuple[Path, Path]) -> None:
    a, _ = pair
    said = tna("runs", "diff", a, a)
    assert "A and B have the same settings and seed" in said.err
    assert tna("runs", "diff", a, a, "--json").json["settings"] == {}
    (a / "result.json").unlink()
    document = tna("runs", "diff", a, a, "--json").json
    assert [(one["key"], one["a"]) for one in document["results"]] == [("status", "new"), ("epochs", 3)]


def test_what_is_no_run_is_refused(tna: Tna, pair: tuple[Path, Path]) -> None:
    a, b = pair
    nothing = tna("runs", "diff", a, a.parent)
    assert (nothing.code, nothing.out) == (2, "")
    assert f"{a.parent}: no run folder" in nothing.err
    (b / "run.json").rename(b / "other.json")
    assert "its training never began" in tna("runs", "diff", a, b).err
    (b / "run.json").write_text("{")
    assert tna("runs", "diff", a, b).code == 4
    (a / "result.json").write_text("{}")
    assert tna("runs", "diff", a, a).code == 8


def test_no_torch_is_loaded(pair: tuple[Path, Path]) -> None:
    loaded, _, code = loaded_by("runs", "diff", *pair)
    assert code == 0
    assert "torch" not in loaded
