"""JSON documents checked against classes with annotations: the part of pydantic that a packed file's description uses.

Strict as tnacli's sections are: no conversion but of whole numbers to floats, no key that is not listed, no infinite numbers.
What it accepts, and as what, is what pydantic does.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

ConfigDict = dict  # of one kind of section alone, whose ways are those of this module
_Place = tuple[str | int, ...]
_Self = TypeVar("_Self", bound="BaseModel")
_Function = TypeVar("_Function", bound=Callable[..., Any])
_MISSING = object()


@dataclass(frozen=True)
class Field:
    """Bounds of a number, what a text must match as a whole, or the least length of a tuple."""

    ge: float | None = None
    le: float | None = None
    pattern: str | None = None
    min_length: int = 0

    def complaint(self, value: Any) -> str | None:
        """What is wrong with `value`, of the right type; None if nothing is."""
        if self.ge is not None and value < self.ge:
            return f"Input should be greater than or equal to {self.ge}"
        if self.le is not None and value > self.le:
            return f"Input should be less than or equal to {self.le}"
        # Python's $ is also before a last newline.
        if self.pattern is not None and not re.fullmatch(self.pattern.removesuffix("$"), value):
            return f"String should match pattern '{self.pattern}'"
        if self.min_length and len(value) < self.min_length:
            return f"Tuple should have at least {self.min_length} item after validation, not {len(value)}"
        return None


@dataclass(frozen=True)
class BeforeValidator:
    """What a value goes through before its type is checked; raises ValueError for what it refuses."""

    func: Callable[[Any], Any]


class ValidationError(ValueError):
    """A document is not as its class says."""

    def __init__(self, complaints: list[tuple[_Place, str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, place))}: {what}" for place, what in complaints))
        self._complaints = complaints

    def errors(self) -> list[dict[str, Any]]:
        """Each complaint: `loc`, its keys, and `msg`."""
        return [{"loc": place, "msg": what} for place, what in self._complaints]


def model_validator(*, mode: Literal["after"]) -> Callable[[_Function], _Function]:
    """Marks a method that is called once every field is right, and raises ValueError where they do not go together."""

    def marked(method: _Function) -> _Function:
        method._checks_the_whole = True  # type: ignore[attr-defined]
        return method

    return marked


class BaseModel:
    """A class whose annotations say what an object of JSON holds. Immutable."""

    model_fields_set: frozenset[str]

    @classmethod
    def model_validate_json(cls: type[_Self], text: str) -> _Self:
        """The object in `text`. Raises ValidationError with every complaint."""
        complaints: list[tuple[_Place, str]] = []
        found: _Self = _model(cls, json.loads(text), (), complaints)
        if complaints:
            raise ValidationError(complaints)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")


class _Told(NamedTuple):
    """What a class says of its objects: the type of each field, its default or rule, and what checks the whole."""

    hints: dict[str, Any]
    defaults: dict[str, Any]
    rules: dict[str, Field]
    checks: list[Callable[[Any], object]]


@cache
def _fields(cls: type[BaseModel]) -> _Told:
    own = [one for one in cls.__mro__ if issubclass(one, BaseModel) and one is not BaseModel]
    hints = {
        name: hint
        for name, hint in get_type_hints(cls, include_extras=True).items()
        if name not in BaseModel.__annotations__
    }
    given = {name: value for name in hints if (value := getattr(cls, name, _MISSING)) is not _MISSING}
    rules = {name: value for name, value in given.items() if isinstance(value, Field)}
    defaults = {name: value for name, value in given.items() if name not in rules}
    checks = [value for one in own for value in vars(one).values() if getattr(value, "_checks_the_whole", False)]
    return _Told(hints, defaults, rules, checks)


def _model(cls: type[BaseModel], value: Any, place: _Place, complaints: list[tuple[_Place, str]]) -> Any:
    if not isinstance(value, dict):
        complaints.append((place, "Input should be an object"))
        return None
    told, before, made = _fields(cls), len(complaints), object.__new__(cls)
    for name, hint in told.hints.items():
        if name in value:
            checked = _checked(hint, value[name], (*place, name), complaints)
            if name in told.rules and checked is not None:
                _obey(told.rules[name], checked, (*place, name), complaints)
            object.__setattr__(made, name, checked)
        elif name in told.defaults:
            object.__setattr__(made, name, told.defaults[name])
        else:
            complaints.append(((*place, name), "Field required"))
    complaints += [((*place, name), "Extra inputs are not permitted") for name in value if name not in told.hints]
    object.__setattr__(made, "model_fields_set", frozenset(value))
    if len(complaints) == before:
        try:
            for check in told.checks:
                check(made)
        except ValueError as error:
            complaints.append((place, str(error)))
    return made


def _checked(hint: Any, value: Any, place: _Place, complaints: list[tuple[_Place, str]]) -> Any:
    """`value` as `hint` wants it; None, with a complaint, if it is not."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return _marked(hint, value, place, complaints)
    if kind in (Union, types.UnionType):
        return _any_of(parts, value, place, complaints)
    if kind is tuple:
        return _tuple(parts, value, place, complaints)
    if kind is Literal:
        listed = [one for one in parts if type(one) is type(value) and one == value]
        if not listed:
            complaints.append((place, f"Input should be {' or '.join(map(repr, parts))}"))
        return listed[0] if listed else None
    if issubclass(hint, BaseModel):
        return _model(hint, value, place, complaints)
    return _plain(hint, value, place, complaints)


def _marked(annotated: Any, value: Any, place: _Place, complaints: list[tuple[_Place, str]]) -> Any:
    """As `_checked`, of `Annotated[hint, *marks]`."""
    hint, *marks = get_args(annotated)
    try:
        for mark in marks:
            value = mark.func(value) if isinstance(mark, BeforeValidator) else value
    except ValueError as error:
        complaints.append((place, str(error)))
        return None
    before = len(complaints)
    checked = _checked(hint, value, place, complaints)
    for mark in marks:
        if len(complaints) == before and isinstance(mark, Field):
            _obey(mark, checked, place, complaints)
    return checked


def _obey(rule: Field, value: Any, place: _Place, complaints: list[tuple[_Place, str]]) -> None:
    complaint = rule.complaint(value)
    if complaint is not None:
        complaints.append((place, complaint))


def _any_of(hints: tuple[Any, ...], value: Any, place: _Place, complaints: list[tuple[_Place, str]]) -> Any:
    if value is None and types.NoneType in hints:
        return None
    wrong: list[tuple[_Place, str]] = []
    for hint in hints:
        if hint is types.NoneType:
            continue
        tried: list[tuple[_Place, str]] = []
        checked = _checked(hint, value, place, tried)
        if not tried:
            return checked
        wrong += tried
    complaints += wrong
    return None


def _tuple(hints: tuple[Any, ...], value: Any, place: _Place, complaints: list[tuple[_Place, str]]) -> Any:
    if not isinstance(value, list):
        complaints.append((place, "Input should be a valid array"))
        return None
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        complaints.append((place, f"Input should be a list of {len(hints)}, not of {len(value)}"))
        return None
    return tuple(
        _checked(hint, one, (*place, i), complaints) for i, (hint, one) in enumerate(zip(hints, value, strict=True))
    )


def _plain(hint: type, value: Any, place: _Place, complaints: list[tuple[_Place, str]]) -> Any:
    if hint is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if type(value) is not hint:
        names = {int: "integer", float: "number", str: "string", bool: "boolean"}
        complaints.append((place, f"Input should be a valid {names[hint]}"))
        return None
    if hint is float and not math.isfinite(value):
        complaints.append((place, "Input should be a finite number"))
        return None
    if hint is str and not _is_text(value):
        complaints.append((place, "Input should be a valid string, half a character is none"))
        return None
    return value


def _is_text(value: str) -> bool:
    """Whether every character is one: JSON can name halves of a pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
