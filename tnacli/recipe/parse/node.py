"""Values as written, each with the place it was written at, and the problems found with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tnacli.errors import RecipeError

Scalar = None | bool | int | float | str


@dataclass(frozen=True)
class Location:
    """Where a value was written: a file as users know it, a line from 1, or `--set`, which has no lines."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Node:
    """One value, with those inside it.

    `key` is the dotted key as written, such as `runs.tna.train.epochs`. `layer` says what was laid over what:
    of two values that do not fit together, the one of the higher layer is to blame. A `broken` value has a
    problem that is already known, so no more is said about it. An `empty` one is None because nothing was written.
    """

    value: Scalar | dict[str, Node] | list[Node]
    origin: Location
    key: str = ""
    layer: int = 0
    broken: bool = False
    empty: bool = False

    @property
    def takes_back(self) -> bool:
        """Whether it is a written `null`: whatever was said below, it is as if nobody had."""
        return self.value is None and not self.empty and not self.broken

    @property
    def entries(self) -> dict[str, Node]:
        """The values of a mapping by key; nothing for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    def child(self, part: str | int) -> Node | None:
        """The value at a key of a mapping or an index of a list, if there is one."""
        if isinstance(self.value, list):
            return self.value[part] if isinstance(part, int) and part < len(self.value) else None
        return self.entries.get(str(part))

    def find(self, dotted: str) -> Node | None:
        """The value at a dotted key below this one, items of lists by number; names of runs may themselves hold dots."""
        items = {str(n): item for n, item in enumerate(self.value)} if isinstance(self.value, list) else self.entries
        if dotted in items:
            return items[dotted]
        for key, child in items.items():
            if dotted.startswith(key + ".") and (found := child.find(dotted[len(key) + 1 :])):
                return found
        return None


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where, and what is allowed."""

    origin: Location
    key: str
    text: str

    def __str__(self) -> str:
        line = ": ".join(part for part in (str(self.origin), self.key, self.text) if part)
        # Keys come from the file; a line break or a terminal's control code in one is shown, not obeyed.
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def plain(node: Node) -> Any:
    """The value without its origins, as `yaml.safe_load` would give it."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def leaves(node: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every value that is no mapping, with its dotted key below `node`; a list counts as one value."""
    for key, child in node.entries.items():
        if isinstance(child.value, dict):
            yield from leaves(child, f"{prefix}{key}.")
        else:
            yield prefix + key, child


def show(node: Node) -> str:
    """The value as an error message calls it."""
    match node.value:
        case None:
            return "empty"
        case bool():
            return str(node.value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return quoted(node.value)
    return str(node.value)


def quoted(text: str) -> str:
    """Text in quotes, on one line and cut where it is very long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def suggest(word: str, among: Iterable[str]) -> str:
    """`; did you mean 'closest'?`, or nothing if no word is close."""
    by_lower = {known.lower(): known for known in among}
    closest = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[closest[0]]!r}?" if closest else ""


def refuse_all(problems: Iterable[Problem]) -> None:
    """Raise one RecipeError with a line for each problem, in the order of the files and their lines."""
    found = list(dict.fromkeys(problems))
    if found:
        files = list(dict.fromkeys(problem.origin.file for problem in found))
        found.sort(key=lambda problem: (files.index(problem.origin.file), problem.origin.line or 0))
        raise RecipeError("\n".join(map(str, found)))
