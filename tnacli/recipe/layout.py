"""Network layouts in the field's notation, and the shape of every layer that follows from one.

`128C3-AP2-512FC` reads: 128 feature maps from a 3x3 convolution, 2x2 average pooling, 512 fully connected neurons.
`64C3/2` is a convolution with stride 2, and `R64x2/2` two residual blocks of two 3x3 convolutions with 64 maps, the first
block with stride 2. `GAP` pools over the whole map.
Pooling is over 2x2, 4x4 or 8x8: powers of two keep averaged spikes exact in binary arithmetic, so that a packed network
can sum them as integers and give the same result.
The readout layer, one output per class, is implied. Nothing here needs torch, so plans and dry runs answer at once;
the network itself is built from the same list of layers.

A residual block is that of tdBN (Zheng et al. 2021) and TET (Deng et al. 2022): currents are added before the neurons. The
neurons of the second convolution receive its current and that of the shortcut: the very spikes that enter the block, or,
where the block changes their shape, a 1x1 convolution of them with its own batch norm. So every convolution after the
first sees spikes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod

CIFARNET = "128C3-256C3-AP2-512C3-AP2-1024C3-512C3-1024FC-512FC"
"""CIFARNet as the paper lists it, "1023C3" read as the misprint of 1024C3 that it is."""

NAMED_LAYOUTS = {
    "cifarnet": CIFARNET,
    # The VGG-11 of spiking networks on 32x32 inputs: OTTT (Xiao et al. 2022), and NDOT and T-BSO after it.
    "vgg11": "64C3-128C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-512C3-512C3-GAP",
    # He et al. 2016, with the 3x3 first convolution and without the first pooling that 32x32 inputs ask for.
    "resnet18": "64C3-R64x2-R128x2/2-R256x2/2-R512x2/2-GAP",
    # tdBN (Zheng et al. 2021, section "Network structure"), TET (Deng et al. 2022).
    "resnet19": "128C3-R128x3-R256x3/2-R512x2/2-GAP-256FC",
    "mlp": "800FC-800FC-800FC",
}

_PART = re.compile(
    r"(?P<channels>[1-9]\d*)C(?P<kernel>[1-9]\d*)(?:/(?P<stride>2))?"
    r"|R(?P<maps>[1-9]\d*)(?:x(?P<blocks>[1-9]\d?))?(?:/(?P<down>2))?"
    r"|AP(?P<pool>[248])|(?P<whole>GAP)|(?P<features>[1-9]\d*)FC"
)
_POOLS = (8, 4, 2)


@dataclass(frozen=True)
class Part:
    """One part of a layout as it is written.

    `kind` is "conv", "residual", "pool" or "fc"; `count` its feature maps or neurons before `width`; `kernel`, `stride` and
    `blocks` are 1 where they have no meaning; `pool` is the side of a pooling's square, 0 for the whole map.
    """

    text: str
    kind: str
    count: int = 0
    kernel: int = 1
    stride: int = 1
    blocks: int = 1
    pool: int = 1


@dataclass(frozen=True)
class Shortcut:
    """A second way into a layer's neurons, from the spikes after the pooling of the earlier layer `source`.

    The spikes themselves where `weight` is None, else what a convolution of `weight` (out, in, 1, 1) with `stride` makes
    of them.
    """

    source: str
    weight: tuple[int, ...] | None = None
    stride: int = 1


@dataclass(frozen=True)
class LayerShape:
    """One layer of neurons with its weights, and the pooling that follows it.

    `weight` is (out, in, kernel, kernel) for a convolution and (out, in) for a fully connected layer. `out` is the shape
    of one sample at one timestep after the neurons and before `pool`: (C, H, W) or (features,).
    """

    name: str
    kind: str  # "conv", "fc" or "readout"
    weight: tuple[int, ...]
    out: tuple[int, ...]
    pool: int = 1
    stride: int = 1
    shortcut: Shortcut | None = None

    @property
    def branches(self) -> dict[str, tuple[int, ...]]:
        """The weights that lead into its neurons by name: its own, and those of a shortcut that has any."""
        named = {self.name: self.weight}
        if self.shortcut is not None and self.shortcut.weight is not None:
            named[f"{self.name}.shortcut"] = self.shortcut.weight
        return named

    @property
    def pooled(self) -> tuple[int, ...]:
        """The shape after the pooling, which drops a remainder as PyTorch's AvgPool2d does."""
        return self.out if self.pool == 1 else (self.out[0], *(size // self.pool for size in self.out[1:]))


def notation(layout: str) -> str:
    """The layout spelled out: a name such as `cifarnet` replaced by what it stands for."""
    return NAMED_LAYOUTS.get(layout, layout)


def strided(size: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """Height and width after a convolution with `stride` whose padding is half its kernel."""
    return tuple((side - 1) // stride + 1 for side in size)


@cache  # a ledger's lines say the same few again and again
def read_layout(layout: str) -> tuple[Part, ...]:
    """The parts of `layout`, in an order that makes sense for inputs of some size.

    Raises ValueError, in words fit for the user, for one that cannot be read or whose parts cannot follow each other.
    """
    parts: list[Part] = []
    for text in (part.strip() for part in notation(layout).split("-")):
        match = _PART.fullmatch(text)
        if match is None:
            raise ValueError(
                f"cannot read {text!r} in layout {layout!r}; a part is 128C3 (convolution), 128C3/2 (with stride 2), "
                f"R128x2 or R128x2/2 (two residual blocks), AP2, AP4, AP8 or GAP (average pooling) or 512FC (fully "
                f"connected), joined by '-', or the layout is one of the names: {', '.join(NAMED_LAYOUTS)}"
            )
        part, before = _part(text, match), parts[-1].kind if parts else ""
        if part.kind == "pool" and before not in ("conv", "residual"):
            raise ValueError(f"{text} in layout {layout!r} must directly follow a convolution or residual blocks")
        if part.kind in ("conv", "residual") and any(earlier.kind == "fc" for earlier in parts):
            raise ValueError(f"{text} in layout {layout!r} comes after a fully connected layer")
        if part.kind == "residual" and not parts:
            raise ValueError(
                f"{text} in layout {layout!r} comes first; residual blocks add spikes, so begin with a convolution"
            )
        if part.kernel % 2 == 0:
            raise ValueError(f"{text} in layout {layout!r} has an even kernel; use an odd one")
        parts.append(part)
    return tuple(parts)


def _part(text: str, match: re.Match[str]) -> Part:
    if match["channels"]:
        return Part(text, "conv", int(match["channels"]), int(match["kernel"]), int(match["stride"] or 1))
    if match["maps"]:
        return Part(text, "residual", int(match["maps"]), 3, int(match["down"] or 1), int(match["blocks"] or 1))
    if match["features"]:
        return Part(text, "fc", int(match["features"]))
    return Part(text, "pool", pool=int(match["pool"] or 0))


def hidden_layers(layout: str) -> int:
    """How many layers of `layout` lie between the first and the readout: those that compression acts on."""
    return sum({"pool": 0, "residual": 2 * part.blocks}.get(part.kind, 1) for part in read_layout(layout)) - 1


@cache  # a plan of many runs asks for the same few again and again
def layer_shapes(
    layout: str, *, width: float, channels: int, size: tuple[int, int], classes: int
) -> tuple[LayerShape, ...]:
    """Every layer with weights, first to readout, of `layout` on inputs of (channels, *size).

    `width` multiplies the number of feature maps and neurons of every hidden layer, rounded, at least 1. Convolutions
    are padded by kernel // 2 on each side, so kernels must be odd; without a stride they keep the spatial size.

    Raises ValueError, in words fit for the user, for a layout that cannot be read or does not fit the input.
    """
    shapes: list[LayerShape] = []
    shape: tuple[int, ...] = (channels, *size)
    for part in read_layout(layout):
        if part.kind == "pool":
            shapes[-1] = replace(shapes[-1], pool=_pool(part, layout, shapes[-1].out, size))
        else:
            for added in _layers(part, shapes, shape, max(1, round(part.count * width))):
                shapes.append(added)
        shape = shapes[-1].pooled
    shapes.append(LayerShape("readout", "readout", (classes, prod(shape)), (classes,)))
    return tuple(shapes)


def _layers(part: Part, before: Sequence[LayerShape], shape: tuple[int, ...], count: int) -> Iterator[LayerShape]:
    """The layers of a part that is no pooling, of `count` maps or neurons, after `before`, whose output is `shape`."""
    number = 1 + sum(layer.kind == ("fc" if part.kind == "fc" else "conv") for layer in before)
    if part.kind == "fc":
        yield LayerShape(f"fc{number}", "fc", (count, prod(shape)), (count,))
        return
    if part.kind == "conv":
        yield _conv(number, shape, count, kernel=part.kernel, stride=part.stride)
        return
    source = before[-1].name
    for block in range(part.blocks):
        stride = part.stride if block == 0 else 1
        first = _conv(number, shape, count, kernel=part.kernel, stride=stride)
        second = _conv(number + 1, first.out, count, kernel=part.kernel)
        shortcut = Shortcut(source)
        if shape != second.out:
            shortcut = Shortcut(source, (count, shape[0], 1, 1), stride)
        second = replace(second, shortcut=shortcut)
        yield from (first, second)
        number, shape, source = number + 2, second.out, second.name


def _conv(number: int, shape: tuple[int, ...], count: int, *, kernel: int, stride: int = 1) -> LayerShape:
    weight, out = (count, shape[0], kernel, kernel), (count, *strided(shape[1:], stride))
    return LayerShape(f"conv{number}", "conv", weight, out, stride=stride)


def _pool(part: Part, layout: str, out: tuple[int, ...], size: tuple[int, int]) -> int:
    """The side of the squares that a pooling after maps of `out` takes the mean over."""
    height, width = out[1:]
    if part.pool == 0:
        if height != width or height not in (1, *_POOLS):
            raise ValueError(
                f"{part.text} in layout {layout!r} takes maps of 2x2, 4x4 or 8x8 together, and here they are {height}x{width}; "
                f"spell the layout out with AP2, AP4 or AP8 in its place (it stands for {notation(layout)}), or choose another "
                f"size of input"
            )
        return height
    if part.pool > min(height, width):
        raise ValueError(
            f"{part.text} in layout {layout!r} pools {height}x{width} away; "
            f"the input of {size[0]}x{size[1]} is too small for so many pooling layers"
        )
    return part.pool
