"""A recipe for people and editors: each setting with its origin, and the JSON Schema of a recipe file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tnacli.recipe.parse.fields import SETTINGS
from tnacli.recipe.parse.node import Location
from tnacli.recipe.schema.patterns import NAME
from tnacli.recipe.schema.recipe import Recipe, Settings


class Resolved(NamedTuple):
    """One setting of a run: its dotted key, its value, and `file:line`, `--set` or `default`."""

    key: str
    value: Any
    origin: str


def resolved(settings: Settings, origins: Mapping[str, Location]) -> tuple[Resolved, ...]:
    """Every setting of a run in the schema's order, with its origin; `origins` is the run's of `Loaded`."""
    values = _flat(settings.model_dump(mode="json"))
    return tuple(Resolved(key, value, str(origins.get(key, "default"))) for key, value in values)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe or overlay file: shared settings at the top, partial settings in every run.

    Another layer may complete what a file says, and an overlay has no runs, so nothing is required; the loader
    checks the rest.
    """
    whole = Recipe.model_json_schema()
    definitions = whole["$defs"]
    extends = {"type": "string", "description": "a recipe file seen from this one, or a shipped one's name"}
    properties = {**whole["properties"], "extends": extends}
    properties.update({name: definitions["Settings"]["properties"][name] for name in SETTINGS})
    properties["runs"] = {
        "type": "object",
        "description": whole["properties"]["runs"]["description"],
        "patternProperties": {NAME: {"anyOf": [{"$ref": "#/$defs/Settings"}, {"type": "null"}]}},
        "additionalProperties": False,
    }
    schema = _partial({**whole, "title": "tnacli recipe", "properties": properties})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _partial(schema: Any) -> Any:
    """The schema with nothing required, so that unions are told apart only by what is there."""
    if isinstance(schema, list):
        return [_partial(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _partial(value) for key, value in schema.items() if key not in ("required", "discriminator")}
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf")
    if isinstance(kept.get("properties"), dict):
        kept["properties"] = {key: _or_null(value) for key, value in kept["properties"].items()}
    return kept


def _or_null(schema: Any) -> Any:
    """The schema of a key, which null takes back."""
    described = {"description": schema["description"]} if "description" in schema else {}
    return {"anyOf": [schema, {"type": "null"}], **described}


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            # Of a sibling, what is left out is as in the base and says nothing.
            own = [{k: v for k, v in one.items() if v is not None} if isinstance(one, dict) else one for one in value]
            yield prefix + key, own
        else:
            yield prefix + key, value
