"""Which run is which: two runs are the same if they compute the same, whichever recipe asked for them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tnacli.errors import FileFormatError, RecipeError
from tnacli.places import data_root
from tnacli.recipe.canonical import canonical
from tnacli.recipe.datasets import DATASETS, OWN
from tnacli.recipe.layout import notation
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.objective import Distill, Solo
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.section import without_later_defaults
from tnacli.storage import network_file

_NOT_COMPUTED: Any = {"runtime": True, "data": {"root", "download"}, "train": {"initial"}}
"""Where and how fast, and where files lie; which weights a run starts from, the digest of their file says."""


def data_set_title(data: Data) -> str:
    """What the data set is called; one of one's own goes by the name of its folder, wherever that lies."""
    if data.name not in OWN:
        return DATASETS[data.name].title
    return os.path.basename(os.path.realpath(data_root(data.root)[0]))


def digest_of_file(place: str) -> str:
    """The SHA-256 of the checkpoint that `train.initial` names, in hexadecimal. Raises RecipeError if it cannot be read."""
    try:
        path = network_file(Path(place))
        stat = path.stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns)
    except FileFormatError as error:
        raise RecipeError(f"train.initial: {error}") from None
    except OSError as error:
        raise RecipeError(f"train.initial: {place}: cannot be read: {error.strerror or error}") from None


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, written: int) -> str:
    """Of a file as large and as new as this: every run and seed of a recipe asks for it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Run:
    """One network to train: settings and a seed, and the recipe and name under which they were asked for.

    `altered` lists the overlays and overrides that changed the recipe ("with laptop", "set train.epochs=3"); results
    are shown with it. `initial` is the digest of a checkpoint whose weights the run starts from, if any; where it is not
    given, that of the file which `train.initial` names. Raises RecipeError if that cannot be read.
    """

    recipe: str
    name: str
    seed: int
    settings: Settings
    altered: tuple[str, ...] = ()
    initial: str | None = None

    def __post_init__(self) -> None:
        if self.initial is None and self.settings.train.initial is not None:
            object.__setattr__(self, "initial", digest_of_file(self.settings.train.initial))

    @cached_property
    def identity(self) -> str:
        """Ten hexadecimal digits of the SHA-256 over everything that determines the result."""
        settings = _settings_text(_Same(self.settings))
        text = f'{{"initial":{json.dumps(self.initial)},"seed":{self.seed},"settings":{settings}}}'
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def folder_name(self) -> str:
        # The brackets of a sweep mean something to every shell.
        name = re.sub(r"[^a-z0-9_.-]+", "-", self.name.lower()).strip("-")[:120]
        return f"{name}-seed{self.seed}-{self.identity}"

    @property
    def teacher(self) -> Run | None:
        """The run whose network teaches this one: solo, full precision, another seed, else the same settings."""
        objective = self.settings.objective
        if not isinstance(objective, Distill):
            return None
        settings = self.settings.uncompressed().model_copy(update={"objective": Solo()})
        return Run(self.recipe, "teacher", self.seed + objective.teacher_seed, settings, self.altered, self.initial)


class _Same:
    """These very settings as a key, which all seeds of a run share; settings themselves have no hash."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __hash__(self) -> int:
        return id(self.settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.settings is other.settings


@lru_cache(maxsize=64)
def _settings_text(key: _Same) -> str:
    """What of the settings determines the result, as JSON."""
    given = key.settings
    computed = canonical(given)
    dumped = computed.model_dump(mode="json", exclude=_NOT_COMPUTED)
    settings = without_later_defaults(computed, dumped)
    settings["model"]["layout"] = notation(settings["model"]["layout"])
    if given.model.build is not None:
        settings["model"]["build"] = given.model.function
    if given.data.name in OWN:
        # What is in the folder is compared (docs/reliability.md).
        settings["data"]["root"] = data_set_title(given.data)
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))
