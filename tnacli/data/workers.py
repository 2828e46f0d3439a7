"""Doing the same to many files at once.

Threads, not processes: decoding an image or summing events releases Python's lock for most of the time,
results need no copying, and there is no start-up cost or pickling.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from tnacli.data.source import OnProgress

_CHUNK = 64  # files a task: few enough for lively progress, enough to make the hand-over cheap


def for_each(count: int, work: Callable[[int], None], what: str, on_progress: OnProgress) -> None:
    """Call `work(index)` for every index below `count`, in no particular order, on a few threads.

    Progress is reported from the calling thread as (`what`, done, `count`). The first exception that `work`
    raises ends it all and is passed on; so does Ctrl-C.
    """

    def run(start: int) -> int:
        stop = min(start + _CHUNK, count)
        for index in range(start, stop):
            work(index)
        return stop - start

    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        done = 0
        for task in as_completed([pool.submit(run, start) for start in range(0, count, _CHUNK)]):
            done += task.result()
            on_progress(what, done, count)
    finally:
        # What has not begun is dropped, or the first damaged file would be reported only after all others
        # were read.
        pool.shutdown(cancel_futures=True)
