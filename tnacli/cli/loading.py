"""Loading torch, which takes longer than all else that most commands do."""

from __future__ import annotations

import gc
import sys


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
