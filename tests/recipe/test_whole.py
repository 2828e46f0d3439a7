"""Strict about types means everywhere: pydantic takes true and 1.0 for the choice 1 unless it is told not to."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import tnacli.packed
import tnacli.recipe.schema
import tnacli.runs
from tnacli.packed.spec import LayerSpec
from tnacli.recipe.schema.section import Section, Whole
from tnacli.runs.metadata import Stored


def choices() -> dict[str, Any]:
    """The annotation of each choice among integers of what is read from files, by its class and name."""
    for package in (tnacli.packed, tnacli.recipe.schema, tnacli.runs):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return {
        f"{read.__name__}.{name}": Annotated[(field.annotation, *field.metadata)]
        if field.metadata
        else field.annotation
        for read in {*descendants(Section), *descendants(Stored)}
        for name, field in read.model_fields.items()
        if of_integers(field.annotation)
    }


def descendants(of: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for one in of.__subclasses__():
        yield one
        yield from descendants(one)


def of_integers(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return any(isinstance(one, int) for one in get_args(hint))
    return any(map(of_integers, get_args(hint)))


def test_a_choice_of_integers_takes_integers_alone() -> None:
    found = choices()
    assert {"LayerSpec.stride", "ConvolutionSpec.stride", "Document.version"} <= found.keys()
    for name, hint in found.items():
        adapter = TypeAdapter(hint)
        assert adapter.validate_json("1") == 1, name
        for text in ("true", "1.0", '"1"'):
            with pytest.raises(ValidationError):
                adapter.validate_json(text)


def test_a_pool_takes_integers_alone() -> None:
    """Which is a range of them, of which pydantic takes no more where a section is strict."""
    layer = '{"name": "fc1", "kind": "fc", "weight": [3, 4], "encoding": "fp32", "pool": %s}'
    assert LayerSpec.model_validate_json(layer % "2").pool == 2
    for text in ("true", "2.0", '"2"', "0", "12"):
        with pytest.raises(ValidationError, match="pool"):
            LayerSpec.model_validate_json(layer % text)


def test_unmarked_it_takes_more() -> None:
    """What the mark is for: once pydantic refuses these by itself, it can go."""
    assert TypeAdapter(Literal[1, 2]).validate_json("true", strict=True) == 1
    with pytest.raises(ValidationError):
        TypeAdapter(Annotated[Literal[1, 2], Whole]).validate_json("true")
