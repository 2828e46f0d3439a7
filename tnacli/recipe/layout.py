"""Network layouts in the field's notation, and the shape of every layer that follows from one.

`128C3-AP2-512FC` reads: 128 feature maps from a 3x3 convolution, 2x2 average pooling, 512 fully connected neurons.
Pooling is over 2x2, 4x4 or 8x8: powers of two keep averaged spikes exact in binary arithmetic, so that a packed network
can sum them as integers and give the same result.
The readout layer, one output per class, is implied. Nothing here needs torch, so plans and dry runs answer at once;
the network itself is built from the same list of layers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

CIFARNET = "128C3-256C3-AP2-512C3-AP2-1024C3-512C3-1024FC-512FC"
"""CIFARNet as the paper lists it, "1023C3" read as the misprint of 1024C3 that it is."""

NAMED_LAYOUTS = {"cifarnet": CIFARNET}

_PART = re.compile(r"(?P<channels>[1-9]\d*)C(?P<kernel>[1-9]\d*)|AP(?P<pool>[248])|(?P<features>[1-9]\d*)FC")


@dataclass(frozen=True)
class LayerShape:
    """One layer with weights, and the pooling that follows its neurons.

    `weight` is (out, in, kernel, kernel) for a convolution and (out, in) for a fully connected layer. `out` is the shape
    of one sample at one timestep behind the neurons and before `pool`: (C, H, W) or (features,).
    """

    name: str
    kind: str  # "conv", "fc" or "readout"
    weight: tuple[int, ...]
    out: tuple[int, ...]
    pool: int = 1

    @property
    def weights(self) -> int:
        return prod(self.weight)

    @property
    def fan_in(self) -> int:
        return prod(self.weight[1:])

    @property
    def pooled(self) -> tuple[int, ...]:
        """The shape behind the pooling, which drops a remainder as PyTorch's AvgPool2d does."""
        return self.out if self.pool == 1 else (self.out[0], *(size // self.pool for size in self.out[1:]))


def notation(layout: str) -> str:
    """The layout spelled out: a name such as `cifarnet` replaced by what it stands for."""
    return NAMED_LAYOUTS.get(layout, layout)


def layer_shapes(
    layout: str, *, width: float, channels: int, size: tuple[int, int], classes: int
) -> tuple[LayerShape, ...]:
    """Every layer with weights, first to readout, of `layout` on inputs of (channels, *size).

    `width` multiplies the number of feature maps and neurons of every hidden layer, rounded, at least 1. Convolutions
    keep the spatial size (stride 1, padding kernel // 2), so kernels must be odd.

    Raises ValueError, in words fit for the user, for a layout that cannot be read or does not fit the input.
    """
    shapes: list[LayerShape] = []
    shape: tuple[int, ...] = (channels, *size)
    for part in notation(layout).split("-"):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"cannot read {part.strip()!r} in layout {layout!r}; a part is 128C3 (convolution), AP2, AP4 or AP8 "
                f"(average pooling) or 512FC (fully connected), joined by '-', or the layout is one of the names: "
                f"{', '.join(NAMED_LAYOUTS)}"
            )
        if match["pool"]:
            if not shapes or shapes[-1].kind != "conv" or shapes[-1].pool != 1:
                raise ValueError(f"{part} in layout {layout!r} must directly follow a convolution")
            last = shapes[-1]
            shapes[-1] = LayerShape(last.name, last.kind, last.weight, last.out, int(match["pool"]))
            shape = shapes[-1].pooled
            if 0 in shape:
                raise ValueError(
                    f"{part} in layout {layout!r} pools {last.out[1]}x{last.out[2]} away; "
                    f"the input of {size[0]}x{size[1]} is too small for so many pooling layers"
                )
        elif match["channels"]:
            if len(shape) == 1:
                raise ValueError(f"{part} in layout {layout!r} comes behind a fully connected layer")
            kernel = int(match["kernel"])
            if kernel % 2 == 0:
                raise ValueError(f"{part} in layout {layout!r} has an even kernel; use an odd one")
            out = (_scaled(match["channels"], width), *shape[1:])
            name = f"conv{1 + sum(s.kind == 'conv' for s in shapes)}"
            shapes.append(LayerShape(name, "conv", (out[0], shape[0], kernel, kernel), out))
            shape = out
        else:
            out = (_scaled(match["features"], width),)
            name = f"fc{1 + sum(s.kind == 'fc' for s in shapes)}"
            shapes.append(LayerShape(name, "fc", (*out, prod(shape)), out))
            shape = out
    shapes.append(LayerShape("readout", "readout", (classes, prod(shape)), (classes,)))
    return tuple(shapes)


def _scaled(text: str, width: float) -> int:
    return max(1, round(int(text) * width))
