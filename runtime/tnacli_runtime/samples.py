"""Samples in files: arrays of NumPy (.npy), and images where Pillow is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli_runtime.errors import DataError, UsageError
from tnacli_runtime.model import Model
from tnacli_runtime.storage import absent


def read(path: Path, model: Model, *, marked: bool = False) -> tuple[list[str], NDArray[Any], tuple[str, ...]]:
    """The names of the samples in `path`, the samples [N, ...] as `Model` takes them, and what was done to them for that.

    `marked`: they are floats.

    Raises DataError that names the file if it is missing, damaged or no such sample, UsageError for an image without Pillow.
    """
    if not path.is_file():
        raise DataError(f"{path}: {absent(path)}. Give arrays of NumPy (.npy) or images.")
    if path.suffix.lower() == ".npy":
        return (*_array(path, model), ())
    if model.input.kind != "images":
        raise DataError(
            f"{path}: the network takes event frames, {_by(model.shape)} numbers of events a sample: give arrays of NumPy (.npy)."
        )
    if marked:
        raise UsageError(f"{path}: images hold pixels: leave out --unit and --normalised")
    pixels, done = _image(path, model)
    return [str(path)], pixels[None], done


def _array(path: Path, model: Model) -> tuple[list[str], NDArray[Any]]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as an array of NumPy ({error}). Write it again with numpy.save."
        ) from None
    if array.shape == model.shape:
        return [str(path)], array[None]
    return [f"{path}[{number}]" for number in range(len(array) if array.ndim else 0)], array


def _image(path: Path, model: Model) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    try:
        from tnacli_runtime.data import image_files
    except ImportError as error:
        if error.name != "PIL":
            raise
        raise UsageError(
            f"{path}: images are read with Pillow, which is not installed: pip install tnacli-runtime[images]. Arrays of NumPy "
            "(.npy) are read without it."
        ) from None
    with image_files.opened(str(path)) as image:
        return image_files.pixels(str(path), image, model.input.channels, model.input.size)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
