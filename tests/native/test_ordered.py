"""Sums in the order of the weights: compiled in every variant, and in NumPy, they are what a loop of fp32 numbers gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tnacli.native import ordered
from tnacli.native.library import engine, variants
from tnacli.native.ordered import ordered_sums


def by_the_book(x: NDArray[Any], weight: NDArray[Any], stride: int) -> NDArray[Any]:
    """One output after the other, one product after the other."""
    is_conv = weight.ndim == 4
    if not is_conv:
        x, weight = x[..., None, None], weight[..., None, None]
    out, into, kernel, _ = weight.shape
    pad = kernel // 2
    around = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = ((side - 1) // stride + 1 for side in x.shape[2:])
    sums = np.zeros((len(x), out, height, width), np.float32)
    for h in range(height):
        for w in range(width):
            for c in range(into):
                for i in range(kernel):
                    for j in range(kernel):
                        sums[:, :, h, w] += np.multiply.outer(
                            around[:, c, h * stride + i, w * stride + j], weight[:, c, i, j]
                        )
    return sums if is_conv else sums[..., 0, 0]


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 5),
    out=st.integers(1, 9),
    into=st.integers(1, 5),
    kernel=st.sampled_from([0, 1, 3, 5]),
    side=st.integers(1, 9),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_every_way_gives_the_bits_of_a_loop(
    count: int, out: int, into: int, kernel: int, side: int, stride: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, into, side, side + 1) if kernel else (count, into * 40), np.float32)
    weight = rng.standard_normal((out, x.shape[1], kernel, kernel) if kernel else (out, x.shape[1]), np.float32)
    expected = by_the_book(x, weight, stride)
    library = engine().library
    for number in (
        [] if library is None else sorted(variants(library).values(), reverse=True)
    ):  # the fastest last, to stay
        library.use_variant(number)
        np.testing.assert_array_equal(ordered_sums(x, weight, stride), expected, strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "engine", lambda: type("None", (), {"library": None}))
        np.testing.assert_array_equal(ordered_sums(x, weight, stride), expected, strict=True)
    np.testing.assert_array_equal(ordered_sums(x, weight, stride, out_first=True), expected.swapaxes(0, 1), strict=True)


def test_the_order_is_that_of_the_weights() -> None:
    """2^24 + 1 is 2^24 in fp32, so that what comes first decides: ((1 + 2^24) - 2^24) is 0, ((2^24 - 2^24) + 1) is 1."""
    big = 2.0**24
    x = np.ones((1, 3), np.float32)
    assert ordered_sums(x, np.array([[1, big, -big], [big, -big, 1]], np.float32)).tolist() == [[0.0, 1.0]]


def test_the_sums_are_about_those_of_a_convolution() -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 5, 9, 8, generator=rng), torch.randn(7, 5, 3, 3, generator=rng)
    theirs = torch.nn.functional.conv2d(x, weight, stride=2, padding=1)
    np.testing.assert_allclose(ordered_sums(x.numpy(), weight.numpy(), 2), theirs.numpy(), atol=1e-5)
