"""How deep the stack of compiled C gets: the frames along the deepest chain of calls, as the compiler states them.

GCC writes each function's frame with -fstack-usage (.su), and who calls whom with -fcallgraph-info=su (.ci, since GCC 10).
Without the calls all frames are added, which no chain can exceed either. On some processors a function that calls no other may
use a red zone below its frame, which the compiler does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

_FRAME = re.compile(r"^\S*?:(?:\d+:)*(\w[^\t]*)\t(\d+)\t([\w,]+)$", re.MULTILINE)
_NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "([^"]*)"', re.MULTILINE)
_SIZE = re.compile(r"(\d+) bytes \(([\w,]+)\)")
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.MULTILINE)
_THROUGH_POINTERS = "__indirect_call"
_RED_ZONES = {"__x86_64__": 128, "__powerpc64__": 288}
"""Bytes by the macro that compilers for these processors define (System V's and OpenPOWER's ABI; that of Windows has none)."""


@dataclass(frozen=True)
class Stack:
    """`size_bytes` of the network's own functions, one within another; no call of it takes more if `unbounded` is None.

    `unbounded` says why there is no bound. `library` are the functions called that are of the compiler's library: what those
    take comes on top; None where the compiler does not say who calls whom.
    """

    size_bytes: int
    unbounded: str | None
    library: tuple[str, ...] | None


@dataclass(frozen=True)
class _Frame:
    size_bytes: int
    kind: str

    @property
    def bounded(self) -> bool:
        return self.kind in ("static", "dynamic,bounded")


def red_zone(macros: str) -> int:
    """Bytes of the red zone, by the "#define NAME VALUE" lines that a compiler starts with."""
    defined = {line.split()[1] for line in macros.splitlines() if line.startswith("#define ")}
    return 0 if "_WIN32" in defined else max((_RED_ZONES[name] for name in _RED_ZONES.keys() & defined), default=0)


def stack_in(folder: Path) -> Stack | None:
    """What the .ci or else .su files in `folder` say, without a red zone; None where there are none."""
    calls = "\n".join(file.read_text(errors="replace") for file in sorted(folder.glob("*.ci")))
    if calls:
        return _along_calls(calls)
    frames = _FRAME.findall("\n".join(file.read_text(errors="replace") for file in sorted(folder.glob("*.su"))))
    if not frames:
        return None
    found = [(name, _Frame(int(size), kind)) for name, size, kind in frames]
    return Stack(sum(frame.size_bytes for _, frame in found), _grown(found), None)


def _along_calls(text: str) -> Stack | None:
    names, frames = dict[str, str](), dict[str, _Frame]()
    for title, label in _NODE.findall(text):
        size = _SIZE.search(label)
        if size:
            names[title], frames[title] = label.split("\\n")[0], _Frame(int(size[1]), size[2])
    if not frames:
        return None
    calls: dict[str, set[str]] = {title: set() for title in frames}
    library = set[str]()
    for source, target in _EDGE.findall(text):
        (calls[source] if target in frames else library).add(target)
    unbounded = _grown((names[title], frame) for title, frame in frames.items())
    if _THROUGH_POINTERS in library:
        unbounded = unbounded or "functions are called through pointers"
    depths = dict[str, int]()
    try:
        for title in TopologicalSorter(calls).static_order():
            depths[title] = frames[title].size_bytes + max((depths[inner] for inner in calls[title]), default=0)
    except CycleError as error:
        unbounded = f"{names[error.args[1][0]]} calls itself"
        depths = {title: frame.size_bytes for title, frame in frames.items()}
    return Stack(max(depths.values()), unbounded, tuple(sorted(library - {_THROUGH_POINTERS})))


def _grown(frames: Iterable[tuple[str, _Frame]]) -> str | None:
    """Why the sizes are no bound, if a frame grows while it runs."""
    names = [name for name, frame in frames if not frame.bounded]
    return f"the frame of {names[0]} grows as it runs" if names else None
