"""The one document that a command with `--json` prints, whichever way it ends.

A command holds what it has so far; the end of the process prints it, with the key `error` where that end is one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TextIO

from tnacli.errors import TnaError

if TYPE_CHECKING:
    from tnacli.cli.documents.base import Document, Error

_held: list[Document | list[Document]] = []


def hold(value: Document | list[Document]) -> None:
    """Have `value` printed at the end, in place of what was held before."""
    _held[:] = [value]


def finish(stream: TextIO, arguments: Sequence[str], end: BaseException) -> None:
    """Print to `stream` what is held, and what `end` says if it is an error that `arguments` ask to have as a document.

    A document gets the key `error`. A list, of several files, becomes `finished` in a document of its own.
    """
    held = _held.pop() if _held else None
    value: dict[str, Any] | list[dict[str, Any]]
    if isinstance(end, SystemExit) and not end.code:
        if held is None:
            return
        value = [one.plain() for one in held] if isinstance(held, list) else held.plain()
    elif held is not None or _asked(arguments):
        value = _failed(held, arguments, _error(end)).plain()
    else:
        return
    stream.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def _failed(held: Document | list[Document] | None, arguments: Sequence[str], error: Error) -> Document:
    from tnacli.cli.documents.base import Failed

    if held is None or isinstance(held, list):
        finished = None if held is None else [one.plain() for one in held]
        return Failed(command=_command(arguments), finished=finished, error=error)
    return held.model_copy(update={"error": error})


def _error(end: BaseException) -> Error:
    """Kind, message and exit code of what ended the command."""
    from tnacli.cli.documents.base import Error

    reason: BaseException | None = end
    if isinstance(end, SystemExit):
        reason = end.__cause__ or end.__context__  # what a signal's handler, or Typer, made the process end for
    if isinstance(reason, TnaError):
        return Error.model_validate(
            {"kind": type(reason).__name__, "message": str(reason), "exit_code": reason.exit_code}
        )
    if (
        message := getattr(reason, "format_message", None)
    ) is not None:  # Click's, which Typer may bring under its own name
        return Error(kind="UsageError", message=message(), exit_code=2)
    return Error(kind="Bug", message=f"{type(end).__name__}: {end}", exit_code=1)


def _asked(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for a document, as far as that can be seen before it is parsed."""
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    return "--json" in options or "--format=json" in options or ("--format", "json") in pairwise(options)


def _command(arguments: Sequence[str]) -> str | None:
    words = [argument for argument in arguments if not argument.startswith("-")]
    return "data prepare" if words[:1] == ["data"] and "prepare" in words else words[0] if words else None
