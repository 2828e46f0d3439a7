from __future__ import annotations

import re
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnacli.packed.codec import ENCODINGS, Encoding, Weights, check, pack, unpack

encodings = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)


@st.composite
def weights(draw: st.DrawFn) -> Weights:
    out, fan_in = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    values = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=out * fan_in, max_size=out * fan_in))
    return np.array(values, dtype=np.int8).reshape(out, fan_in)


@encodings
@given(rows=weights())
def test_unpacking_gives_back_what_was_packed(encoding: Encoding, rows: Weights) -> None:
    packed = pack(rows, encoding)
    assert packed.dtype == np.uint8
    assert packed.shape == (len(rows), ceil(rows.shape[1] / encoding.digits))
    np.testing.assert_array_equal(unpack(packed, rows.shape[1], encoding), rows)


@encodings
@given(rows=weights())
def test_counts_are_those_of_the_weights(encoding: Encoding, rows: Weights) -> None:
    counts = check(pack(rows, encoding), rows.shape[1], encoding)
    assert counts == ((rows == -1).sum(), (rows == 0).sum(), (rows == 1).sum())


@encodings
def test_bytes_are_those_of_the_documents_worked_example(encoding: Encoding) -> None:
    text = (Path(__file__).parents[2] / "docs" / "packed-format.md").read_text(encoding="utf-8")
    example = re.search(r"the seven weights `([-+01 ]+)`", text)
    stated = re.search(rf"\* `{encoding.name}`, two bytes:.*?In hexadecimal `([0-9a-f ]+)`", text, re.DOTALL)
    assert example
    assert stated
    row = np.array([[int(weight) for weight in example[1].split()]], dtype=np.int8)
    assert row.shape == (1, 7)
    assert pack(row, encoding).tobytes().hex(" ") == stated[1]


@encodings
def test_a_byte_is_accepted_if_and_only_if_it_packs_weights(encoding: Encoding) -> None:
    grids = np.meshgrid(*[[-1, 0, 1]] * encoding.digits)
    every_row = np.stack(grids, axis=-1).reshape(-1, encoding.digits).astype(np.int8)
    packable = {int(byte) for byte in pack(every_row, encoding)[:, 0]}
    assert len(packable) == 3**encoding.digits
    for byte in range(256):
        packed = np.array([[byte]], dtype=np.uint8)
        if byte in packable:
            check(packed, encoding.digits, encoding)
        else:
            with pytest.raises(ValueError, match=f"byte 0 of row 0 is {byte}"):
                check(packed, encoding.digits, encoding)


@encodings
def test_the_place_of_an_invalid_byte_is_named(encoding: Encoding) -> None:
    packed = pack(np.zeros((4, 30), dtype=np.int8), encoding)
    packed[2, 3] = packed[3, 1] = 255
    with pytest.raises(ValueError, match="byte 3 of row 2 is 255"):
        check(packed, 30, encoding)


@encodings
@given(rows=weights(), data=st.data())
def test_padding_must_be_zero_weights(encoding: Encoding, rows: Weights, data: st.DataObject) -> None:
    fan_in = rows.shape[1]
    width = encoding.row_bytes(fan_in) * encoding.digits
    if width == fan_in:
        return
    padded = np.zeros((len(rows), width), dtype=np.int8)
    padded[:, :fan_in] = rows
    assert check(pack(padded, encoding), fan_in, encoding) == check(pack(rows, encoding), fan_in, encoding)
    row = data.draw(st.integers(0, len(rows) - 1))
    padded[row, data.draw(st.integers(fan_in, width - 1))] = data.draw(st.sampled_from([-1, 1]))
    with pytest.raises(ValueError, match=f"padding at the end of row {row}"):
        check(pack(padded, encoding), fan_in, encoding)


@encodings
@pytest.mark.parametrize("wrong", [-2, 2, 127, -128])
def test_other_weights_are_refused(encoding: Encoding, wrong: int) -> None:
    with pytest.raises(ValueError, match="only -1, 0 and"):
        pack(np.array([[0, wrong]], dtype=np.int8), encoding)
