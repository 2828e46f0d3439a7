"""From pydantic's errors to sentences: what is wrong on which line, what is allowed, what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from tnacli.recipe.parse.fields import bounds, choices, field_at, section_at, unions, unknown_key
from tnacli.recipe.parse.node import Node, Problem, quoted, show, suggest
from tnacli.recipe.parse.yaml_strict import scalar
from tnacli.recipe.schema.misfit import Misfit, MisfitError
from tnacli.recipe.schema.patterns import PATTERNS

Loc = tuple[str | int, ...]

_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_unicode": "text in Unicode",
    "tuple_type": "a list in brackets",
    "dict_type": "a mapping of settings",
    "model_type": "a mapping of settings",
    "model_attributes_type": "a mapping of settings",
}
_BOUNDS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}
_BOOLEANS = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}


def explain(error: ValidationError, tree: Node) -> list[Problem]:
    """A problem for everything that pydantic found wrong with the recipe `tree`.

    What is wrong with a setting that several runs share is one problem; it names the runs if not all have it.
    """
    runs = tuple(tree.entries["runs"].entries) if "runs" in tree.entries else ()
    affected: dict[Problem, list[str]] = {}
    for details in error.errors(include_url=False):
        loc = _without_kinds(details["loc"])
        run = str(loc[1]) if loc[:1] == ("runs",) and len(loc) > 1 else ""
        for problem in _problems(dict(details), loc, tree):
            affected.setdefault(problem, []).append(run)
    return [_naming(problem, tuple(dict.fromkeys(found)), runs) for problem, found in affected.items()]


def _naming(problem: Problem, found: tuple[str, ...], runs: tuple[str, ...]) -> Problem:
    """The problem, with the runs that have it unless they are all, or its key says so."""
    if found in (("",), runs) or problem.key.startswith("runs."):
        return problem
    which = f"run {found[0]}" if len(found) == 1 else f"runs {', '.join(found)}"
    return Problem(problem.origin, problem.key, f"{problem.text} (in {which})")


def _without_kinds(loc: Loc) -> Loc:
    """pydantic puts the kind of a union into a location; without it, it leads through what was written."""
    return loc[:3] + loc[4:] if loc[:1] == ("runs",) and len(loc) > 3 and loc[2] in unions() else loc


def _problems(details: dict[str, Any], loc: Loc, tree: Node) -> Iterator[Problem]:
    path = [tree]
    for part in loc:
        child = path[-1].child(part)
        if child is None:
            break
        path.append(child)
    node = path[-1]
    if any(step.broken for step in path):
        return  # its problem is known already, and anything said of its value would be a guess
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, MisfitError):
        for misfit in cause.misfits:
            yield from _misfit(misfit, node)
        return
    if details["type"] == "missing":
        yield _missing(loc, node, tree)
    elif details["type"].startswith("union_tag"):
        yield from _wrong_kind(str(loc[-1]), node)
    elif details["type"] in ("too_short", "too_long"):
        # pydantic does not count items that it found something wrong with; that has been said already.
        limits, count = details["ctx"], _count(node)
        if count < limits.get("min_length", 0) or count > limits.get("max_length", count):
            yield _wrong_count(loc, node, tree)
    else:
        yield Problem(node.origin, node.key, _sentence(details, loc, node, tree))


def _misfit(misfit: Misfit, node: Node) -> Iterator[Problem]:
    """What does not fit in the section `node`; of the settings involved, the highest layer is to blame."""
    involved = [found for key in misfit.keys if (found := node.find(key))]
    if any(found.broken for found in involved):
        return
    blamed = max(involved, key=lambda found: found.layer, default=node)
    text = misfit.text + suggest(misfit.got, misfit.among)
    if misfit.keys and blamed is not node.find(misfit.keys[0]):
        about = node.find(misfit.keys[0])
        text = f"{about.key} ({about.origin}) {text}" if about else f"{misfit.keys[0]} {text}"
    yield Problem(blamed.origin, blamed.key, text)


def _missing(loc: Loc, node: Node, tree: Node) -> Problem:
    """`node` is where the setting is missing; if its kind asks for it, that line is shown."""
    if isinstance(loc[-1], int):
        return _wrong_count(loc[:-1], node, tree)
    kind = node.child(unions()[str(loc[-2])][0]) if len(loc) > 1 and loc[-2] in unions() else None
    key = f"{node.key}.{loc[-1]}" if node.key else str(loc[-1])
    field = field_at(loc, tree)
    about = f" ({field.description})" if field and field.description else ""
    because = f"; {kind.key.rpartition('.')[2]}: {kind.value} needs it" if kind else ""
    return Problem((kind or node).origin, key, f"is missing{about}{because}")


def _wrong_kind(name: str, node: Node) -> Iterator[Problem]:
    tag, kinds = unions()[name]
    allowed = f"allowed: {', '.join(kinds)}"
    written = node.child(tag)
    if written is None:
        text = f"is missing; it says which {name} is meant; {allowed}"
        yield Problem(node.origin, f"{node.key}.{tag}", text)
    elif not written.broken:
        hint = suggest(str(written.value), kinds)
        yield Problem(written.origin, written.key, f"unknown {tag} {show(written)}; {allowed}{hint}")


def _wrong_count(loc: Loc, node: Node, tree: Node) -> Problem:
    count, field = _count(node), field_at(loc, tree)
    about = f"; expected: {field.description}" if field and field.description else ""
    return Problem(node.origin, node.key, f"holds {count or 'no'} value{'s' * (count != 1)}{about}")


def _count(node: Node) -> int:
    return len(node.value) if isinstance(node.value, dict | list) else 0


def _sentence(details: dict[str, Any], loc: Loc, node: Node, tree: Node) -> str:
    kind, field = details["type"], field_at(loc, tree)
    if kind == "extra_forbidden":
        return _unknown_key(loc, tree)
    if kind == "value_error":
        value = "" if isinstance(node.value, list | dict) else f" (it is {show(node)})"
        return f"{details['ctx']['error']}{value}"
    if kind == "literal_error":
        words = choices(field)
        return f"unknown value {show(node)}; allowed: {', '.join(words)}{suggest(str(node.value), words)}"
    if kind == "string_pattern_mismatch":
        wrong = quoted(str(loc[-2])) if loc[-1] == "[key]" else show(node)
        return f"must be {PATTERNS[details['ctx']['pattern']]}, not {wrong}"
    if kind in _BOUNDS:
        limit = bounds(field) or _BOUNDS[kind].format(**details["ctx"])
        return f"must be {limit}, not {show(node)}"
    if kind not in _TYPES:
        return str(details["msg"])
    within = f" ({limit})" if kind in ("int_type", "float_type") and (limit := bounds(field)) else ""
    if node.value is None:
        return f"is empty; write {_TYPES[kind]}{within}, or leave the key out"
    return f"must be {_TYPES[kind]}{within}, not {show(node)}{_rewritten(kind, loc, node, tree)}"


def _unknown_key(loc: Loc, tree: Node) -> str:
    section, name = section_at(loc[:-1], tree), str(loc[-1])
    known = tuple(section.model_fields) if section else ()
    if len(loc) > 1 and loc[-2] in unions() and section:
        tag, kinds = unions()[str(loc[-2])]
        here = next(kind for kind, of in kinds.items() if of is section)
        others = [kind for kind, of in kinds.items() if name in of.model_fields]
        if others:
            mixed = f"belongs to {tag}: {' or '.join(others)}, and this is {tag}: {here}"
            return f"{mixed}; known here: {', '.join(known)}"
    return unknown_key(name, known)


def _rewritten(kind: str, loc: Loc, node: Node, tree: Node) -> str:
    """How the value is probably to be written, where only its form is wrong."""
    value, name = node.value, str(loc[-1])
    match kind:
        case "int_type" if isinstance(value, float) and value.is_integer():
            return f"; write {int(value)}"
        case "int_type" | "float_type" if isinstance(value, str):
            text = value.replace("_", "").replace(",", "").strip()
            return f"; write {text}, without quotes or separators" if _is_number(text) else ""
        case "bool_type":
            meant = _BOOLEANS.get(str(value).lower())
            return f"; did you mean {meant}?" if meant else ""
        case "string_type" if isinstance(value, int | float):
            return f'; put it in quotes, "{show(node)}"'
        case "model_attributes_type" if name in unions() and isinstance(value, str):
            tag, kinds = unions()[name]
            return f"; did you mean {name}.{tag}: {value}?" if value in kinds else ""
        case "tuple_type" if isinstance(value, int | str) and section_at((*loc, 0), tree) is None:
            return f"; did you mean [{value}]?"
    return ""


def _is_number(text: str) -> bool:
    try:
        value = scalar(text)
    except ValueError:
        return False
    return isinstance(value, int | float) and not isinstance(value, bool)
