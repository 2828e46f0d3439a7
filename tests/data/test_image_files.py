"""Images that are turned, transparent or deep: read as they are meant, or refused."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from tests.data.test_images import decode, listed, picture
from tnacli.data import images
from tnacli.data.source import no_progress
from tnacli.errors import DataError

TURNED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],
}
"""How an upright picture is stored under each orientation, after the EXIF standard: 6 wants turning clockwise."""


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_honoured(tmp_path: Path, suffix: str, orientation: int) -> None:
    """In its pixels, in its size, and in what the survey tells."""
    upright = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    stored = np.ascontiguousarray(TURNED[orientation](upright))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a{suffix}"
    lossless: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Image.fromarray(stored).save(path, exif=exif, **lossless)
    np.testing.assert_array_equal(decode(path)[0].transpose(1, 2, 0), upright)
    assert images.survey(listed(path), "", no_progress).tolist() == [[6, 9, 0]]
    with pytest.raises(DataError, match=r"is 6x9 pixels, not 9x6"):
        decode(path, size=(9, 6))


def test_a_photograph_is_turned_as_pillow_turns_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture("RGB", (9, 6)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decode(tmp_path / "a.jpg")[0].transpose(1, 2, 0), expected)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
@pytest.mark.parametrize("exif", [b"x", b"Exif\0\0garbage"])
def test_exif_data_that_is_none_turns_nothing(tmp_path: Path, suffix: str, exif: bytes) -> None:
    picture("RGB").save(tmp_path / f"a{suffix}", exif=exif)
    picture("RGB").save(tmp_path / f"b{suffix}")
    with_exif, without = decode(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(with_exif, without)


COLOURS = np.array([[[200, 10, 30], [200, 10, 30], [0, 0, 255]]], np.uint8)
ALPHA = np.array([[255, 0, 128]], np.uint8)
ON_WHITE = [[200, 10, 30], [255, 255, 255], [127, 127, 255]]


def transparent(kind: str) -> tuple[Image.Image, dict[str, Any], list[list[int]]]:
    """An image with transparency of some kind, how to save it, and its three pixels on white."""
    whole = Image.fromarray(COLOURS)
    clear = ON_WHITE[1]
    if kind == "RGBA":
        return Image.fromarray(np.dstack([COLOURS, ALPHA])), {}, ON_WHITE
    if kind == "LA":
        gray = Image.fromarray(np.array([[[200, 255], [200, 0], [0, 128]]], np.uint8), "LA")
        return gray, {}, [[200] * 3, clear, [127] * 3]
    if kind == "colour key":
        return whole, {"transparency": (200, 10, 30)}, [clear, clear, [0, 0, 255]]
    if kind == "gray key":
        return whole.convert("L"), {"transparency": 29}, [[69] * 3, [69] * 3, clear]
    palette = whole.quantize(4)
    if kind == "palette key":
        return palette, {"transparency": palette.getpixel((0, 0))}, [clear, clear, [0, 0, 255]]
    alphas = bytearray(b"\xff" * 4)
    blue = palette.getpixel((2, 0))
    assert isinstance(blue, int)
    alphas[blue] = 128
    return palette, {"transparency": bytes(alphas)}, [[200, 10, 30], [200, 10, 30], [127, 127, 255]]


@pytest.mark.parametrize("kind", ["RGBA", "LA", "colour key", "gray key", "palette key", "palette of alphas"])
def test_transparent_parts_become_white_and_are_said(tmp_path: Path, kind: str) -> None:
    image, how, expected = transparent(kind)
    image.save(tmp_path / "clear.png", **how)
    image.convert("RGB").save(tmp_path / "opaque.png")
    remarks: list[str] = []
    pixels = images.decode(
        listed(tmp_path / "opaque.png", tmp_path / "clear.png"),
        channels=3,
        size=(1, 3),
        resize=False,
        what="reading",
        on_progress=no_progress,
        remarks=remarks,
    )
    assert pixels[1].transpose(1, 2, 0)[0].tolist() == expected
    (remark,) = remarks
    assert remark == (
        "reading: 1 of 2 images have transparent parts, which become white; the first is " + str(tmp_path / "clear.png")
    )


@pytest.mark.parametrize("ending", ["gif", "png", "tiff", "webp"])
def test_of_several_pictures_in_a_file_the_first_is_taken_and_it_is_said(tmp_path: Path, ending: str) -> None:
    red, blue = (Image.new("RGB", (3, 1), colour) for colour in ("red", "blue"))
    several, one = tmp_path / f"several.{ending}", tmp_path / f"one.{ending}"
    red.save(several, save_all=True, append_images=[blue])
    red.save(one)
    remarks: list[str] = []
    pixels = images.decode(
        listed(one, several), channels=3, size=(1, 3), resize=False, what="reading", on_progress=no_progress, remarks=remarks
    )  # fmt: skip
    assert np.array_equal(pixels[1], pixels[0])
    assert remarks == [
        f"reading: 1 of 2 images hold several pictures, of which the first is taken; the first is {several}"
    ]


def test_a_gif_with_transparency_becomes_white(tmp_path: Path) -> None:
    image, how, expected = transparent("palette key")
    image.save(tmp_path / "a.gif", **how)
    assert decode(tmp_path / "a.gif", size=(1, 3))[0].transpose(1, 2, 0)[0].tolist() == expected


def test_an_opaque_alpha_channel_is_nothing_to_remark(tmp_path: Path) -> None:
    remarks: list[str] = []
    picture("RGBA").save(tmp_path / "a.png")
    images.decode(
        listed(tmp_path / "a.png"),
        channels=3,
        size=(6, 9),
        resize=False,
        what="",
        on_progress=no_progress,
        remarks=remarks,
    )
    assert remarks == []


def deep_png(kind: int, channels: int) -> bytes:
    """A PNG of 9x6 pixels with 16 bits a channel, of colour type `kind`."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = (b"\0" + b"\x9c\x40" * (9 * channels)) * 6
    header = struct.pack(">IIBBBBB", 9, 6, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_tiff() -> bytes:
    """A TIFF of 9x6 pixels with 16 bits a channel, in colour, not compressed."""
    data = b"\x40\x9c" * (9 * 6 * 3)
    at = 8 + len(data)
    fields = [(256, 3, 1, 9), (257, 3, 1, 6), (258, 3, 3, at + 6 + 9 * 12), (259, 3, 1, 1), (262, 3, 1, 2)]
    fields += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, 6), (279, 4, 1, len(data))]
    directory = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"II*\0" + struct.pack("<I", at) + data + directory + struct.pack("<I", 0) + struct.pack("<HHH", 16, 16, 16)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("gray.png", deep_png(0, 1), "I;16"),
        ("colour.png", deep_png(2, 3), "RGB;16"),
        ("gray_alpha.png", deep_png(4, 2), "RGBA;16"),
        ("alpha.png", deep_png(6, 4), "RGBA;16"),
        ("colour.tiff", deep_tiff(), "RGB;16"),
        ("gray.pgm", b"P5 9 6 65535\n" + b"\x9c\x40" * 54, "I"),
        ("colour.ppm", b"P6 9 6 65535\n" + b"\x9c\x40" * 162, "RGB;16"),
        ("plain.ppm", b"P3 9 6 1023\n" + b"1000 " * 162, "RGB;16"),
    ],
    ids=str.split("gray_png colour_png gray_alpha_png alpha_png tiff pgm ppm plain_ppm"),
)
def test_sixteen_bits_are_not_silently_cut(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    with Image.open(tmp_path / name) as image:
        image.load()  # a whole file, which Pillow reads
    with pytest.raises(DataError, match=rf"{name} has pixels of kind {kind}\b.*8-bit"):
        decode(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} has pixels of kind {kind}\b"):
        images.survey(listed(tmp_path / name), "", no_progress)


def test_eight_bits_or_fewer_are_no_sixteen(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 9 6 127\n" + bytes(range(81)) * 2)
    pixels = np.frombuffer(bytes(range(81)) * 2, np.uint8).reshape(6, 9, 3)
    expected = np.round(pixels.transpose(2, 0, 1) * (255 / 127))
    assert np.abs(decode(tmp_path / "a.ppm")[0].astype(int) - expected).max() <= 1
    picture("P").save(tmp_path / "a.tiff")
    decode(tmp_path / "a.tiff")
