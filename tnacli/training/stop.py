"""Asking a run to stop: by signals and time limits.

While training, asking sets a flag that the loop looks at between two steps, so that it can save. Where nothing is left to
save (data is being loaded, a result evaluated, a file exported) a signal ends the command at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from tnacli.errors import Interrupted, Stopped

_ECHO_SECONDS = 2.0


class StopRequest:
    """Whether, and why, training should stop; `limit_seconds` after its making it is asked for by itself.

    `heard` is called when a signal is first noted for later, within the signal's handler.
    """

    def __init__(self, limit_seconds: float | None = None, *, heard: Callable[[], None] = lambda: None) -> None:
        self._heard = heard
        self._until = None if limit_seconds is None else time.monotonic() + limit_seconds
        self._signal: int | None = None
        self._deferring = False

    def ask(self, number: int) -> None:
        """Note that signal `number` came. Raises Stopped at once unless `deferred`."""
        first, self._signal = self._signal is None, number
        if not self._deferring:
            raise self._at_once()
        if first:
            self._heard()

    @property
    def asked(self) -> bool:
        return self._signal is not None or (self._until is not None and time.monotonic() >= self._until)

    @property
    def signalled(self) -> bool:
        """Whether a signal is what asked."""
        return self._signal is not None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C is what asked."""
        return self._signal == signal.SIGINT

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """While inside, signals only set the flag: who is inside looks at it, saves, and raises `as_error`.

        One that nobody looked at in time raises on leaving.
        """
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._signal is not None:
            raise self._at_once()

    def as_error(self, saved: str) -> Stopped:
        """The error that ends the command, saying why it stopped and that `saved` lets it go on."""
        if self.interrupted:
            return Interrupted(f"interrupted; {saved}")
        why = "time limit reached" if self._signal is None else f"{signal.Signals(self._signal).name} received"
        return Stopped(f"{why}; {saved}")

    def _at_once(self) -> Stopped:
        return self.as_error("every checkpoint and result so far is whole. The same command goes on from there.")


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """While inside, Ctrl-C, SIGTERM and SIGUSR1 ask `stop` to stop; a second Ctrl-C ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: float | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        now = time.monotonic()
        if number == signal.SIGINT and pressed is not None:
            if not _is_echo(now - pressed):
                _end_at_once()
            return
        if number == signal.SIGINT:
            pressed = now
        stop.ask(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGUSR1"):
        numbers.append(signal.SIGUSR1)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_echo(seconds: float) -> bool:
    """Whether a second Ctrl-C so soon is torchrun passing on the one that the terminal has sent to everyone already."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1") and seconds < _ECHO_SECONDS


def _end_at_once() -> None:
    # No cleaning up: whatever hangs may hang there too. What was being written lies aside under a name of its own and is
    # removed by the next start. Only the cursor, which the live view hides, is shown again.
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(130)
