"""Constants in exported C: each fp32 number comes back to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tnacli.deploy.c_tables import literal


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_constant_is_read_back_as_it_was(value: float) -> None:
    written = literal(value)
    assert written.endswith("f")
    assert any(mark in written for mark in ".e")  # 1f is no constant of C
    assert np.float32(float(written[:-1])) == np.float32(value)
