"""Reading one image file: how deep its pixels are, which way is up, what is transparent, and the pixels of a size asked for."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from tnacli.data.folders import readable
from tnacli.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
GRAY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
KNOWN_MODES = (*GRAY_MODES, *_COLOUR_MODES)
# What Pillow raises on damaged files differs from format to format.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def opened(path: str) -> ImageFile.ImageFile:
    """The image at `path`, not decoded yet. Raises DataError if it is none, or of more than 8 bits a channel."""
    try:
        image = Image.open(path)
    except DAMAGED as error:
        raise damaged(path, error) from error
    kind = image.mode if not _cut_to_8_bits(image) else f"{image.mode};16"
    if kind not in KNOWN_MODES:
        image.close()
        raise DataError(
            f"{readable(path)} has pixels of kind {kind}, more than 8 bits each; save it as 8-bit gray or "
            "colour first, so that it is you who says how the values are scaled."
        )
    return image


def _cut_to_8_bits(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would cut the values of `image` down to 8 bits without a word, as it does in colour images."""
    if image.format == "TIFF":
        bits: tuple[int, ...] = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (8,))
        return max(bits) > 8
    for *_, arguments in image.tile:  # how its bytes are read
        if image.format == "PNG":
            return str(arguments).endswith(";16B")
        if image.format == "PPM" and isinstance(arguments, tuple):
            return int(arguments[-1]) > 255
    return False


def damaged(path: str, error: Exception) -> DataError:
    """What to raise for an image that cannot be decoded."""
    return DataError(f"{readable(path)} cannot be decoded ({error}). Replace it or take it out of the folder.")


FILLED = "transparent parts made white"
FIRST = "the first of several pictures in the file"


def pixels(
    path: str, image: Image.Image, channels: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The `image` opened from `path` as a network is fed with it, uint8 [channels, *size], and what was done to it.

    Of several pictures the first, upright as its EXIF orientation says, transparent parts white, gray (1 channel) or colour
    (3), resized to (height, width) (bilinear, with antialiasing, proportions not kept). Raises DataError
    naming the file if it cannot be decoded.
    """
    height, width = size
    done = []
    try:
        if getattr(image, "is_animated", False):
            done.append(FIRST)
        turned = upright(image)
        if turned is not image:
            done.append("turned upright")
        shown, filled = opaque(turned)
        if filled:
            done.append(FILLED)
        if (image.mode in GRAY_MODES) != (channels == 1):
            done.append("colour made gray" if channels == 1 else "gray made colour")
        shown = shown.convert("L" if channels == 1 else "RGB")
    except DAMAGED as error:
        raise damaged(path, error) from error
    if shown.size != (width, height):
        shown = shown.resize((width, height), Image.Resampling.BILINEAR)
        done.append(f"resized to {height}x{width}")
    return np.asarray(shown).reshape(height, width, channels).transpose(2, 0, 1), tuple(done)


def upright_size(path: str, image: Image.Image) -> tuple[int, int]:
    """Height and width of `image` turned upright, without decoding it where its header tells."""
    try:
        if image.format == "TIFF":
            image.load()  # which turns it
    except DAMAGED as error:
        raise damaged(path, error) from error
    lying = _orientation(image) in (5, 6, 7, 8)
    return (image.width, image.height) if lying else (image.height, image.width)


def upright(image: Image.Image) -> Image.Image:
    """`image` decoded, and turned as its EXIF orientation says. Raises one of DAMAGED if it cannot be decoded."""
    image.load()
    # Not ImageOps.exif_transpose, which rewrites the EXIF data as well, and fails where those are odd.
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> object:
    """The EXIF orientation, 1 to 8 if it is a valid one; None where there is none or the EXIF data is no such data."""
    with contextlib.suppress(*DAMAGED):
        return image.getexif().get(ExifTags.Base.Orientation)
    return None


def opaque(image: Image.Image) -> tuple[Image.Image, bool]:
    """`image` laid on white if any of it is transparent, and whether it was."""
    if not image.has_transparency_data:
        return image, False
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return layer, False
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer), True
