"""What may stand at each place of a recipe, read off the schema: keys, the kinds of a union, bounds, choices.

Only the loader's messages and merging need this; pydantic does the checking.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from tnacli.recipe.parse.node import Node, suggest
from tnacli.recipe.schema.recipe import Recipe, Settings
from tnacli.recipe.schema.section import Section

SETTINGS = tuple(Settings.model_fields)
"""The settings that every run has: what a recipe file, an overlay and a run may say."""

COMMON = tuple(name for name in Recipe.model_fields if name not in ("name", "runs", "reproduces", "thresholds"))
"""What a recipe says beside its runs, and an overlay or override may say too."""

FILE = ("extends", *Recipe.model_fields, *SETTINGS)
"""The keys of a recipe file."""

_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


@cache
def unions() -> dict[str, tuple[str, dict[str, type[Section]]]]:
    """The settings that come in several kinds: name -> (the key that says which, each kind's section)."""
    found = {}
    for name, field in Settings.model_fields.items():
        sections = list(_sections(field.annotation))
        if len(sections) > 1:
            tag = next(key for key in sections[0].model_fields if all(_literal(s, key) for s in sections))
            found[name] = (tag, {kind: section for section in sections for kind in _literal(section, tag)})
    return found


def section_at(loc: tuple[str | int, ...], tree: Node) -> type[Section] | None:
    """The section that the schema has at `loc` of a whole recipe; which of a union, `tree` says."""
    annotation: Any = Recipe
    node: Node | None = tree
    for part in loc:
        sections = _chosen(annotation, node)
        field = sections[0].model_fields.get(str(part)) if len(sections) == 1 else None
        annotation = field.annotation if field else _item(annotation)
        node = node.child(part) if node else None
    sections = _chosen(annotation, node)
    return sections[0] if len(sections) == 1 else None


def field_at(loc: tuple[str | int, ...], tree: Node) -> FieldInfo | None:
    """The field that the schema has at `loc`, if that is a field of a section and no item of a list."""
    section = section_at(loc[:-1], tree) if loc else None
    return section.model_fields.get(str(loc[-1])) if section else None


@cache
def fields_below(path: tuple[str, ...], within: type[Section]) -> dict[str, FieldInfo] | None:
    """The fields that a mapping at `path` of a section may have, each kind of a union included; None where any may stand."""
    sections: list[type[Section]] = [within]
    for part in path:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        sections = [inner for field in fields for inner in _sections(field.annotation)]
    return {key: field for section in sections for key, field in section.model_fields.items()} if sections else None


def bounds(field: FieldInfo | None) -> str:
    """`at least 1 and below 90`, or nothing for a field without bounds."""
    found = []
    for piece in _metadata(field):
        for name, words in _BOUNDS.items():
            if (limit := getattr(piece, name, None)) is not None:
                found.append(words.format(limit))
    return " and ".join(dict.fromkeys(found))


def choices(field: FieldInfo | None) -> tuple[str, ...]:
    """The words that a field allows, if it allows only some."""
    return _words(field.annotation) if field else ()


def unknown_key(name: str, known: Iterable[str]) -> str:
    """What is wrong with the key `name` where only the `known` may stand, and which is probably meant."""
    known = tuple(known)
    elsewhere = [key for key in setting_keys() if key.endswith(f".{name}")]
    hint = f"; did you mean {elsewhere[0]!r}?" if elsewhere else suggest(name, known)
    return f"unknown key; known here: {', '.join(known)}{hint}"


@cache
def setting_keys() -> tuple[str, ...]:
    """The dotted key of every setting of a run, each kind of a union included."""
    return tuple(setting_fields())


@cache
def setting_fields() -> dict[str, tuple[FieldInfo, ...]]:
    """The fields behind each key of `setting_keys`: several where kinds of a union have a key of the same name."""
    found: dict[str, tuple[FieldInfo, ...]] = {}
    for key, field in _fields(Settings):
        found[key] = (*found.get(key, ()), field)
    return found


def _fields(section: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        yield name, field
        if get_origin(field.annotation) is not tuple:
            for inner in _sections(field.annotation):
                yield from ((f"{name}.{key}", leaf) for key, leaf in _fields(inner))


def _chosen(annotation: Any, node: Node | None) -> list[type[Section]]:
    """The section that fits `node`, or all that could."""
    sections = list(_sections(annotation))
    for tag, kinds in unions().values():
        if sections == list(kinds.values()) and node is not None:
            kind = node.entries.get(tag)
            if kind is not None and isinstance(kind.value, str) and kind.value in kinds:
                return [kinds[kind.value]]
    return sections


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated):
        for inner in get_args(annotation):
            yield from _sections(inner)


def _item(annotation: Any) -> Any:
    """What stands inside a list, or behind a key of a mapping with free keys."""
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None


def _literal(section: type[Section], key: str) -> tuple[str, ...]:
    field = section.model_fields.get(key)
    return _words(field.annotation) if field else ()


def _words(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(word for word in get_args(annotation) if isinstance(word, str))
    return tuple(word for part in get_args(annotation) for word in _words(part))


def _metadata(part: Any) -> Iterator[Any]:
    """Everything annotated to a field or type, at any depth."""
    if isinstance(part, FieldInfo):
        yield from part.metadata
        yield from _metadata(part.annotation)
    elif get_origin(part) in (Union, types.UnionType, Annotated):
        for inner in get_args(part):
            yield inner
            yield from _metadata(inner)
