"""A recipe as people and editors see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tnacli.recipe.parse.describe import json_schema, resolved
from tnacli.recipe.parse.fields import FILE, SETTINGS, setting_keys
from tnacli.recipe.parse.find import shipped_folder
from tnacli.recipe.parse.load import Loaded
from tnacli.recipe.parse.node import plain
from tnacli.recipe.parse.yaml_strict import read_yaml
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.recipe.schema.objective import Twin
from tnacli.recipe.schema.recipe import Recipe, Runtime, Schedule, Settings, Train

Load = Callable[..., Loaded]


def test_every_setting_is_listed_with_its_origin(load_text: Load) -> None:
    loaded = load_text(
        "train:\n  epochs: 5\nruns:\n  a:\n    objective: {kind: twin, alpha: 1e-3, siblings: [{width: 0.5}]}\n  b:\n",
        "model.neuron.decay=0.25",
    )
    listed = resolved(loaded.recipe.runs["a"], loaded.origins["a"])
    rows = {row.key: (row.value, row.origin) for row in listed}
    assert rows["train.epochs"] == (5, "recipe.yaml:2")
    assert rows["objective.alpha"] == (1e-3, "recipe.yaml:5")
    assert rows["objective.siblings"] == ([{"width": 0.5}], "recipe.yaml:5")
    assert rows["model.neuron.decay"] == (0.25, "--set")
    assert rows["model.layout"] == ("cifarnet", "default")
    assert rows["compression"] == (None, "default")
    # Whatever was written shows up, in every run.
    for name, origins in loaded.origins.items():
        shown = {row.key: row.origin for row in resolved(loaded.recipe.runs[name], origins)}
        assert {key: str(origin) for key, origin in origins.items()}.items() <= shown.items()


def leaf_keys(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """Every dotted key that the JSON Schema allows below a place."""
    keys = set()
    for option in (schema, *schema.get("anyOf", ()), *schema.get("allOf", ())):
        if "$ref" in option:
            keys |= leaf_keys(definitions[option["$ref"].rpartition("/")[2]], definitions)
        elif option is not schema:
            keys |= leaf_keys(option, definitions)
        for name, inner in option.get("properties", {}).items():
            keys |= {name} | {f"{name}.{key}" for key in leaf_keys(inner, definitions)}
    return keys


def test_the_json_schema_is_that_of_a_file() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == set(FILE)
    assert not schema["additionalProperties"]
    definitions = schema["$defs"]
    assert leaf_keys(definitions["Settings"], definitions) == set(setting_keys())
    shared = {key for key in leaf_keys(schema, definitions) if key.partition(".")[0] in SETTINGS}
    assert shared == set(setting_keys())


def test_the_json_schema_takes_partial_settings() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="checks instances against the JSON Schema")
    schema = json_schema()

    def accepts(recipe: dict[str, Any]) -> bool:
        return bool(jsonschema.Draft202012Validator(schema).is_valid(recipe))

    assert accepts({"objective": {"alpha": 1}, "runs": {"a": None, "b": {"objective": {"kind": "twin"}}}})
    assert accepts({"extends": "x"})
    assert accepts({"runs": {"a": {"compression": None}}, "compression": {"start": "50%"}})
    assert accepts({"train": {"epochs": None}, "model": None, "runs": {"a": {"model": {"layout": None}}}})
    assert not accepts({"train": {"epoch": None}})
    assert not accepts({"runs": {"a": {"objective": {"kind": "solo", "alpha": 1}}}})
    assert not accepts({"runs": {"a": {"trian": {}}}})
    assert not accepts({"runs": {"A": None}})
    assert not accepts({"train": {"epochs": "x"}, "runs": {"a": None}})


FILES = [*shipped_folder().glob("*.yaml"), *shipped_folder().glob("overlays/*.yaml")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_json_schema_takes_every_shipped_file_and_none_with_a_slip(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="checks instances against the JSON Schema")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    written, problems = read_yaml(path, path.name)
    assert problems == []
    value = plain(written)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)] == []
    for key, inside in value.items():
        assert not validator.is_valid({**value, f"{key}s": inside}), key
        if isinstance(inside, dict) and key in SETTINGS:
            assert not validator.is_valid({**value, key: {**inside, "nothing": 1}}), key
    for name, run in value.get("runs", {}).items():
        assert not validator.is_valid({**value, "runs": {**value["runs"], name: {**(run or {}), "nothing": 1}}}), name


@pytest.mark.parametrize("section", [Data, Model, Neuron, Recipe, Runtime, Schedule, Settings, Train, Twin])
def test_every_field_is_described(section: Any) -> None:
    undescribed = [name for name, field in section.model_fields.items() if not field.description]
    assert undescribed in ([], ["kind"])
