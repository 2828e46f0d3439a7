"""What `tnacli.load` takes for samples, brought to one array: arrays, tensors, lists, PIL images and paths. Loads no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tnacli.data import image_files
from tnacli.data.own_samples import Wanted
from tnacli.errors import DataError

Values = str
"""What numbers mean: "pixels" (or counts of events), "unit" (pixels from 0 to 1) or "normalised"."""


def as_array(samples: Any, wanted: Wanted, values: Values = "pixels") -> NDArray[Any]:
    """`samples` as one array of this machine's byte order: uint8 of "pixels" of images, else float32.

    Files and PIL images are made what the network takes, as `tna predict` does; one alone is a batch of one. Raises DataError
    for what is no sample, numbers out of range, or another shape.
    """
    if isinstance(samples, str | os.PathLike | Image.Image):
        samples = [samples]
    if isinstance(samples, Sequence) and samples and isinstance(samples[0], str | os.PathLike | Image.Image):
        if values != "pixels":
            raise DataError("files and PIL images hold pixels: leave out unit=True and normalised=True")
        array = np.stack([_decoded(one, wanted) for one in samples])
    else:
        array = _numbers(samples)
    frames = [] if wanted.kind == "images" else [wanted.timesteps]
    expected = [*frames, wanted.channels, *wanted.size]
    if list(array.shape[1:]) != expected:
        raise DataError(
            f"the network takes {wanted.kind} of {_by(['N', *expected])}; these are {_by(array.shape) or 'a single number'}"
            + (
                f". One sample is a batch of one: samples[None] of {_by(expected)}"
                if list(array.shape) == expected
                else ""
            )
        )
    if wanted.kind == "events" or values == "normalised":
        return _finite(array, "frames hold numbers of events" if wanted.kind == "events" else "inputs are finite")
    return _unit(array) if values == "unit" else _pixels(array)


def _decoded(one: Any, wanted: Wanted) -> NDArray[np.uint8]:
    if isinstance(one, str | os.PathLike):
        return wanted.read(Path(one))[0]
    if not isinstance(one, Image.Image):
        raise DataError(f"a list of images or paths holds a {type(one).__name__}; keep numbers in lists of their own")
    if wanted.kind != "images":
        raise DataError("the network takes events, and this is an image; give frames of counts, or paths of recordings")
    name = getattr(one, "filename", "") or "the image"
    if one.mode not in image_files.KNOWN_MODES:
        raise DataError(
            f"{name} has pixels of kind {one.mode}, more than 8 bits each; convert it to gray or colour first"
        )
    return image_files.pixels(name, one, wanted.channels, wanted.size)[0]


def _numbers(samples: Any) -> NDArray[Any]:
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
