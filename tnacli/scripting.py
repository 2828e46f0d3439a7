"""Training from Python: `tnacli.train("quickstart")`, with the progress of the command line and results to look into and plot."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tnacli.errors import RecipeError, UsageError
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.misfit import complaints
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.ledger import as_columns
from tnacli.runs.store import RunFolder

if TYPE_CHECKING:
    from tnacli.deploy.library import Model


@dataclass(frozen=True)
class Result:
    """What one run came to: `accuracy` in % on the test set; everything else is in `folder`.

    `curves` has a list for each value of an epoch, ready to be plotted: "epoch", "train_loss", "train_accuracy.base",
    "accuracy.base" and so on, None in epochs that did not measure it.
    """

    name: str
    seed: int
    accuracy: float
    folder: Path
    curves: Mapping[str, Sequence[Any]] = field(repr=False)

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint: for `load`, and for `tna evaluate`, `export` and `predict`."""
        return RunFolder(self.folder).last

    def load(self, *, trust_build: str | None = None) -> Model:
        """The trained network as a function of samples, as `tnacli.load` gives it."""
        from tnacli.deploy.library import load_model

        return load_model(self.checkpoint, trust_build=trust_build)


def train(
    recipe: str | Path | Settings | Mapping[str, Any],
    *,
    run: str | Sequence[str] = (),
    seed: int | Sequence[int] = (),
    overrides: Mapping[str, Any] | None = None,
    out: str | Path = "runs",
    data_root: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> list[Result]:
    """Train as `tna train` does, and return a result for each run: finished runs are taken, interrupted ones go on.

    `recipe` is a recipe's name or file, of which `run` picks runs, `seed` stands in for its seeds and `overrides` for single
    values: {"train.epochs": 3}. Or it is the settings of one run, as `Settings` or a mapping of them; `run` then names it
    (default: "run"), its seed is 0 by default, and its folder lies below `out`/python. Progress goes to stderr, in a
    notebook to the cell's output, unless `quiet`.

    Raises what the command exits with: RecipeError, DataError, DeviceError, DivergedError, Interrupted and the others of
    `tnacli.errors`, UsageError for a run or seed that cannot be.
    """
    from tnacli.cli.common import with_place
    from tnacli.cli.running import train_all
    from tnacli.cli.wanted import Wanted

    names, seeds = ([run] if isinstance(run, str) else list(run)), ([seed] if isinstance(seed, int) else list(seed))
    planned, coming = _planned(recipe, names, seeds, overrides or {})
    runs = with_place(planned, device=device, data_root=data_root)
    trained = train_all(_output(quiet), Wanted(runs, Path(out), coming=coming))
    trained.refuse_unfinished()
    return [
        Result(o.run.name, o.run.seed, o.result.accuracy["base"], o.folder.path, as_columns(o.folder.metrics()))
        for o in trained.outcomes
    ]


def _planned(
    recipe: str | Path | Settings | Mapping[str, Any], names: list[str], seeds: list[int], overrides: Mapping[str, Any]
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The runs that are asked for, and all of their recipe, if it is one."""
    from tnacli.recipe.parse import load, plan, plan_coming

    if isinstance(recipe, str | Path):
        written = [f"{key}={_written(value)}" for key, value in overrides.items()]
        loaded = load(recipe, overrides=written)
        return plan(loaded, runs=names, seeds=seeds), plan_coming(loaded, seeds=seeds)
    if overrides:
        raise UsageError("overrides are for recipes; change the settings themselves")
    if len(names) > 1:
        raise UsageError(f"settings are those of one run, not of {', '.join(names)}")
    settings = recipe if isinstance(recipe, Settings) else _settings(recipe)
    return tuple(Run("python", (names or ["run"])[0], one, settings) for one in seeds or [0]), ()


def _settings(values: Mapping[str, Any]) -> Settings:
    from pydantic import ValidationError

    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise RecipeError("the settings are wrong:\n" + "\n".join(map(str, complaints(error)))) from None


def _written(value: Any) -> str:
    """`value` as `--set` takes it."""
    import json

    return value if isinstance(value, str) else json.dumps(value)


def _output(quiet: bool) -> Any:
    from tnacli.cli.console import Output, stream_console

    if "ipykernel" not in sys.modules:
        return Output(quiet=quiet)
    return Output(quiet=quiet, stderr=stream_console(sys.stdout))  # a notebook shows stderr as if all of it were errors
