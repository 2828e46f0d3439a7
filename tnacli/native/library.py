"""The library of engine.c: compiled if need be, its functions' arguments, and which variant of them computes."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tnacli.native.compile import Native, compiled


class Constants(ctypes.Structure):
    """`Neurons` of engine.c."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("decay", "threshold", "subtract", "lowest")),
        ("most", ctypes.c_int32),
    ]


class Layer(ctypes.Structure):
    """`Layer` of engine.c: height and width with the zeros around; `neurons`, if any."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("T", "N", "H", "W", "C", "out", "kernel", "stride", "outH", "outW")),
        *((name, ctypes.c_int64) for name in ("counts_to", "divisor")),
        ("neurons", Constants),
    ]  # fmt: skip


class Lists(ctypes.Structure):
    """`Lists` of engine.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("blocks", "each", "out")),
        *((name, ctypes.c_void_p) for name in ("entries", "starts", "order")),
        *((name, ctypes.c_int64) for name in ("dense", "planes")),
    ]  # fmt: skip


INPUTS = 384
"""The most inputs of a block, as in engine.c."""


@cache
def engine() -> Native:
    """The library of engine.c, or why there is none."""
    kernels = compiled(Path(__file__).with_name("engine.c"), for_any=True)
    library = kernels.library
    if library is not None:
        pointer, count, layer = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(Layer)
        parts = [count, count]
        library.layer.argtypes = [layer, ctypes.POINTER(Lists), *[pointer] * 5, *parts]
        library.lif.argtypes = [pointer, *[count] * 4, ctypes.POINTER(Constants), pointer, *parts]
        library.pool.argtypes = [pointer, *[count] * 4, pointer, *parts]
        library.ordered.argtypes = [layer, *[pointer] * 5, *parts]
        library.count_weights.argtypes = [pointer, *[count] * 5, pointer, *parts]
        library.order_lists.argtypes = [pointer, *[count] * 2, *[pointer] * 2]
        library.fill_lists.argtypes = [pointer, *[count] * 5, *[pointer] * 3, *parts]
        library.variant_name.argtypes = library.use_variant.argtypes = [count]
        library.variant_name.restype = ctypes.c_char_p
        library.layer.restype = library.ordered.restype = ctypes.c_int64
        for name in ("lif", "pool", "count_weights", "order_lists", "fill_lists", "use_variant"):
            getattr(library, name).restype = None
        library.use_variant(min(variants(library).values()))
    return kernels


def variants(library: ctypes.CDLL) -> dict[str, int]:
    """The variants that this processor can run, fastest first, by name; `use_variant` takes their numbers."""
    names = {number: library.variant_name(number) for number in range(8)}
    return {name.decode(): number for number, name in names.items() if name is not None}


def address(array: NDArray[Any] | None) -> int | None:
    """Where the numbers of an array lie; it must stay alive while they are used."""
    return None if array is None else array.ctypes.data
