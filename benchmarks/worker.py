"""A process that holds contenders and does what it is told with them; its parent's side is `Worker`."""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.work import SkippedError, Step, Work

_ANSWER_SECONDS = 300.0


class FailedError(Exception):
    """Something went wrong in a worker; the message is the last line of its traceback."""


class Worker:
    """A process of its own. Its answers raise SkippedError where a contender cannot take part, FailedError for all else.

    With `keep_freed`, its allocator keeps what a step frees for the next one, as `tna train` sets it up.
    """

    def __init__(self, *, keep_freed: bool = True, timeout_seconds: float = _ANSWER_SECONDS) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._timeout = timeout_seconds
        self._process = context.Process(target=_serve, args=(theirs, keep_freed), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def build(self, slot: str, task: str, name: str, work: Work) -> None:
        """Make a contender of `task` ("training" or "evaluation") and let it take one turn, which may compile things."""
        self._ask("build", slot, (task, name), work)

    def seconds(self, slot: str) -> float:
        """The time of one turn."""
        return float(self._ask("seconds", slot))

    def logits(self, slot: str) -> list[list[float]]:
        """What one turn of an evaluation gives, [N, classes]."""
        logits: list[list[float]] = self._ask("logits", slot)
        return logits

    def memory_mb(self, task: str, name: str, work: Work) -> float:
        """Peak memory of a contender, to be asked of a fresh worker.

        Training: of two steps, beyond weights and optimiser. Evaluation: from nothing, weights included.
        """
        return float(self._ask("memory", task, name, work))

    def call(self, function: str, *arguments: Any) -> Any:
        """The answer of another function of this module: "prepare", "agreement", "profile", "machine"."""
        return self._ask(function, *arguments)

    def _ask(self, *question: Any) -> Any:
        try:
            self._connection.send(question)
            if not self._connection.poll(self._timeout):
                raise FailedError(f"no answer within {self._timeout:.0f} s")
            kind, answer = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(5)
            raise FailedError(f"its process ended with exit code {self._process.exitcode}") from None
        if kind == "skipped":
            raise SkippedError(answer)
        if kind == "failed":
            raise FailedError(answer)
        return answer


# The worker's own side


def _serve(connection: Connection, keep_freed: bool) -> None:
    warnings.simplefilter("ignore")  # peers warn of what they import
    if keep_freed:
        from tnacli.training.device import keep_freed_memory

        keep_freed_memory()
    steps: dict[str, tuple[Step, Work]] = {}
    while True:
        try:
            name, *arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("answer", _FUNCTIONS[name](steps, *arguments)))
        except SkippedError as reason:
            connection.send(("skipped", str(reason)))
        except ImportError as error:
            missing = f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
            connection.send(("skipped", missing))
        except Exception as error:
            lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
            connection.send(("failed", lines[0][:300] if lines else type(error).__name__))


Steps = dict[str, tuple[Step, Work]]


def _made(task: str, name: str, work: Work) -> Step:
    contenders: dict[str, Callable[[Work], Step]] = importlib.import_module(f"benchmarks.{task}").CONTENDERS
    return contenders[name](work)


def _build(steps: Steps, slot: str, contender: tuple[str, str], work: Work) -> None:
    step = _made(*contender, work)
    step()
    steps[slot] = (step, work)


def _seconds(steps: Steps, slot: str) -> float:
    step, work = steps[slot]
    _wait(work)
    started = time.perf_counter()
    step()
    _wait(work)
    return time.perf_counter() - started


def _wait(work: Work) -> None:
    if work.device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def _logits(steps: Steps, slot: str) -> list[list[float]]:
    logits: Any = steps[slot][0]()
    values: list[list[float]] = logits.float().cpu().tolist()
    return values


def _memory(steps: Steps, task: str, name: str, work: Work) -> float:
    from benchmarks.memory import held_mb, peak_mb
    from benchmarks.reference import weight_count

    if task == "evaluation":
        _import_all(name)
        before = held_mb(work.device)
        step = _made(task, name, work)
        for _ in range(2):
            step()
        return peak_mb(work.device) - before
    _made(
        task, name, dataclasses.replace(work, width=1 / 32, batch=2)
    )()  # the libraries' code comes into memory with use
    step = _made(task, name, work)
    before = held_mb(work.device)
    for _ in range(2):
        step()
    # Adam's two moments, in fp32, are made by the first step and are the same for all.
    networks = 2 if name == "tnacli, TNA" else 1
    return peak_mb(work.device) - before - networks * 8 * weight_count(work) / 1e6


def _import_all(name: str) -> None:
    """What an import costs is no contender's own."""
    import benchmarks.evaluation  # noqa: F401

    for words, module in {"SpikingJelly": "spikingjelly.activation_based.neuron", "ONNX": "onnxruntime"}.items():
        if words in name:
            importlib.import_module(module)


def _prepare(steps: Steps, work: Work) -> None:
    from benchmarks.evaluation import prepare

    prepare(work)


def _agreement(steps: Steps, peer: str, work: Work) -> dict[str, float]:
    from dataclasses import asdict

    from benchmarks.reference import agreement

    return asdict(agreement(peer, work))


def _profile(steps: Steps, work: Work) -> dict[str, Any]:
    from benchmarks.profiling import profile

    return profile(work)


def _machine(steps: Steps, device: str) -> dict[str, Any]:
    from benchmarks.machine import machine

    return machine(device)


_FUNCTIONS: dict[str, Any] = {
    "build": _build,
    "seconds": _seconds,
    "logits": _logits,
    "memory": _memory,
    "prepare": _prepare,
    "agreement": _agreement,
    "profile": _profile,
    "machine": _machine,
}
