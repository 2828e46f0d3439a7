"""Pictures of differences: a line each, with its numbers beside it as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tests.report.conftest import Finish
from tnacli.recipe.parse import load, plan
from tnacli.report.cells import cells_of
from tnacli.report.contents import Group, tables_of
from tnacli.report.difference_plot import lines_of
from tnacli.report.differences import differences_from
from tnacli.report.effects import effects_of, judged

RECIPE = """\
name: NAME
seeds: [0, 1, 2]
data: {name: digits}
runs: {baseline: {}, tna: {objective: {kind: twin, alpha: 0.1}}, t_snn: {compression: {mode: ternary}}}
"""
EFFECTS = "reproduces: {effects: [{run: tna, minus: baseline, paper: 1.25}, {run: t_snn, minus: tna, paper: -3.0}]}\n"
GAINS = {"baseline": (0.0, 0.0, 0.0), "tna": (1.0, 1.1, 1.2), "t_snn": (-1.0, 1.0, 0.0)}


@pytest.fixture
def recipe(tmp_path: Path, finish: Finish) -> Path:
    return trained(tmp_path, finish, "small", EFFECTS)


def trained(
    folder: Path, finish: Finish, name: str, effects: str, *, gains: Mapping[str, Sequence[float]] = GAINS
) -> Path:
    path = folder / f"{name}.yaml"
    # Another number of epochs, so that the runs of two recipes are not the same.
    path.write_text(f"{RECIPE.replace('NAME', name)}train: {{epochs: {len(name)}}}\n{effects}")
    for run in plan(load(path)):
        if run.name in gains:
            finish(run, 80.0 + run.seed + gains[run.name][run.seed])
    return path


def texts(picture: Path) -> list[str]:
    pytest.importorskip("matplotlib", reason="draws")
    return re.findall(r"<text[^>]*>([^<]+)</text>", picture.read_text(encoding="utf-8"))


def test_a_report_draws_the_effects_of_its_recipe(tna: Tna, out: Path, recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    done = tna("report", recipe, "--out", out, "--save", tmp_path / "d.svg", "--draw", "differences")
    assert done.code == 0, done.err
    drawn = texts(tmp_path / "d.svg")
    shown = [text for text in drawn if text[0] in "+-t"]
    assert shown == [
        "tna - baseline", "+1.10 (+0.85 to +1.35), 3 seeds", "t_snn - tna", "-1.10 (-3.47 to +1.27), 3 seeds",
    ]  # fmt: skip
    assert "difference in test accuracy (percentage points)" in drawn
    assert any("the paper's, at full size" in text for text in drawn)
    before = (tmp_path / "d.svg").read_bytes()
    tna("report", recipe, "--out", out, "--save", tmp_path / "d.svg", "--draw", "differences")
    assert (tmp_path / "d.svg").read_bytes() == before


def test_effects_of_several_recipes_stand_together(
    tna: Tna, out: Path, recipe: Path, finish: Finish, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    other = trained(tmp_path, finish, "another", EFFECTS)
    tna("report", recipe, other, "--out", out, "--save", tmp_path / "d.svg", "--draw", "differences", "--title", "")
    shown = [text for text in texts(tmp_path / "d.svg") if "seeds" not in text and text[0] in "tsa"]
    assert shown == ["tna - baseline", "small", "another", "t_snn - tna", "small", "another"]


def test_without_effects_differences_from_the_first_are_drawn(
    tna: Tna, out: Path, finish: Finish, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    path = trained(tmp_path, finish, "plain", "")
    for command in ("report", "compare"):
        done = tna(command, path, "--out", out, "--save", tmp_path / "d.svg", "--draw", "differences")
        assert done.code == 0, done.err
        drawn = texts(tmp_path / "d.svg")
        assert [text for text in drawn if text.endswith("- baseline")] == ["tna - baseline", "t_snn - baseline"]
        assert not any("paper" in text for text in drawn)


def test_what_is_shown_is_so_after_the_correction(out: Path, finish: Finish, tmp_path: Path) -> None:
    """Of p = 0.036 alone is left 0.072 beside another comparison, whose interval has 0 in it."""
    path = tmp_path / "r.yaml"
    path.write_text(f"{RECIPE.replace('NAME', 'r')}{EFFECTS}")
    loaded = load(path)
    gains = {"baseline": (0.0, 0.0, 0.0), "tna": (1.0, 1.4, 0.7), "t_snn": (-1.0, 3.0, 0.0)}
    for run in plan(loaded):
        finish(run, 80.0 + gains[run.name][run.seed])
    effects = effects_of(loaded, cells_of(loaded, out))
    assert effects[0].ours is not None
    assert effects[0].ours.interval is not None
    assert 0 not in effects[0].ours.interval
    for one in (effects[:1], effects):
        lines = lines_of(judged(one))[""]
        assert [line.shown for line in lines] == ([True] if len(one) == 1 else [False, False])


def test_differences_are_drawn_as_their_table_corrects_them(out: Path, finish: Finish, tmp_path: Path) -> None:
    """Over all recipes of a table of the paper: of p = 0.036 for each of two is left 0.072."""
    groups = []
    for name in ("one", "another"):
        path = trained(tmp_path, finish, name, "", gains={"baseline": (0.0, 0.0, 0.0), "tna": (1.0, 1.4, 0.7)})
        baseline, tna, _ = cells_of(load(path), out)
        groups.append(Group(name, "", [baseline, tna], table=1, differences=tuple(differences_from([tna], baseline))))
    for ones in (groups[:1], groups):
        ((_, lines),) = lines_of(tables_of(ones, None).corrected).items()
        assert [line.shown for line in lines] == ([True] if len(ones) == 1 else [False, False])


def test_lines_that_are_shown_are_filled(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    from tnacli.report.difference_plot import Line, save_differences
    from tnacli.report.statistics import Interval

    for shown, colours in ((True, {"#1f4e79"}), (False, {"#7f7f7f", "#ffffff"})):
        save_differences(tmp_path / "d.svg", {"": [Line("a", 1.0, Interval(0.5, 1.5), 5, shown)]})
        found = (tmp_path / "d.svg").read_text(encoding="utf-8")
        assert colours <= set(re.findall(r"#[0-9a-f]{6}", found))
    assert "#1f4e79" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draw", "bars", "--save", "d.svg"], "--draw is curves or differences, not 'bars'"),
        (["--draw", "differences"], "draws the picture of --save"),
        (["--draw", "differences", "--save", "d.md"], "draws the picture of --save"),
    ],
)
@pytest.mark.parametrize("command", ["report", "compare"])
def test_mistakes_are_explained(tna: Tna, command: str, arguments: list[str], message: str) -> None:
    refused = tna(command, "quickstart", *arguments)
    assert refused.code == 2
    assert message in " ".join(refused.err.split())


def test_nothing_finished_is_nothing_to_draw(tna: Tna, out: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    refused = tna("report", "quickstart", "--out", out, "--save", tmp_path / "d.svg", "--draw", "differences")
    assert refused.code == 2
    assert "there is nothing to draw" in refused.err
    assert not (tmp_path / "d.svg").exists()
