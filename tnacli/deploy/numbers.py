"""Samples given as numbers, arrays or tensors: what they may be, and how they become inputs of a network. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.errors import DataError, UsageError
from tnacli.packed.spec import InputSpec
from tnacli.pixels import array_as_input, standardised_array

Values = str
"""What numbers mean: "pixels" (or counts of events), "unit" (pixels from 0 to 1) or "normalised"."""


def as_inputs(samples: NDArray[Any], spec: InputSpec, values: Values) -> NDArray[np.float32]:
    """What a network that takes `spec` is fed with, from `samples` that are `fitting`."""
    if values == "normalised":
        return samples
    if values == "unit":
        return standardised_array(samples, spec.mean, spec.std)
    return array_as_input(samples, spec.mean, spec.std, spec.kind)


def values_of(*, unit: bool, normalised: bool) -> Values:
    """What the two marks of floats say together. Raises UsageError for both."""
    if unit and normalised:
        raise UsageError("unit=True is for pixels from 0 to 1, normalised=True for what is normalised; give one")
    return "unit" if unit else "normalised" if normalised else "pixels"


def fitting(array: NDArray[Any], kind: str, shape: Sequence[int], values: Values = "pixels") -> NDArray[Any]:
    """`array` [N, *shape] as a network of this `kind` of inputs takes it: uint8 of "pixels" of images, else float32.

    Raises DataError for numbers out of range or another shape.
    """
    expected = list(shape)
    if list(array.shape[1:]) != expected:
        raise DataError(
            f"the network takes {kind} of {_by(['N', *expected])}; these are {_by(array.shape) or 'a single number'}"
            + (
                f". One sample is a batch of one: samples[None] of {_by(expected)}"
                if list(array.shape) == expected
                else ""
            )
        )
    if kind == "events" or values == "normalised":
        return _finite(array, "frames hold numbers of events" if kind == "events" else "inputs are finite")
    return _unit(array) if values == "unit" else _pixels(array)


def numbers(samples: Any) -> NDArray[Any]:
    """An array, a tensor or a list of numbers as an array of this machine's byte order. Raises DataError for what is none."""
    if hasattr(samples, "detach"):
        samples = _from_tensor(samples)
    elif isinstance(samples, Sequence) and samples and hasattr(samples[0], "detach"):
        samples = [_from_tensor(one) if hasattr(one, "detach") else one for one in samples]
    try:
        array = np.asarray(samples)
    except ValueError:
        raise DataError("the samples of a list are of one shape and kind; these are of several") from None
    if array.shape == (0,):
        raise DataError("there are no samples: the list is empty")
    if array.dtype.kind not in "iuf":
        raise DataError(
            f"samples are numbers, PIL images or paths, alone or in a list; these are {type(samples).__name__} of {array.dtype}"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _from_tensor(tensor: Any) -> NDArray[Any]:
    """A tensor of whatever device; of bfloat16, which NumPy lacks, as float32."""
    known = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
    try:
        array: NDArray[Any] = known.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised, or without values (meta)
        raise DataError(f"the tensor ({tensor.dtype}, {tensor.layout}, {tensor.device}) is no array: {error}") from None
    return array


def _pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype.kind == "f":
        raise DataError(
            f"images are uint8 pixels from 0 to 255, not {array.dtype}; say unit=True if these are from 0 to 1 (as of "
            "torchvision's ToTensor), or normalised=True if the network's mean and std have been applied already"
        )
    if array.dtype != np.uint8 and array.size and not (array.min() >= 0 and array.max() <= 255):
        raise DataError(f"pixels are from 0 to 255; these are from {array.min()} to {array.max()}")
    return array.astype(np.uint8, copy=False)


def _unit(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise DataError(
            f"unit=True is for floats from 0 to 1, not {array.dtype}; whole numbers are pixels from 0 to 255"
        )
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # not a number is neither
        raise DataError(f"unit=True is for floats from 0 to 1; these are from {array.min():g} to {array.max():g}")
    return array.astype(np.float32)


def _finite(array: NDArray[Any], rule: str) -> NDArray[np.float32]:
    inputs = array.astype(np.float32)
    if not np.isfinite(inputs).all():
        raise DataError(f"{rule}; these have NaN or infinite values")
    return inputs


def _by(shape: Sequence[Any]) -> str:
    return "x".join(map(str, shape))
