"""Asking a run to stop: signals and time limits set a flag, the loop looks at it between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from tnacli.errors import Interrupted, Stopped


class StopRequest:
    """Whether, and why, training should stop; `limit_seconds` after its making it is asked for by itself."""

    def __init__(self, limit_seconds: float | None = None) -> None:
        self._until = None if limit_seconds is None else time.monotonic() + limit_seconds
        self._signal: int | None = None

    def ask(self, number: int) -> None:
        self._signal = number

    @property
    def asked(self) -> bool:
        return self._signal is not None or (self._until is not None and time.monotonic() >= self._until)

    def as_error(self, saved: str) -> Stopped:
        """The error that ends the command, saying why it stopped and that `saved` lets it go on."""
        if self._signal == signal.SIGINT:
            return Interrupted(f"interrupted; {saved}")
        why = "time limit reached" if self._signal is None else f"stopped by {signal.Signals(self._signal).name}"
        return Stopped(f"{why}; {saved}")


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """While inside, Ctrl-C, SIGTERM and SIGUSR1 ask `stop` to stop; a second Ctrl-C ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and stop._signal == signal.SIGINT:
            os._exit(130)
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
