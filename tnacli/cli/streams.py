"""The three standard streams, made so that a command depends on none of them.

Closed ones are opened as the null device; what an encoding lacks is written in ASCII; a full disk is explained; a reader
who has gone ends the command.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from tnacli.errors import StorageError

READER_GONE = 141
"""The exit code where whoever read the output has gone (`tna recipes | head -1`): what shells show for SIGPIPE."""

_IN_ASCII = {
    "±": "+-", "×": "x", "·": "*", "•": "*", "–": "-", "—": "-", "−": "-", "…": "~", "→": "->", "←": "<-", "↑": "^", "↓": "v",
    "≤": "<=", "≥": ">=", "≈": "~", "α": "alpha", "Δ": "Delta", "µ": "u", "μ": "u", "²": "^2", "°": " degrees",
    "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ",
}  # fmt: skip
"""What is written where a stream's encoding has no such character. The ellipsis, with which columns are cut, stays one wide."""


def open_closed() -> None:
    """Open those of stdin, stdout and stderr that this process was started without as the null device.

    Otherwise the next files opened, checkpoints say, would get their numbers, and with them whatever this process, a
    library in C or a compiler that it starts writes to stdout or stderr.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def encodable(text: str, stream: TextIO) -> str:
    """`text` with what `stream` has no character for in ASCII: ± as +-, box characters as - | +, others as \\xe9 or \\u6f22.

    Bytes of file names that are no text are shown as \\xe9, too.
    """
    encoding = stream.encoding or "utf-8"  # those in memory have none
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, _in_ascii.__name__).decode(encoding)
    return text


_CONTROLS = {code: chr(code).encode("unicode_escape").decode() for code in (*range(0x20), *range(0x7F, 0xA0))}
"""How characters are shown that names of files may have, and that terminals obey."""

_CONTROLS_IN_LINES = {code: shown for code, shown in _CONTROLS.items() if chr(code) not in "\n\t"}


def cell_text(text: str) -> str:
    """`text` for a cell of a table: on one line, with control characters as \\n or \\x1b."""
    return text.translate(_CONTROLS)


def lines_text(text: str) -> str:
    """`text` for a message: lines and tabs as they are, other control characters as \\x1b."""
    return text.translate(_CONTROLS_IN_LINES)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_character, error.object[error.start : error.end])), error.end


def _character(character: str) -> str:
    if character in _IN_ASCII:
        return _IN_ASCII[character]
    code = ord(character)
    if 0x2500 <= code < 0x2580:  # frames
        return "-" if character in "─━┄┅┈┉╌╍═╴╶╸╺╼╾" else "|" if character in "│┃┆┇┊┋╎╏║╵╷╹╻╽╿" else "+"
    if 0x2580 <= code < 0x25A0:  # bars
        return "#"
    if 0x2800 <= code < 0x2900:  # spinners
        return "*"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(_in_ascii.__name__, _in_ascii)


class Explained:
    """`stream`, called `name` in messages; everything but writing goes straight to it.

    What its encoding lacks is written as `encodable` says. Writing raises StorageError if the output cannot be stored, and
    SystemExit, quietly, if nobody reads it any more. In both cases the rest of the output goes nowhere, and every later
    attempt to write raises the same.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._failure: StorageError | SystemExit | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._explained():
            self._stream.write(encodable(text, self._stream))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

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
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what_to_do = "free some space, or send it elsewhere" if full else "send it elsewhere"
            why = f"{self._name} could not be written: {error.strerror or error}; {what_to_do}"
            self._failure = SystemExit(READER_GONE) if isinstance(error, BrokenPipeError) else StorageError(why)
            raise self._failure from None
