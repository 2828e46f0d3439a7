"""When a checkpoint is due, and writing it while training goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from tnacli.errors import StorageError
from tnacli.training.checkpoint import Checkpoint
from tnacli.training.distributed import Ranks
from tnacli.training.events import Saved

CHECKPOINT_SECONDS = 300.0


class CheckpointWriter:
    """Hashes and writes checkpoints in a thread, one at a time; the next one waits for the one before.

    None is left out for a newer one: each is due for a reason, as where another run branches off, and no more than one copy
    of everything is held. `save` makes a checkpoint durable and returns where; with several processes the first one alone
    writes. `emit` hears of each that is whole on disk, from the thread that trains.
    """

    def __init__(
        self, save: Callable[[Checkpoint], str], emit: Callable[[Saved], None], ranks: Ranks, *,
        every: int | Literal["auto"], always: Iterable[int],
    ) -> None:  # fmt: skip
        self._save, self._emit, self._ranks = save, emit, ranks
        self._every, self._always = every, frozenset(always)
        self._last = time.monotonic()
        self._writing: Future[Saved] | None = None

    def due(self, epoch: int) -> bool:
        """Whether a checkpoint is to be written at the end of `epoch` (from 1), in every process alike.

        Every so many epochs, or with "auto" once the last one was begun five minutes ago; and after the epochs of `always`.
        """
        every = self._every
        due = time.monotonic() - self._last >= CHECKPOINT_SECONDS if every == "auto" else epoch % every == 0
        return self._ranks.any(due or epoch in self._always)[0]

    def begin(self, checkpoint: Callable[[], Checkpoint], copied: Callable[[], Callable[[], None]]) -> None:
        """Start to write what `checkpoint` makes, once the one before is on disk. Raises what `wait` raises.

        What `copied` returns is called in the thread, and waits until the tensors have arrived on the CPU.
        """
        self.wait()
        self._last = time.monotonic()
        if self._ranks.first:
            thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
            self._writing = thread.submit(self._write, checkpoint(), copied())
            thread.shutdown(wait=False)  # it ends with its work

    def _write(self, checkpoint: Checkpoint, arrived: Callable[[], None]) -> Saved:
        arrived()
        state = checkpoint.metadata.state
        return Saved(self._save(checkpoint), state.epoch, state.step)

    @property
    def ended(self) -> bool:
        """Whether this process has ended to write, well or not, and nobody has waited for it yet."""
        return self._writing is not None and self._writing.done()

    def wait(self) -> Saved | None:
        """Wait until the checkpoint begun last is on disk, and tell; None if that was told already.

        Raises StorageError if it could not be written, and ends the other processes then.
        """
        return self._announced(self._ranks.broadcast(self._written))

    def _written(self) -> Saved | None:
        writing, self._writing = self._writing, None
        return None if writing is None else writing.result()

    def _announced(self, saved: Saved | None) -> Saved | None:
        if saved is not None:
            self._emit(saved)
        return saved

    @contextlib.contextmanager
    def finished(self) -> Iterator[None]:
        """Nothing is being written after leaving. Raises StorageError as `wait`, unless another error is on its way."""
        try:
            yield
        except BaseException:
            # The first failure is the one to tell of, and where the other processes are now is not known.
            with contextlib.suppress(StorageError):
                self._announced(self._written())
            raise
        self.wait()
