"""Layouts in the field's notation: what each part means, and what cannot be."""

from __future__ import annotations

import pytest

from tnacli.recipe.layout import NAMED_LAYOUTS, LayerShape, Shortcut, hidden_layers, layer_shapes, read_layout


def shapes(layout: str, size: tuple[int, int] = (16, 16), width: float = 1.0) -> dict[str, LayerShape]:
    return {shape.name: shape for shape in layer_shapes(layout, width=width, channels=3, size=size, classes=10)}


def test_residual_blocks_add_what_enters_them() -> None:
    found = shapes("8C3-R8x2-AP2-R12/2-R12")
    assert list(found) == [*(f"conv{n}" for n in range(1, 10)), "readout"]
    shortcuts = {name: shape.shortcut for name, shape in found.items() if shape.shortcut}
    assert shortcuts == {
        "conv3": Shortcut("conv1"),
        "conv5": Shortcut("conv3"),
        "conv7": Shortcut("conv5", (12, 8, 1, 1), 2),  # after the pooling of conv5: 8x8 to 4x4
        "conv9": Shortcut("conv7"),
    }
    assert (found["conv5"].pool, found["conv5"].pooled) == (2, (8, 8, 8))
    assert (found["conv6"].stride, found["conv6"].out) == (2, (12, 4, 4))
    assert found["conv7"].branches == {"conv7": (12, 12, 3, 3), "conv7.shortcut": (12, 8, 1, 1)}


@pytest.mark.parametrize(("size", "out"), [((16, 16), (8, 8)), ((15, 9), (8, 5)), ((1, 2), (1, 1))])
def test_a_stride_halves_and_rounds_up(size: tuple[int, int], out: tuple[int, int]) -> None:
    assert shapes("4C3/2", size)["conv1"].out == (4, *out)
    assert shapes("4C1-R4/2", size)["conv3"].out == (4, *out)


def test_gap_pools_over_the_whole_map() -> None:
    for side in (1, 2, 4, 8):
        found = shapes("4C3-GAP", (side, side))
        assert (found["conv1"].pool, found["readout"].weight) == (side, (10, 4))
    for size in ((4, 8), (6, 6), (16, 16)):
        with pytest.raises(ValueError, match=f"takes maps of 2x2, 4x4 or 8x8 .* here they are {size[0]}x{size[1]}"):
            shapes("4C3-GAP", size)


def test_width_multiplies_blocks_too() -> None:
    found = shapes("8C3-R8-R16x2/2-6FC", width=0.5)
    assert [shape.weight[0] for shape in found.values()] == [4, 4, 4, 8, 8, 8, 8, 3, 10]


@pytest.mark.parametrize("name", NAMED_LAYOUTS)
@pytest.mark.parametrize("side", [16, 32])
def test_named_layouts_fit_images(name: str, side: int) -> None:
    found = layer_shapes(name, width=1, channels=3, size=(side, side), classes=100)
    assert len(found) - 2 == hidden_layers(name)


@pytest.mark.parametrize(
    ("layout", "what"),
    [
        ("R8-4FC", "R8 in layout .* comes first; residual blocks add spikes"),
        ("4FC-R8", "R8 .* comes after a fully connected layer"),
        ("4C3-AP2-AP2", "AP2 .* must directly follow a convolution or residual blocks"),
        ("GAP-4C3", "GAP .* must directly follow"),
        ("4C3/3", "cannot read '4C3/3'"),
        ("4C3-R8x0", "cannot read 'R8x0'"),
        ("4C3-R8x100", "cannot read 'R8x100'"),
        ("4C2/2", "has an even kernel"),
    ],
)
def test_layouts_that_make_no_sense(layout: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read_layout(layout)
