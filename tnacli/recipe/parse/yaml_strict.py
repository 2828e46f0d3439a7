"""YAML without its traps: every value means what it looks like, and remembers the line it was written on.

The structure is read by PyYAML; what a plain scalar means is decided here. `true` and `false` are the only
booleans, `1e-3` is a number, `010` is refused, and `on`, `off`, `yes` and `no` are text. Duplicate keys,
anchors, tags and whatever else a recipe has no use for are refused. Problems are collected, not raised, so
that all of them can be shown at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from tnacli.recipe.parse.node import Location, Node, Problem, Scalar, quoted

MAX_BYTES = 1 << 20
MAX_DEPTH = 20

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"([-+]?)0+([0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?)")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# How a value begins that is more than one plain scalar, or is refused in a file too.
_INDICATORS = tuple("[{\"'&*!|>%@`")


def read_yaml(path: Path, shown: str, layer: int = 0) -> tuple[Node, list[Problem]]:
    """The mapping in the file `path`, called `shown` in origins, and what is wrong with how it is written.

    An empty file is an empty mapping. A file that cannot be understood at all comes back as a broken node.
    """

    def unreadable(text: str, line: int | None = None) -> tuple[Node, list[Problem]]:
        origin = Location(shown, line)
        return Node({}, origin, layer=layer, broken=True), [Problem(origin, "", text)]

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return unreadable(f"cannot be read: {error.strerror or error}")
    if len(content) > MAX_BYTES:
        return unreadable(f"is larger than {MAX_BYTES >> 20} MiB; this is no recipe")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return unreadable("is not UTF-8 text; save it as UTF-8", 1 + content.count(b"\n", 0, error.start))
    if "\t" in text:
        line = 1 + text.count("\n", 0, text.index("\t"))
        return unreadable("a tab; use spaces, YAML gives tabs no meaning", line)
    node, problems = _Reader(text, shown, layer).whole()
    if node.value is None and not node.broken:
        node = Node({}, node.origin, layer=layer)
    if not isinstance(node.value, dict):
        return unreadable("must be a mapping, one `key: value` a line", node.origin.line)
    return node, problems


def read_entry(path: Path, key: str) -> Node | None:
    """The value of the key `key` that a line of the file `path` begins with, or None.

    The rest of the file is neither parsed nor checked, which for a list of recipes would take most of the time.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    # Its line, and those below that are indented.
    lines = re.search(rf"^{re.escape(key)}:.*(\n([ #].*)?)*", text, flags=re.MULTILINE)
    return _Reader(lines[0], str(path), 0).whole()[0].child(key) if lines else None


def read_value(text: str, place: str, key: str, layer: int = 0) -> tuple[Node, list[Problem]]:
    """The value of `--set key=text`: a scalar, or a list or mapping in brackets, by the rules of a file.

    Plain text is taken whole: `=`, `: ` and ` #` have no meaning in it.
    """
    origin, text = Location(place), text.strip()
    if text.startswith(_INDICATORS):
        return _Reader(text, place, layer, key, lines=False).whole()
    try:
        return Node(scalar(text), origin, key, layer, empty=not text), []
    except ValueError as error:
        return Node(text, origin, key, layer, broken=True), [Problem(origin, key, str(error))]


def scalar(text: str) -> Scalar:
    """What `text`, written without quotes, means.

    Raises ValueError, in words for the user, for numbers that are ambiguous, infinite or too large.
    """
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        # Nothing in a recipe needs more than 64 bits, and Python refuses to read very many digits.
        if len(text) > 20 or abs(int(text)) >= 1 << 63:
            raise ValueError(f"{quoted(text)} is too large; whole numbers go up to 2^63 - 1")
        return int(text)
    if _FLOAT.fullmatch(text):
        if not math.isfinite(float(text)):
            raise ValueError(f"{quoted(text)} is too large; numbers go up to about 1.8e308")
        return float(text)
    if match := _LEADING_ZERO.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} begins with 0, which some readers of YAML take for octal; "
            f'write {match[1]}{match[2]}, or "{text}" in quotes if text is meant'
        )
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a finite number; nothing in a recipe may be infinite or NaN")
    return text


class _TooDeepError(Exception):
    """Reading cannot go on: the problem is already among the reader's."""


class _Reader:
    """Builds nodes from PyYAML's events: they come one by one, refer to nothing, and so cannot blow up."""

    def __init__(self, text: str, file: str, layer: int, key: str = "", *, lines: bool = True) -> None:
        self.text, self.file, self.layer, self.key, self.lines = text, file, layer, key, lines
        self.problems: list[Problem] = []
        self.events: Iterator[yaml.Event] = iter(())

    def whole(self) -> tuple[Node, list[Problem]]:
        """The one document and what is wrong with it."""
        try:
            return self._document(), self.problems
        except _TooDeepError:
            pass
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            about = ", ".join(part for part in (error.context, error.problem) if part)
            begun = error.context_mark
            if begun and mark and begun.line != mark.line and self.lines:
                about += f" (begun on line {begun.line + 1})"
            if error.problem == "mapping values are not allowed here":
                about = "a ':' that looks like a new key; check the indentation, or quote text that holds it"
            self._problem(mark.line if mark else 0, self.key, f"not valid YAML: {about}")
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position)
            self._problem(line, self.key, f"the character U+{error.character:04X} cannot be used in YAML")
        return Node({}, self.problems[-1].origin, self.key, self.layer, broken=True), self.problems

    def _document(self) -> Node:
        self.events = yaml.parse(self.text, Loader=yaml.SafeLoader)
        next(self.events)  # the stream's start
        if not isinstance(next(self.events), yaml.DocumentStartEvent):
            return Node(None, self._origin(0), self.key, self.layer)
        first = next(self.events)
        root = self._node(first, _line(first), self.key, 0)
        next(self.events)  # the document's end
        following = next(self.events)
        if isinstance(following, yaml.DocumentStartEvent):
            self._problem(_line(following), self.key, "a second document begins; keep one recipe in a file")
        return root

    def _node(self, event: yaml.Event, line: int, key: str, depth: int) -> Node:
        """The value that begins with `event`; the events up to its end are taken."""
        if depth > MAX_DEPTH:
            self._problem(line, "", f"is nested more than {MAX_DEPTH} deep; no recipe needs that")
            raise _TooDeepError
        broken = empty = False
        if isinstance(event, yaml.AliasEvent):
            self._problem(line, key, f"*{event.anchor} stands for a value elsewhere; write the value itself")
            return Node(None, self._origin(line), key, self.layer, broken=True)
        assert isinstance(event, yaml.NodeEvent)
        if event.anchor is not None:
            self._problem(line, key, f"&{event.anchor} names a value for use elsewhere; write values in full")
        if tag := getattr(event, "tag", None):
            tag = tag.replace("tag:yaml.org,2002:", "!!")
            self._problem(line, key, f"the tag {quoted(tag)} is not used in recipes; leave it out")
            broken = True
        value: Scalar | dict[str, Node] | list[Node]
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(key, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(key, depth)
        else:
            assert isinstance(event, yaml.ScalarEvent)
            value = event.value
            if event.style is None:
                empty = not event.value
                try:
                    value = scalar(event.value)
                except ValueError as error:
                    self._problem(line, key, str(error))
                    broken = True
        return Node(value, self._origin(line), key, self.layer, broken, empty)

    def _list(self, key: str, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, _line(event), f"{key}[{len(items)}]", depth + 1))
        return items

    def _mapping(self, key: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = _line(event)
            name = self._name(event, line, key, depth)
            inner = f"{key}.{name}" if key and name else name or key
            child = self._node(next(self.events), line, inner, depth + 1)
            if name is None:
                continue
            if name in entries:
                lines = f", on lines {entries[name].origin.line} and {line + 1}" if self.lines else ""
                self._problem(line, inner, f"is written twice{lines}; keep one of them")
            else:
                entries[name] = child
        return entries

    def _name(self, event: yaml.Event, line: int, key: str, depth: int) -> str | None:
        """The key that `event` begins, or None, and a problem, where it is no text."""
        known = len(self.problems)
        node = self._node(event, line, key, depth)
        if len(self.problems) > known:
            return None
        if not isinstance(node.value, str):
            name = f"the key {quoted(event.value)}" if isinstance(event, yaml.ScalarEvent) else "a key here"
            self._problem(line, key, f"{name} is not text; put it in quotes if it is meant as a name")
            return None
        if node.value == "<<" and not getattr(event, "style", None):  # in quotes it is a name like any other
            self._problem(line, key, "'<<' merges mappings in YAML, not here; write the values")
            return None
        return node.value

    def _origin(self, line: int) -> Location:
        return Location(self.file, line + 1 if self.lines else None)

    def _problem(self, line: int, key: str, text: str) -> None:
        self.problems.append(Problem(self._origin(line), key, text))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line if event.start_mark else 0
