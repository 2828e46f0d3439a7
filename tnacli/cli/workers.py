"""A process that trains runs (`tnacli.cli.worker`), seen from its parent."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING

from tnacli.cli.worker import Failed, Work
from tnacli.errors import Stopped

if TYPE_CHECKING:
    from tnacli.recipe.identity import Run

_ASKED = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
"""Signals by which people and systems end processes; any other is how a program crashes."""


@dataclass(frozen=True)
class Said:
    """A line that a process printed."""

    line: str


class Worker:
    """A process with `environment` laid over this one's. What it answers is put into `answers` with it, None when it has ended.

    `runs` are those handed over that have not ended, `run` is the one that it is at, `failed` what ended it.
    """

    def __init__(
        self, environment: dict[str, str], work: Work, answers: SimpleQueue[tuple[Worker | None, object]]
    ) -> None:
        self.environment = environment
        self.runs: list[Run] = []
        self.run: Run | None = None
        self.failed: Failed | None = None
        self._answers = answers
        code = f"import sys; sys.path[:] = {sys.path!r}; from tnacli.cli.worker import main; main()"
        pipe = subprocess.PIPE
        with _interrupts_kept_from_children():
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **environment}
            )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        lines = threading.Thread(target=self._hear_lines, args=(self.process.stderr,), daemon=True)
        lines.start()
        threading.Thread(target=self._hear_answers, args=(self.process.stdout, lines), daemon=True).start()
        self.order(work)

    @property
    def name(self) -> str:
        """Whose process it is, for people."""
        return "a process that trains" if self.run is None else f"{self.run.name} seed {self.run.seed}"

    def order(self, value: Work | tuple[Run, ...] | None) -> None:
        """Hand something over; None: there is no more."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, which is heard soon
            self.process.stdin.write(pickle.dumps(value))
            self.process.stdin.flush()

    def close(self) -> None:
        """Have it end at once if it has not: without its parent's end of the pipe it does."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def _hear_answers(self, stream: IO[bytes], lines: threading.Thread) -> None:
        with stream, contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):  # killed within an answer, perhaps
            while True:
                self._answers.put((self, pickle.load(stream)))
        self.process.wait()
        lines.join()
        self._answers.put((self, None))

    def _hear_lines(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                if text := line.decode(errors="backslashreplace").rstrip():
                    self._answers.put((self, Said(text)))


def why_gone(worker: Worker) -> Exception:
    """Why a process has ended that still had runs: Stopped if it was asked to or killed, and the same command goes on."""
    if worker.failed is not None:
        return worker.failed.error or RuntimeError(f"in the process of {worker.name}:\n{worker.failed.traceback}")
    code = worker.process.returncode
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if name not in _ASKED:
        return RuntimeError(f"the process of {worker.name} ended by itself: {name}.")
    why = ", as systems do where memory runs out" if name == "SIGKILL" else ""
    return Stopped(f"its process was ended by {name}{why}")


@contextlib.contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal; those started inside never hear it: their parent tells them what to do."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
