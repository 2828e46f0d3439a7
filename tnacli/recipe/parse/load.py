"""From a recipe, overlays and overrides to the runs they describe: `load`, then `plan`.

What is laid over what, from the lowest: the schema's defaults, the file that is extended, the file's shared
settings, the run's own settings, overlays in their order, overrides in theirs. `tnacli.recipe.parse.merge` says
how.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from tnacli.errors import RecipeError, UsageError
from tnacli.recipe.identity import Run
from tnacli.recipe.parse.explain import explain
from tnacli.recipe.parse.fields import COMMON, SETTINGS
from tnacli.recipe.parse.find import find_recipe, shown
from tnacli.recipe.parse.layers import Override, read_file, read_overlay, read_override
from tnacli.recipe.parse.merge import fit, kindless_keys, kinds_with, merge
from tnacli.recipe.parse.node import Location, Node, Problem, leaves, plain, refuse_all, suggest
from tnacli.recipe.parse.sweep import Sweep, expanded, swept
from tnacli.recipe.parse.take_back import without_names, without_null, without_runs
from tnacli.recipe.schema.recipe import Recipe


@dataclass(frozen=True)
class Loaded:
    """A recipe in full, and how it came about.

    `altered` names the overlays and overrides ("with laptop", "set train.epochs=3"). `origins` says for every
    run where each setting was written, by dotted key; what is not in it has the schema's default. `sweeps` are the runs
    that were made by several values for a key.
    """

    recipe: Recipe
    path: Path
    altered: tuple[str, ...]
    origins: dict[str, dict[str, Location]]
    sweeps: tuple[Sweep, ...] = ()


def load(reference: str | Path, *, overlays: Sequence[str] = (), overrides: Sequence[str] = ()) -> Loaded:
    """The recipe that `reference` means (see `find_recipe`), under overlays and overrides (`train.epochs=3`).

    Raises RecipeError with one line for everything that is wrong: file:line, dotted key, what is allowed, and
    what was probably meant.
    """
    path = find_recipe(reference)
    file, problems = read_file(path)
    layers: list[Override] = []
    for number, overlay in enumerate(overlays, 1):
        node, found = read_overlay(overlay, number)
        layers.append(Override(node))
        problems += found
    if file.broken or any(layer.settings.broken for layer in layers):
        refuse_all(problems)  # of a file that cannot be read, nothing else can be said
    names = [name for name, run in _written_runs(file).items() if not run.takes_back]
    for number, text in enumerate(overrides, len(overlays) + 1):
        override, found = read_override(text, number, names)
        layers += [override] if override else []
        problems += found

    merged, found = _runs(file, layers)
    runs, sweeps, wrong = expanded(merged)
    problems += [*found, *wrong]
    gone = {name: max((node.layer for node in swept(run).values()), default=run.layer) for name, run in merged.items()}
    gone = _taken_back(file, layers) | {name: layer for name, layer in gone.items() if name not in runs}
    tree = _recipe(file, path, layers, runs=runs, gone=gone)
    recipe = None
    try:
        recipe = Recipe.model_validate(plain(tree))
    except ValidationError as error:
        problems += explain(error, tree)
    refuse_all(problems)
    assert recipe is not None
    altered = [f"with {Path(name).stem}" for name in overlays] + [f"set {text.strip()}" for text in overrides]
    return Loaded(
        recipe,
        path,
        altered=tuple(altered),
        origins={name: {key: node.origin for key, node in leaves(run)} for name, run in runs.items()},
        sweeps=sweeps,
    )


def plan(loaded: Loaded, *, runs: Sequence[str] = (), seeds: Sequence[int] = ()) -> tuple[Run, ...]:
    """The runs to do, all of one seed before those of the next, in the recipe's order.

    `runs` picks some by name, that of a sweep for all of its runs, or with `*` and `?` for any text and any character;
    `seeds` stand in for the recipe's. Raises UsageError for one that cannot be.
    """
    known = loaded.recipe.runs
    picked = {name for asked in runs for name in _picked(asked, loaded)}
    for seed in seeds:
        if seed < 0 or seeds.count(seed) > 1:
            wrong = "is below 0" if seed < 0 else "is given twice"
            raise UsageError(f"seed {seed} {wrong}; give each seed once, from 0 up")
    return tuple(
        Run(loaded.recipe.name, name, seed, settings, loaded.altered)
        for seed in seeds or loaded.recipe.seeds
        for name, settings in known.items()
        if name in picked or not runs
    )


def plan_coming(loaded: Loaded, *, seeds: Sequence[int] = ()) -> tuple[Run, ...]:
    """All runs of the recipe that can be told today: not those that start from a file which is not there yet."""
    found: list[Run] = []
    for name in loaded.recipe.runs:
        with contextlib.suppress(RecipeError):
            found += plan(loaded, runs=[name], seeds=seeds)
    return tuple(found)


def _picked(asked: str, loaded: Loaded) -> list[str]:
    """The runs that `asked` means. Raises UsageError if there are none."""
    known = loaded.recipe.runs
    if asked in known:
        return [asked]
    found = [name for sweep in loaded.sweeps if sweep.name == asked for name in sweep.points]
    pattern = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in asked)
    if not (found := found or [name for name in known if re.fullmatch(pattern, name)]):
        hint = suggest(asked, [*known, *(sweep.name for sweep in loaded.sweeps)])
        raise UsageError(f"{loaded.recipe.name} has no run {asked!r}; runs: {', '.join(known)}{hint}")
    return found


def _runs(file: Node, layers: Sequence[Override]) -> tuple[dict[str, Node], list[Problem]]:
    """The settings of every run in the recipe `file`, and a problem for each override that none can use."""
    shared = _part(file, SETTINGS)
    settings: dict[str, Node] = {}
    used: set[tuple[int, str, str]] = set()
    gone = _taken_back(file, layers)
    for name, own in _written_runs(file).items():
        if name in gone:
            continue
        # Anything but a mapping or nothing is known to be wrong by now.
        node = merge(shared, own) if isinstance(own.value, dict) else shared
        for number, layer in enumerate(layers):
            if layer.run in (None, name):
                upper = fit(_part(layer.settings, SETTINGS), node)
                used |= {(number, mapping, key) for mapping, key, _ in kindless_keys(upper)}
                node = merge(node, upper)
        settings[name] = replace(without_null(node), origin=own.origin, key=own.key, layer=own.layer)
    return settings, list(_without_effect(layers, used))


def _without_effect(layers: Sequence[Override], used: set[tuple[int, str, str]]) -> Iterator[Problem]:
    """A problem for what an override sets in `objective` or `compression` though no run has it there.

    An overlay may do so, since it is written for any recipe.
    """
    for number, layer in enumerate(layers):
        for mapping, key, node in kindless_keys(layer.settings):
            if (number, mapping, key) not in used and node.origin.line is None:
                who = f"run {layer.run} does not have it" if layer.run else "no run of this recipe has it"
                text = f"would have no effect: {who}; it belongs to {mapping} with {kinds_with(mapping, key)}"
                yield Problem(node.origin, node.key, text)


def _recipe(file: Node, path: Path, layers: Sequence[Override], *, runs: dict[str, Node], gone: dict[str, int]) -> Node:
    """The whole recipe as the schema takes it; `gone` are runs that are no more, each with the layer that did it."""
    named = {"name": Node(path.stem, Location(shown(path)), "name")}
    node = _part(file, Recipe.model_fields)
    for layer in layers:
        if layer.run is None:
            node = merge(node, _part(layer.settings, COMMON))
    entries = {**named, **without_null(node, Recipe).entries}
    if "runs" in entries:
        entries["runs"] = replace(entries["runs"], value=dict(runs))
    if "reproduces" in entries:
        entries["reproduces"] = without_runs(entries["reproduces"], gone)
    if "thresholds" in entries:
        entries["thresholds"] = without_names(entries["thresholds"], gone)
    return replace(file, value=entries)


def _written_runs(file: Node) -> dict[str, Node]:
    """The runs of a recipe's file by name, null those that it takes back."""
    return file.entries["runs"].entries if "runs" in file.entries else {}


def _taken_back(file: Node, layers: Sequence[Override]) -> dict[str, int]:
    """The runs that the file or an override takes back, each with the layer that does."""
    nodes = dict(_written_runs(file))
    nodes |= {layer.run: layer.settings for layer in layers if layer.run is not None and layer.settings.takes_back}
    return {name: node.layer for name, node in nodes.items() if node.takes_back}


def _part(node: Node, keys: Collection[str]) -> Node:
    return replace(node, value={key: child for key, child in node.entries.items() if key in keys})
