"""The one document that a command with `--json` prints, whichever way it ends.

A command holds what it has so far; the end of the process prints it, with the key `error` where that end is one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TextIO

from tnacli.errors import TnaError

Value = dict[str, Any] | list[dict[str, Any]]

_held: list[Value] = []


def hold(value: Value) -> None:
    """Have `value` printed at the end, in place of what was held before."""
    _held[:] = [value]


def finish(stream: TextIO, arguments: Sequence[str], end: BaseException) -> None:
    """Print to `stream` what is held, and what `end` says if it is an error that `arguments` ask to have as a document.

    A dictionary gets the key `error`. A list, of several files, becomes `finished` in a document of its own.
    """
    held = _held.pop() if _held else None
    error = _error(end)
    if error is not None and (held is not None or _asked(arguments)):
        facts: dict[str, Any] = {"command": _command(arguments), "version": 1}
        if isinstance(held, list):
            facts["finished"] = held
        held = {**facts, **(held if isinstance(held, dict) else {}), "error": error}
    if held is not None:
        stream.write(json.dumps(held, indent=2, allow_nan=False) + "\n")


def _error(end: BaseException) -> dict[str, Any] | None:
    """Kind, message and exit code of what ended the command; None for a good end."""
    reason: BaseException | None = end
    if isinstance(end, SystemExit):
        if not end.code:
            return None
        reason = end.__cause__ or end.__context__  # what a signal's handler, or Typer, made the process end for
    if isinstance(reason, TnaError):
        return {"kind": type(reason).__name__, "message": str(reason), "exit_code": reason.exit_code}
    if (
        message := getattr(reason, "format_message", None)
    ) is not None:  # Click's, which Typer may bring under its own name
        return {"kind": "UsageError", "message": message(), "exit_code": 2}
    return {"kind": "Bug", "message": f"{type(end).__name__}: {end}", "exit_code": 1}


def _asked(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for a document, as far as that can be seen before it is parsed."""
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    return "--json" in options or "--format=json" in options or ("--format", "json") in pairwise(options)


def _command(arguments: Sequence[str]) -> str | None:
    words = [argument for argument in arguments if not argument.startswith("-")]
    return "data prepare" if words[:1] == ["data"] and "prepare" in words else words[0] if words else None
