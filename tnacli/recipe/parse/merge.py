"""Laying settings over settings.

Mappings merge key by key; any other value replaces what was below it. `null` takes back what was below it, in every layer
down to the lowest (`take_back.py`). One rule more: a mapping that comes in
several kinds (`objective` by its `kind`, `compression` by its `mode`) is replaced as a whole by one of
another kind, because the settings of one kind mean nothing to another.

Overlays and overrides are written without knowing every run, so they also follow a second rule: settings for
such a mapping that do not say the kind (`compression: {start: 1}`) act on those runs whose kind has them, and
no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tnacli.recipe.parse.fields import unions, unknown_key
from tnacli.recipe.parse.node import Node, Problem
from tnacli.recipe.schema.recipe import Settings


def merge(lower: Node | None, upper: Node, path: tuple[str, ...] = ()) -> Node:
    """`upper` laid over `lower`. `path` is where both stand in a run's settings."""
    if lower is None or not isinstance(lower.value, dict) or not isinstance(upper.value, dict):
        return upper
    if len(path) == 1 and path[0] in unions():
        below, above = _kind(path[0], lower), _kind(path[0], upper)
        if above is not None and below is not None and above != below:
            return upper
    over = {key: merge(lower.value.get(key), child, (*path, key)) for key, child in upper.value.items()}
    return replace(upper, value={**lower.value, **over})


def fit(layer: Node, settings: Node) -> Node:
    """`layer`, of an overlay or override, without what the kinds chosen in `settings` have no use for."""
    fitting = dict(layer.entries)
    for name in _kindless(layer):
        known = _usable_keys(name, settings.child(name))
        kept = {key: child for key, child in layer.entries[name].entries.items() if key in known}
        if kept:
            fitting[name] = replace(layer.entries[name], value=kept)
        else:
            del fitting[name]
    return replace(layer, value=fitting)


def kindless_keys(layer: Node) -> Iterator[tuple[str, str, Node]]:
    """(mapping, key, value) of what `layer` sets without saying the kind: what `fit` may leave out."""
    for name in _kindless(layer):
        for key, child in layer.entries[name].entries.items():
            yield name, key, child


def keys_of_no_kind(layer: Node) -> Iterator[Problem]:
    """The keys in `layer`, set without saying the kind, that no kind has; `fit` drops them in silence."""
    for name, key, child in kindless_keys(layer):
        known = _keys_of_any_kind(name)
        if key not in known:
            yield Problem(child.origin, child.key, unknown_key(key, known))


def kinds_with(name: str, key: str) -> str:
    """`kind: twin or distill`, the kinds of the mapping `name` that have `key`."""
    tag, kinds = unions()[name]
    return f"{tag}: {' or '.join(kind for kind, section in kinds.items() if key in section.model_fields)}"


def _kindless(layer: Node) -> list[str]:
    return [
        name
        for name, (tag, _) in unions().items()
        if (part := layer.child(name)) and isinstance(part.value, dict) and tag not in part.value
    ]


def _kind(name: str, node: Node) -> str | None:
    child = node.child(unions()[name][0])
    return child.value if child and isinstance(child.value, str) else None


def _usable_keys(name: str, node: Node | None) -> tuple[str, ...]:
    """The keys that the mapping `name` has as it is: its default's where it is null, all where its kind is unknown."""
    kinds = unions()[name][1]
    if node is None or (node.value is None and not node.broken):
        default = Settings.model_fields[name].default
        return () if default is None else tuple(type(default).model_fields)
    kind = _kind(name, node)
    return tuple(kinds[kind].model_fields) if kind in kinds else _keys_of_any_kind(name)


def _keys_of_any_kind(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for section in unions()[name][1].values() for key in section.model_fields))
