"""What several commands do with runs and files before they do their own work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tnacli.recipe.identity import Run
    from tnacli.recipe.schema.recipe import Settings


def with_place(runs: Iterable[Run], *, device: str, data_root: str | None) -> tuple[Run, ...]:
    """The same runs on another device and with the data elsewhere: neither changes what they compute."""
    return tuple(dataclasses.replace(run, settings=_placed(run, device, data_root)) for run in runs)


def with_data(settings: Settings, data_root: str | None) -> Settings:
    """The same settings with the data below `data_root`, as seen from here, if that is given."""
    from tnacli.recipe.parse import located

    if data_root is None or settings.data.name == "digits":
        return settings
    return settings.model_copy(update={"data": settings.data.model_copy(update={"root": located(data_root, Path())})})


def _placed(run: Run, device: str, data_root: str | None) -> Settings:
    from tnacli.recipe.schema.recipe import Runtime

    settings = with_data(run.settings, data_root)
    if device == "auto":
        return settings
    runtime = Runtime.model_validate({**settings.runtime.model_dump(), "device": device})
    return settings.model_copy(update={"runtime": runtime})


def require_free(destinations: Iterable[Path], *, force: bool) -> None:
    """Raise UsageError for a file that is there and not to be replaced, StorageError for what no file may replace."""
    from tnacli.errors import UsageError
    from tnacli.storage import require_replaceable

    there = [path for path in destinations if path.exists()]
    for path in there:
        require_replaceable(path)
    if there and not force:
        raise UsageError(f"{there[0]} is there already; choose another name with -o, or replace it with --force")
