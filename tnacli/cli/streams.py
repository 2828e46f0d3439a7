"""stdout and stderr whose failures a person can read: a full disk is explained, a reader who has gone ends the command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from tnacli.errors import StorageError

READER_GONE = 141
"""The exit code where whoever read the output has gone (`tna recipes | head -1`): what shells show for SIGPIPE."""


class Explained:
    """`stream`, called `name` in messages; everything but writing goes straight to it.

    Writing raises StorageError if the output cannot be stored, and SystemExit, quietly, if nobody reads it any more. In
    both cases the rest of the output goes nowhere, and every later attempt to write raises the same.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._failure: StorageError | SystemExit | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._explained():
            return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        with self._explained():
            self._stream.writelines(lines)

    def flush(self) -> None:
        with self._explained():
            self._stream.flush()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        if self._failure is not None:  # whoever wrote may have caught it: Click does when it looks at a stream
            raise self._failure
        try:
            yield
        except OSError as error:
            # What is still in its buffer would fail again when the interpreter ends.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            why = f"{self._name} could not be written: {error.strerror or error}; free some space, or send it elsewhere"
            self._failure = SystemExit(READER_GONE) if isinstance(error, BrokenPipeError) else StorageError(why)
            raise self._failure from None
