"""What a command wants to be trained, in the units that training takes."""

from __future__ import annotations

from pathlib import Path

from tnacli.cli.wanted import Wanted
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.recipe import Settings

NOW, LATER = (Run("tiny", name, 0, Settings()) for name in ("baseline", "t_snn"))


def test_a_time_limit_is_in_minutes() -> None:
    assert Wanted((NOW,), Path(), time_limit=1.5).seconds == 90
    assert Wanted((NOW,), Path()).seconds is None


def test_runs_of_now_and_of_another_time_are_known() -> None:
    assert Wanted((NOW,), Path(), coming=(LATER,)).known == (NOW, LATER)
