"""One of several processes that train runs at once for `tna train --jobs`, and what it and its parent say to each other.

Orders come pickled on stdin, answers go pickled to stdout: both ends are this program. What the libraries print goes to stderr.
A worker ends with its first error that is not a run's own, and at once when its parent is gone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tnacli.cli.trained import Ending
from tnacli.errors import TnaError

if TYPE_CHECKING:
    from tnacli.cli.wanted import Wanted
    from tnacli.recipe.identity import Run
    from tnacli.training.events import Event


@dataclass(frozen=True)
class Work:
    """What a worker is told first: all that is wanted, of which it gets some runs.

    `data_lock` is a file that whoever reads data holds, so that one decodes or downloads it and the others find it done.
    """

    wanted: Wanted
    data_lock: Path


@dataclass(frozen=True)
class Begun:
    """The worker begins with `run`, or looks whether it is finished."""

    run: Run


@dataclass(frozen=True)
class Heard:
    """An event of a run in training."""

    run: Run
    event: Event


@dataclass(frozen=True)
class DataRead:
    """`what` is `done` of `total` far."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Idle:
    """All runs that were handed over have ended."""


@dataclass(frozen=True)
class Failed:
    """What ended the worker; `traceback` is that of a bug."""

    error: TnaError | None
    traceback: str = ""


Answer = Begun | Heard | DataRead | Ending | Idle | Failed


def main() -> None:
    """Do what the parent orders, until it says that there is no more."""
    sys.stdin, orders = open(os.devnull), os.fdopen(os.dup(0), "rb")  # noqa: SIM115 - until the process ends
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(sys.stdin.fileno(), 0)
    os.dup2(2, 1)
    waiting: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(orders, waiting), daemon=True).start()
    # Sent by a thread of its own: a signal's handler could leave half an answer in the pipe.
    sending: SimpleQueue[bytes | None] = SimpleQueue()
    sender = threading.Thread(target=_send, args=(sending, answers), daemon=True)
    sender.start()

    def answer(value: Answer) -> None:
        sending.put(pickle.dumps(value))

    try:
        _work(waiting, answer)
    except TnaError as error:
        answer(Failed(error))
    except Exception:
        answer(Failed(None, traceback.format_exc()))
    sending.put(None)
    sender.join()


def _send(sending: SimpleQueue[bytes | None], answers: Any) -> None:
    with contextlib.suppress(OSError):  # the parent is gone, and so is this process in a moment
        while (value := sending.get()) is not None:
            answers.write(value)
            answers.flush()


def _listen(orders: Any, waiting: SimpleQueue[Any]) -> None:
    """Pass on what the parent says. When it is gone, whatever it was killed by, this process goes, too."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            waiting.put(order := pickle.load(orders))
            if order is None:
                return
    os.kill(os.getpid(), signal.SIGKILL)


def _work(waiting: SimpleQueue[Any], answer: Callable[[Answer], None]) -> None:
    from tnacli.cli.loading import load_torch

    load_torch()
    from tnacli.cli.running import train_in_turn
    from tnacli.experiment import Experiment
    from tnacli.training.stop import StopRequest, stop_on_signals

    work: Work = waiting.get()
    wanted = work.wanted
    stop = StopRequest(wanted.seconds)
    with stop_on_signals(stop):
        experiment = Experiment(
            wanted.out, emit=lambda run, event: answer(Heard(run, event)), stop=stop, coming=wanted.known,
            on_data=lambda *read: answer(DataRead(*read)), data_lock=work.data_lock,
        )  # fmt: skip
        while (runs := waiting.get()) is not None:
            train_in_turn(
                experiment,
                runs,
                fresh=wanted.fresh,
                export=wanted.export,
                begin=lambda run: answer(Begun(run)),
                end=answer,
            )
            answer(Idle())
