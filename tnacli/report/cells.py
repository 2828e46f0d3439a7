"""What the runs of a recipe came to, read from their folders: one cell for each run of the recipe, over its seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tnacli.errors import UsageError
from tnacli.recipe.identity import Run, data_set_title
from tnacli.recipe.parse import Loaded, find_recipe, list_recipes, load, plan, shipped_folder
from tnacli.recipe.schema.objective import Distill, Solo, Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.reproduces import Reproduces
from tnacli.report.alike import disagreement
from tnacli.report.marks import marks
from tnacli.report.statistics import Spread, spread
from tnacli.runs.recorded import Place, folder_of
from tnacli.runs.result import RunResult
from tnacli.runs.store import RunFolder

DATA_ORDER = ("cifar10", "cifar100", "fashion_mnist", "cifar10dvs")
"""The columns of the paper's tables, from left to right."""

Split = Literal["test", "validation"]
"""The samples whose accuracies are shown: the test set, or those held out of the training set."""


@dataclass(frozen=True)
class Cell:
    """One run of a recipe over the seeds that were asked for: the paper's accuracy in % if it gives one, and ours.

    `threshold` is the recipe's own: the accuracy in % that ours must reach.

    `folders` maps every seed to its folder, begun or not; `results` the finished ones to what is stored of them. `own_seeds`
    are those of the recipe without overlays and overrides, and `changed` says that these make it compute something else.
    `changed_files` says by seed which of the files learned from have changed since (`tnacli.report.changed`). Accuracies are
    those on the samples of `split`.
    """

    recipe: str
    name: str
    settings: Settings
    folders: Mapping[int, RunFolder]
    results: Mapping[int, RunResult]
    paper: float | None = None
    tolerance: float = 1.0
    threshold: float | None = None
    altered: tuple[str, ...] = ()
    own_recipe: bool = False
    own_seeds: tuple[int, ...] = ()
    changed: bool = False
    identities: tuple[str, ...] = field(default=(), repr=False)
    changed_files: Mapping[int, str] = field(default_factory=dict)
    split: Split = "test"

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.folders)

    @property
    def finished(self) -> bool:
        return len(self.results) == len(self.folders)

    @property
    def seeds_text(self) -> str:
        """ "5 seeds", or "2 of 5 seeds" while some are missing."""
        done, all_ = len(self.results), len(self.folders)
        return f"{done} seed{'s' * (done != 1)}" if self.finished else f"{done} of {all_} seed{'s' * (all_ != 1)}"

    @property
    def mixed(self) -> str | None:
        """Why the results of the seeds have no mean, where they differ in data or precision."""
        return disagreement(self.results)

    def accuracies(self, network: str = "base") -> dict[int, float]:
        """Accuracy in % by seed; empty for a network that the run does not have or measure, and where there is no mean."""
        if self.mixed:
            return {}
        measured = {seed: r.accuracy if self.split == "test" else r.validation for seed, r in self.results.items()}
        return {seed: accuracy[network] for seed, accuracy in measured.items() if network in accuracy}

    @property
    def accuracy(self) -> Spread | None:
        values = list(self.accuracies().values())
        return spread(values) if values else None

    @property
    def generated(self) -> bool:
        """Whether a result is of generated samples, which say nothing of a method."""
        return any(result.data.source == "generated" for result in self.results.values())

    @property
    def complete(self) -> bool:
        """Whether all seeds asked for are finished, in the recipe's own setting all of the recipe."""
        return self.finished and (self.changed or set(self.own_seeds) <= set(self.results))

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in percentage points."""
        return None if self.accuracy is None or self.paper is None else self.accuracy.mean - self.paper

    @property
    def within(self) -> bool | None:
        """Whether our mean lies within the tolerance.

        None where it is not judged: the paper has no number, or another setting, or seeds of the recipe are missing, or they
        have no mean.
        """
        if self.difference is None or self.changed or self.generated or not self.complete:
            return None
        # A difference that prints as the tolerance is within it.
        return round(abs(self.difference), 6) <= self.tolerance

    @property
    def reached(self) -> bool | None:
        """Whether our mean reaches the recipe's own threshold, in whatever setting; None while seeds are missing, or no mean."""
        if self.threshold is None or self.accuracy is None or not self.finished:
            return None
        return self.threshold <= round(self.accuracy.mean, 6)

    @property
    def alpha(self) -> float | None:
        """Weight of the matching loss, where there is one."""
        return None if isinstance(self.settings.objective, Solo) else self.settings.objective.alpha

    @property
    def data_set(self) -> str:
        return data_set_title(self.settings.data)

    @property
    def weights(self) -> str:
        return self.settings.compression.mode if self.settings.compression else "full"

    @property
    def marks(self) -> tuple[str, ...]:
        """What must be said wherever the numbers are shown: how they came about otherwise than the paper's."""
        own = ["not a shipped recipe"] if self.own_recipe and self.paper is not None else []
        mixed = [f"{self.mixed}: no mean"] if self.mixed else []
        came_about = marks(self.settings, self.altered, list(self.results.values()))
        return (*mixed, *came_about, *own, *self._changed_data())

    def _changed_data(self) -> Iterator[str]:
        for how in dict.fromkeys(self.changed_files.values()):
            seeds = [str(seed) for seed, one in self.changed_files.items() if one == how]
            which = "" if len(seeds) == len(self.results) else f" seed {', '.join(seeds)}"
            yield f"data files changed since{which}: {how}"


def cells_of(loaded: Loaded, out: Place, *, runs: Sequence[str] = (), seeds: Sequence[int] = ()) -> tuple[Cell, ...]:
    """The cells of a recipe from the run folders below `out`, or a ledger. Raises UsageError for a run that it does not have."""
    by_name: dict[str, list[Run]] = {}
    for run in plan(loaded, runs=runs, seeds=seeds):
        by_name.setdefault(run.name, []).append(run)
    reproduces = loaded.recipe.reproduces
    own = loaded.path.resolve().parent != shipped_folder().resolve()
    written = load(loaded.path).recipe if loaded.altered else loaded.recipe
    cells = []
    for name, group in by_name.items():
        cell = collect(group, out, paper=reproduces.accuracy.get(name), tolerance=reproduces.tolerance, own_recipe=own)
        threshold = loaded.recipe.thresholds.get(name)
        own_run = written.runs.get(name)  # one of a sweep by --set is in no recipe
        changed = own_run is None or replace(group[0], settings=own_run, initial=None).identity != group[0].identity
        cells.append(replace(cell, own_seeds=written.seeds, changed=changed, threshold=threshold))
    return tuple(cells)


def on_validation(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The same with their accuracies on held-out samples; the paper's numbers and thresholds, of the test set, are left out.

    Raises UsageError for a run that holds none out.
    """
    found = tuple(replace(cell, split="validation", paper=None, threshold=None) for cell in cells)
    for cell in found:
        if not cell.settings.data.validation_samples:
            raise UsageError(
                f"{cell.recipe}: {cell.name} holds no samples out of the training set (data.validation_samples), so there is no "
                f"accuracy on them; leave out --split validation"
            )
    return found


def collect(
    runs: Sequence[Run], out: Place, *, paper: float | None = None, tolerance: float = 1.0, own_recipe: bool = False
) -> Cell:
    """The cell of `runs`, which differ in nothing but their seeds."""
    folders = {run.seed: folder_of(out, run) for run in runs}
    results = {seed: result for seed, folder in folders.items() if (result := folder.result) is not None}
    first = runs[0]
    return Cell(
        first.recipe, first.name, first.settings, folders, results, paper, tolerance, altered=first.altered,
        own_recipe=own_recipe, identities=tuple(run.identity for run in runs),
    )  # fmt: skip


def is_run_folder(reference: str) -> bool:
    return (Path(reference) / "run.json").is_file()


def is_failed_start(reference: str) -> bool:
    """Whether this is the folder of a run that ended before its training began, such as for want of data."""
    named = re.fullmatch(r".+-seed\d+-[0-9a-f]{10}(\.old\d+)?", Path(reference).resolve().name)
    return named is not None and Path(reference).is_dir() and not is_run_folder(reference)


def cell_of_folder(folder: RunFolder) -> Cell:
    """The cell of a single run folder, whichever recipe it came from. Raises DataError if it cannot be read."""
    begun, result = folder.require_begun(), folder.result
    return Cell(
        begun.recipe, begun.run, begun.settings, {begun.seed: folder}, {} if result is None else {begun.seed: result},
        altered=begun.altered, identities=(begun.identity,),
    )  # fmt: skip


def cells_of_folders(folders: Sequence[RunFolder]) -> tuple[Cell, ...]:
    """The cells of run folders, in their order: those side by side that differ in nothing but their seeds are one.

    Folders set aside are apart from the others. Raises DataError for one that cannot be read, UsageError where two are the same
    seed of a run.
    """
    found: dict[tuple[Path, str, str, bool], Cell] = {}
    for folder in folders:
        one, path = cell_of_folder(folder), folder.path
        ((seed, _),) = one.folders.items()
        begun = folder.require_begun()
        settings = Run(begun.recipe, begun.run, 0, begun.settings).identity
        key = (path.resolve().parent, path.suffix, f"{begun.run} {settings}", begun.initial is None)
        before = found.get(key)
        if before is not None and seed in before.folders:
            raise UsageError(f"{before.folders[seed].path} and {path} are the same run, seed {seed}; name one of them")
        found[key] = one if before is None else _joined(before, one)
    return tuple(found.values())


def _joined(cell: Cell, other: Cell) -> Cell:
    """One cell of the seeds of two, in their order."""
    folders = {**cell.folders, **other.folders}
    results = {**cell.results, **other.results}
    return replace(
        cell, folders=dict(sorted(folders.items())), results=dict(sorted(results.items())),
        altered=tuple(dict.fromkeys((*cell.altered, *other.altered))), identities=(*cell.identities, *other.identities),
    )  # fmt: skip


def named_apart(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The same cells, each of its own name: with its recipe, what altered it, or its folder's where it must be."""
    ways: tuple[Callable[[Cell], str], ...] = (
        lambda cell: f"{cell.recipe}:{cell.name}",
        lambda cell: f"{cell.recipe}:{cell.name} ({', '.join(cell.altered) or 'as it is'})",
        lambda cell: str(next(iter(cell.folders.values())).path),
    )
    names = [cell.name for cell in cells]
    for way in ways:
        names = [way(cell) if names.count(name) > 1 else name for cell, name in zip(cells, names, strict=True)]
    return tuple(replace(cell, name=name) for cell, name in zip(cells, names, strict=True))


@dataclass(frozen=True)
class PaperPart:
    """A table, a figure ("3" is 3a and 3b) or a section of the paper; all of it where nothing is said."""

    table: int | None = None
    figure: str | None = None
    section: str | None = None

    def __str__(self) -> str:
        return (
            f"Table {self.table}"
            if self.table
            else f"Figure {self.figure}"
            if self.figure
            else f"section {self.section}"
        )

    def is_reproduced_by(self, reproduces: Reproduces) -> bool:
        return (
            (self.table is None or self.table in reproduces.tables)
            and (self.figure is None or any(f == self.figure or f[:-1] == self.figure for f in reproduces.figures))
            and (self.section is None or self.section in reproduces.sections)
        )


def recipes_for(
    references: Sequence[str],
    part: PaperPart,
    *,
    overlays: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> tuple[Loaded, ...]:
    """The recipes that answer to a part of the paper, from `references` or all that are shipped.

    Raises UsageError where none answers, or one that was named does not.
    """
    chosen = [find_recipe(reference) for reference in references] or [entry.path for entry in list_recipes()]
    loaded, plain = [], []
    for path in chosen:
        # Which table it answers to is known without overrides, and only those that do must be able to take them.
        one = load(path)
        plain.append(one.recipe.reproduces)
        if part.is_reproduced_by(one.recipe.reproduces):
            loaded.append(load(path, overlays=overlays, overrides=overrides) if overlays or overrides else one)
        elif references:
            raise UsageError(f"{one.recipe.name} does not say that it reproduces {part}; leave one of the two out, or add it "
                             f"to `reproduces` of the recipe")  # fmt: skip
    if not loaded:
        asked, known = (
            ("--table", sorted({str(n) for r in plain for n in r.tables})) if part.table
            else ("--figure", sorted({f for r in plain for f in r.figures})) if part.figure is not None
            else ("--section", sorted({s for r in plain for s in r.sections}))
        )  # fmt: skip
        number = part.table or part.figure or part.section
        raise UsageError(f"no shipped recipe reproduces {asked.removeprefix('--')} {number} of the paper; {asked} takes "
                         f"{', '.join(known)}")  # fmt: skip
    order = {name: number for number, name in enumerate(DATA_ORDER)}
    if not references:
        loaded.sort(key=lambda one: order.get(next(iter(one.recipe.runs.values())).data.name, len(order)))
    return tuple(loaded)


def method(settings: Settings) -> str:
    """What is minimised, as the paper calls it: baseline, TNA, KD or KD + CE."""
    match settings.objective:
        case Twin(siblings=siblings):
            return "TNA" if len(siblings) == 1 else f"TNA, {len(siblings) + 1} networks"
        case Distill(cross_entropy=cross_entropy):
            return "KD + CE" if cross_entropy else "KD"
    return "baseline"
