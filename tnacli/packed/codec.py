"""Weights in {-1, 0, +1} as bytes: four to a byte in base 4 (2 bits each), or five in base 3 (1.6 bits).

A weight w becomes the digit w + 1. A byte holds `digits` of them, the first as the least significant digit of
the base: byte = d0 + d1 * base + d2 * base**2 + ... Every output neuron's weights, flattened in C order, fill
a row of whole bytes; what is left of its last byte is filled with digit 1, a zero weight, so that even a
reader that forgets to cut the row adds nothing. Base 4 is plain shifts; base 3 uses 243 of 256 values.
docs/packed-format.md has worked examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tnacli.pixels import histogram

Bytes = NDArray[np.uint8]
Weights = NDArray[np.int8]

_ZERO_DIGIT = 1
_AT_ONCE = 1 << 18  # bytes whose indices, eight bytes each, are made at a time


@dataclass(frozen=True)
class Encoding:
    """How many base-`base` digits of {0, 1, 2} share a byte."""

    name: str
    base: int
    digits: int

    def row_bytes(self, fan_in: int) -> int:
        """Bytes that hold one output neuron's `fan_in` weights."""
        return -(-fan_in // self.digits)


ENCODINGS = {
    "ternary2": Encoding("ternary2", base=4, digits=4),
    "ternary5": Encoding("ternary5", base=3, digits=5),
}


@dataclass(frozen=True)
class Rows:
    """Weights of `shape`, [out, ...], as rows of bytes [out, row_bytes] that passed `check`."""

    bytes: Bytes
    encoding: Encoding
    shape: tuple[int, ...]

    @classmethod
    def of(cls, weights: Weights, encoding: Encoding = ENCODINGS["ternary2"]) -> Rows:
        """The rows of `weights`, -1, 0 and +1, int8. Raises ValueError for others."""
        return cls(pack(weights.reshape(len(weights), -1), encoding), encoding, weights.shape)

    @property
    def fan_in(self) -> int:
        """How many weights each output has."""
        return prod(self.shape[1:])

    def weights(self) -> Weights:
        """-1, 0 and +1, int8."""
        return unpack(self.bytes, self.fan_in, self.encoding).reshape(self.shape)

    @cached_property
    def counts(self) -> Counts:
        """How many of them are -1, 0 and +1. Raises ValueError for bytes that are no weights."""
        return check(self.bytes, self.fan_in, self.encoding)


def pack(weights: Weights, encoding: Encoding) -> Bytes:
    """Rows of bytes [out, row_bytes] from `weights` [out, fan_in].

    Raises ValueError if a weight is not -1, 0 or +1.
    """
    if weights.size and (weights.min() < -1 or weights.max() > 1):
        raise ValueError("only -1, 0 and +1 can be packed")
    out, fan_in = weights.shape
    row_bytes = encoding.row_bytes(fan_in)
    digits = np.full((out, row_bytes * encoding.digits), _ZERO_DIGIT, dtype=np.uint8)
    digits[:, :fan_in] = weights + 1
    packed = np.zeros((out, row_bytes), dtype=np.uint8)
    for place in range(encoding.digits):
        packed += digits[:, place :: encoding.digits] * np.uint8(encoding.base**place)
    return packed


def unpack(packed: Bytes, fan_in: int, encoding: Encoding) -> Weights:
    """Weights [out, fan_in] from rows of bytes [out, row_bytes] that passed `check`."""
    weights_of = (_digits_of_bytes(encoding) - 1).astype(np.int8)
    rows = np.empty((*packed.shape, encoding.digits), dtype=np.int8)
    at_once = max(1, _AT_ONCE // packed.shape[1])
    for i in range(0, len(packed), at_once):
        # Into place, where indexing would copy digit by digit; "clip" as that needs no copy aside, and no byte is past the table.
        weights_of.take(packed[i : i + at_once], axis=0, out=rows[i : i + at_once], mode="clip")
    return np.ascontiguousarray(rows.reshape(len(packed), -1)[:, :fan_in])


class Counts(NamedTuple):
    """How many weights of a layer are -1, 0 and +1."""

    negative: int
    zero: int
    positive: int

    @property
    def shares(self) -> tuple[float, float, float]:
        """The same as shares that add up to 1."""
        count = sum(self)
        return self.negative / count, self.zero / count, self.positive / count


def check(packed: Bytes, fan_in: int, encoding: Encoding) -> Counts:
    """Count the weights in rows of bytes [out, row_bytes] without unpacking them.

    Raises ValueError, naming the place, if a byte stands for no weights or the padding of a row is not zero
    weights.
    """
    digits = _digits_of_bytes(encoding)
    invalid = (digits > 2).any(axis=1)
    seen = histogram(packed)
    if seen[invalid].any():
        value = int((seen * invalid).argmax())
        row, column = divmod(int((packed == value).argmax()), packed.shape[1])
        raise ValueError(
            f"byte {column} of row {row} is {value}, which holds a digit that is no weight "
            f"(0, 1 and 2 stand for -1, 0 and +1)"
        )
    padding = encoding.row_bytes(fan_in) * encoding.digits - fan_in
    if padding:
        wrong = (digits[packed[:, -1], encoding.digits - padding :] != _ZERO_DIGIT).any(axis=1)
        if wrong.any():
            raise ValueError(f"the padding at the end of row {int(wrong.argmax())} is not zero weights")
    negative, zero, positive = (int(seen @ (digits == digit).sum(axis=1)) for digit in (0, 1, 2))
    return Counts(negative, zero - padding * packed.shape[0], positive)


def _digits_of_bytes(encoding: Encoding) -> NDArray[np.int64]:
    """The digits of each byte [256, digits]; a byte past the largest has a digit of 3 or more as its last."""
    rest = np.arange(256)
    digits = []
    for _ in range(encoding.digits - 1):
        rest, digit = np.divmod(rest, encoding.base)
        digits.append(digit)
    return np.stack([*digits, rest], axis=1)
