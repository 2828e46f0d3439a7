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
from tnacli.deploy.numbers import Values, fitting, numbers
from tnacli.errors import DataError


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
        array = numbers(samples)
    return fitting(array, wanted.kind, wanted.shape, values)


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
