"""Loading torch, which takes longer than all else that most commands do."""

from __future__ import annotations

import gc
import sys

_OFTEN = gc.get_threshold()
_SELDOM = 200_000  # new objects


def collect_seldom() -> None:
    """Have the garbage collector look for cycles less often until torch is there.

    A short command leaves none worth it, and makes a hundred times the objects that set off a search: 30 ms of 400.
    """
    gc.set_threshold(_SELDOM)


def load_torch() -> None:
    """Import torch, if it is not there yet, without having the garbage collector look through it.

    A quarter of a million objects come with it and live as long as the process. Hundreds of collections while they are made,
    every full one afterwards and the last, at exit, would go through them all to find nothing: half a second of two.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        import torch  # noqa: F401 - to be had from now on
    finally:
        gc.enable()
    gc.freeze()
    gc.set_threshold(*_OFTEN)  # from now on cycles may hold tensors
