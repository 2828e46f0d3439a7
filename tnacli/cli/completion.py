"""What the shell offers on Tab: recipes, overlays, runs, the words of an option, and the keys and values of `--set`.

Loads no torch. Where nothing fits nothing is offered, and the shell falls back on file names. Nothing is reported either:
a message would only garble the line that someone is typing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import typer
from rich.markup import escape

from tnacli.errors import TnaError

Offers = list[tuple[str, str]]
"""Words and what they mean; zsh, fish and PowerShell show both."""

_ASSIGNING = "_TNA_ASSIGNING"
_LONGEST = 64


def words(*known: str) -> Callable[[str], list[str]]:
    """The completion of an option that takes one of the `known` words."""

    def offered(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return offered


def recipes(incomplete: str) -> Offers:
    """The shipped recipes."""
    from tnacli.recipe.parse import list_recipes

    with contextlib.suppress(TnaError):
        return [(entry.name, _short(entry.title)) for entry in list_recipes() if entry.name.startswith(incomplete)]
    return []


def overlays(incomplete: str) -> Offers:
    """The shipped overlays."""
    from tnacli.recipe.parse import list_overlays

    with contextlib.suppress(TnaError):
        return [(entry.name, _short(entry.title)) for entry in list_overlays() if entry.name.startswith(incomplete)]
    return []


def listed(incomplete: str) -> Offers:
    """What `tna recipes` prints by name: recipes, then overlays."""
    return recipes(incomplete) + overlays(incomplete)


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """The runs of the recipes that stand on the line already.

    What stands there is in `context.args`: an option that still lacks its value keeps the arguments from being parsed.
    """
    from tnacli.recipe.parse import find_recipe, read_file

    names: list[str] = []
    for recipe in context.args:
        with contextlib.suppress(TnaError):
            found = read_file(find_recipe(recipe))[0].child("runs")
            names += [name for name, run in found.entries.items() if not run.takes_back] if found else ()
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def data_sets(incomplete: str) -> Offers:
    """The data sets that can be prepared by name."""
    from tnacli.recipe.datasets import DATASETS

    return [(name, spec.kind) for name, spec in DATASETS.items() if name.startswith(incomplete)]


def settings(incomplete: str) -> Offers:
    """The keys of `--set` up to their `=`; after it, and where one key is left, the values."""
    begun = os.environ.get(_ASSIGNING, "")
    incomplete = begun + incomplete
    key, equals, _ = incomplete.partition("=")
    known = {name: about for name, about in _keys().items() if name.startswith(key)}
    if equals:
        known = {name: about for name, about in known.items() if name == key}
    offers = [(f"{name}=", about) for name, about in known.items()]
    if len(known) == 1:
        # A key whose values can be listed gives way to them; beside another its default shows how one is written.
        ((name, about),) = known.items()
        choices, default = _values(name)
        offers = [] if choices else offers
        offers += [(f"{name}={value}", about) for value in choices or default]
    return [(word.removeprefix(begun), about) for word, about in offers if word.startswith(incomplete)]


def join_assignment() -> None:
    """Undo that bash hands over KEY=VALUE as three words, and replaces only the last: leave VALUE, and put KEY= aside."""
    given, word = os.environ.get("COMP_WORDS", "").split("\n"), int(os.environ.get("COMP_CWORD", "0"))
    if word < len(given) and given[word] == "=":
        given.insert(word + 1, "")
    else:
        word -= 1
    if word < 2 or given[word] != "=" or given[word - 1].startswith("-"):
        return
    os.environ[_ASSIGNING] = f"{given[word - 1]}="
    os.environ["COMP_WORDS"] = "\n".join([*given[: word - 1], given[word + 1] or "''"])
    os.environ["COMP_CWORD"] = str(word - 1)


def _keys() -> dict[str, str]:
    """Every key that `--set` takes, sections left out, with what it means."""
    from tnacli.recipe.parse import setting_fields
    from tnacli.recipe.schema.recipe import Recipe

    fields = setting_fields()
    sections = {name[:dot] for name in fields for dot, char in enumerate(name) if char == "."}
    settable = {name: found[0] for name, found in fields.items() if name not in sections}
    settable |= {name: Recipe.model_fields[name] for name in ("seeds", "export")}
    return {name: _short(field.description or "") for name, field in settable.items()}


def _values(key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All the values that a key takes, if they can be listed; its default, if that is a plain value."""
    from tnacli.recipe.datasets import DATASETS
    from tnacli.recipe.parse import choices, setting_fields
    from tnacli.recipe.schema.recipe import Recipe

    fields = setting_fields().get(key) or (Recipe.model_fields[key],)
    if key == "data.name":
        return tuple(DATASETS), ()
    listed = tuple(dict.fromkeys(word for field in fields for word in choices(field)))
    default = fields[0].default
    if fields[0].annotation is bool:
        return ("true", "false"), ()
    return listed, (str(default),) if isinstance(default, int | float | str) else ()


def _short(text: str) -> str:
    """`text` on one line: Typer has rich wrap what is longer than 80 columns, and fish takes each line for an offer."""
    return escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3].rpartition(' ')[0]} ...")
