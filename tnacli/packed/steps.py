"""What a packed network computes, as one ordered list of steps: the input, the layers of neurons, the readout.

Which values a step takes, their shapes, pooling and shortcuts are resolved here and nowhere else; the engine, the trace,
the activity and the exports walk these steps. A step is a layer of the file with all that its neurons receive, since that
is what a kernel computes at once. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, NamedTuple

from tnacli.packed.spec import EXACT_POOLS, ConvolutionSpec, InputSpec, LayerSpec, MaxPoolSpec, NeuronSpec, ReadoutSpec

Shape = tuple[int, ...]
"""Of one sample at one timestep: (C, H, W), or (features,)."""


@dataclass(frozen=True, eq=False)
class Input:
    """Pixels, normalised by `spec.mean` and `spec.std`, or numbers of events, in `frames` frames of the shape `out`.

    One frame is an image, which is the same at every timestep.
    """

    name: ClassVar[str] = "input"
    spec: InputSpec
    frames: int

    @property
    def out(self) -> Shape:
        return (self.spec.channels, *self.spec.size)

    @property
    def counts_to(self) -> int:
        """Inputs are taken as they are."""
        return 1

    @property
    def divisor(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class Current:
    """What the values that leave `source` drive a layer's neurons with.

    `spec` describes the weights called `name` that they meet; None where they are a current as they are.
    """

    name: str
    source: Input | LIFLayer
    spec: LayerSpec | ConvolutionSpec | None

    @property
    def is_conv(self) -> bool:
        return self.spec is not None and len(self.spec.weight) == 4

    @property
    def flattens(self) -> bool:
        """Whether maps (C, H, W) become features first, in this order."""
        return self.spec is not None and not self.is_conv and len(self.source.out) == 3


MOST_SPIKES = 127
"""How many spikes of one timestep a value that leaves a layer counts at most."""


class Squares(NamedTuple):
    """Pooling over `size` x `size` places, one every `stride`, of a map with `padding` places around that count for nothing."""

    size: int
    stride: int
    padding: int

    def along(self, side: int) -> int:
        """How many squares there are along `side` places."""
        return max(0, (side + 2 * self.padding - self.size) // self.stride + 1)


@dataclass(frozen=True, eq=False)
class LIFLayer:
    """LIF neurons (Eq. 1), driven by the sum of `currents`, and average pooling over `pool` x `pool`, or maximum pooling.

    The first current is that of the layer's own weights, a second one that of its shortcut; each is of the shape `driven`.
    What leaves the layer `added` is added to the neurons' spikes, before they are pooled.
    """

    name: str
    neuron: NeuronSpec
    currents: tuple[Current, ...]
    driven: Shape
    pool: int
    max_pool: MaxPoolSpec | None
    added: LIFLayer | None = None

    @property
    def shortcut(self) -> Current | None:
        return self.currents[1] if len(self.currents) > 1 else None

    @property
    def max_of(self) -> str | None:
        """What maximum pooling is of, "spikes" or "currents"; None if there is none."""
        return None if self.max_pool is None else self.max_pool.of

    @property
    def squares(self) -> Squares:
        """What is pooled."""
        if self.max_pool is None:
            return Squares(self.pool, self.pool, 0)
        return Squares(self.max_pool.size, self.max_pool.stride, self.max_pool.padding)

    @property
    def neurons(self) -> Shape:
        """The shape of the neurons: that of the currents, unless those are pooled first."""
        return self.out if self.max_of == "currents" else self.driven

    @property
    def out(self) -> Shape:
        """The shape after pooling, which drops rows and columns that fill no square."""
        return (self.driven[0], *map(self.squares.along, self.driven[1:]))

    @property
    def divisor(self) -> int:
        """How many neurons each value that leaves the layer is the mean of: it is a count of spikes, divided by this."""
        return self.pool**2 if self.max_pool is None else 1

    @property
    def counts_to(self) -> int:
        """The largest of these counts."""
        others = 0 if self.added is None else self.added.counts_to
        return self.divisor * (self.neuron.most_spikes + others)


@dataclass(frozen=True, eq=False)
class Readout:
    """Potentials with `leak` that never spike, summed over time; what leaves `source` is flattened first."""

    source: LIFLayer
    leak: float


@dataclass(frozen=True, eq=False)
class Steps:
    """A network's steps in the order in which they are computed."""

    input: Input
    layers: tuple[LIFLayer, ...]
    readout: Readout

    @property
    def weights(self) -> dict[str, LayerSpec | ConvolutionSpec]:
        """What describes each of the weights but the readout's, by their names, a shortcut's after its layer's own."""
        currents = (current for layer in self.layers for current in layer.currents)
        return {current.name: current.spec for current in currents if current.spec is not None}

    @property
    def has_shortcuts(self) -> bool:
        return any(layer.shortcut is not None for layer in self.layers)

    @property
    def has_sums(self) -> bool:
        """Whether spikes of one layer are added to those of another."""
        return any(layer.added is not None for layer in self.layers)

    @property
    def read_later(self) -> set[Input | LIFLayer]:
        """What is taken otherwise than by the weights of the next layer, before them or after them."""
        before = zip(self.layers, (self.input, *self.layers), strict=False)
        own = {layer.currents[0].source for layer, last in before if layer.currents[0].source is not last}
        shortcuts = {layer.shortcut.source for layer in self.layers if layer.shortcut is not None}
        return own | shortcuts | {layer.added for layer in self.layers if layer.added is not None}

    @property
    def has_maxima(self) -> bool:
        return any(layer.max_pool is not None for layer in self.layers)

    @property
    def has_soft_resets(self) -> bool:
        """Whether some neurons keep something after a spike, or no less than a lowest potential."""
        return any(layer.neuron.subtract is not None or layer.neuron.lowest is not None for layer in self.layers)

    @property
    def neurons_differ(self) -> bool:
        """Whether layers have neurons with other constants than the first."""
        return any(layer.neuron != self.layers[0].neuron for layer in self.layers)


def resolve(
    inputs: InputSpec, neuron: NeuronSpec, layers: Sequence[LayerSpec], readout: ReadoutSpec, *, timesteps: int
) -> Steps:
    """The steps of a network whose layers have the constants `neuron` or their own.

    Raises ValueError where a layer does not fit what it takes.
    """
    first = Input(inputs, 1 if inputs.kind == "images" else timesteps)
    before: Input | LIFLayer = first
    resolved: dict[str, LIFLayer] = {}
    for spec in layers:
        if (spec.encoding == "fp32") != (not resolved):
            raise ValueError(f"layer {spec.name}: the first layer is fp32, the others are ternary")
        if spec.binary and spec.encoding == "fp32":
            raise ValueError(f"layer {spec.name}: fp32 weights are not binary")
        source = before if spec.source is None else _earlier(f"layer {spec.name}", spec.source, resolved)
        currents, driven = [Current(spec.name, source, spec)], _driven(spec, source.out)
        if spec.shortcut is not None:
            currents.append(_shortcut(spec, resolved, driven))
        own = spec.neuron or neuron
        before = resolved[spec.name] = LIFLayer(
            spec.name, own, tuple(currents), driven, spec.pool, spec.max_pool, _added(spec, resolved, driven)
        )  # fmt: skip
        if not all(before.out):
            height, width = driven[1:]
            raise ValueError(f"layer {spec.name}: pool {before.squares.size} leaves nothing of {height}x{width}")
        if spec.pool not in EXACT_POOLS and spec is not layers[-1]:
            raise ValueError(
                f"layer {spec.name}: a pool of {spec.pool} is of the last layer alone; the others have {EXACT_POOLS}"
            )
        if before.counts_to > MOST_SPIKES:
            raise ValueError(f"layer {spec.name}: {before.counts_to} spikes in a square are more than {MOST_SPIKES}")
        if before.max_of == "spikes" and own.most_spikes > 1:
            raise ValueError(f"layer {spec.name}: maximum pooling is of spikes, one in a timestep, or of currents")
    assert isinstance(before, LIFLayer)
    steps = Steps(first, tuple(resolved.values()), Readout(before, readout.leak))
    taken = {current.source for layer in steps.layers for current in layer.currents} | steps.read_later | {before}
    if idle := [layer.name for layer in steps.layers if layer not in taken]:
        raise ValueError(f"layer {idle[0]}: nothing takes its spikes")
    return steps


def _driven(spec: LayerSpec, shape: Shape) -> Shape:
    """The shape of a layer's currents on values of `shape`. Raises ValueError if the two do not fit."""
    if spec.max_pool is not None and spec.pool != 1:
        raise ValueError(f"layer {spec.name}: it pools by averages and by maxima; it is one of them")
    if spec.kind == "conv":
        return _convolved(f"layer {spec.name}", spec, shape)
    if len(spec.weight) != 2 or spec.weight[1] != prod(shape):
        raise ValueError(f"layer {spec.name}: weight {spec.weight} does not fit inputs of {shape}")
    if spec.pool != 1 or spec.max_pool is not None:
        raise ValueError(f"layer {spec.name}: fully connected neurons are not pooled")
    if spec.stride != 1:
        raise ValueError(f"layer {spec.name}: fully connected neurons have no stride")
    if spec.padding is not None or spec.groups != 1:
        raise ValueError(f"layer {spec.name}: fully connected neurons have no padding and no groups")
    if spec.source is not None or spec.added is not None:
        raise ValueError(f"layer {spec.name}: fully connected neurons take the spikes before them, and add no others")
    return (spec.weight[0],)


def _earlier(what: str, name: str, before: dict[str, LIFLayer]) -> LIFLayer:
    if name not in before:
        raise ValueError(f"{what}: there is no layer {name} before it")
    return before[name]


def _added(spec: LayerSpec, before: dict[str, LIFLayer], driven: Shape) -> LIFLayer | None:
    """The layer whose spikes are added. Raises ValueError unless they are whole numbers, one for each neuron."""
    if spec.added is None:
        return None
    other = _earlier(f"layer {spec.name}, added", spec.added, before)
    if other.out != driven or other.divisor != 1 or spec.max_pool is not None:
        raise ValueError(
            f"layer {spec.name}, added: spikes of {spec.added}, {other.out} over {other.divisor}, are no numbers of spikes for "
            f"each of {driven} neurons without maximum pooling"
        )
    return other


def _convolved(what: str, spec: LayerSpec | ConvolutionSpec, shape: Shape) -> Shape:
    weight, stride, groups, around = spec.weight, spec.stride, spec.groups, spec.around
    if len(weight) != 4 or len(shape) != 3 or weight[1] * groups != shape[0]:
        among = "" if groups == 1 else f" in {groups} groups"
        raise ValueError(f"{what}: weight {weight}{among} does not fit inputs of {shape}")
    if weight[2] != weight[3] or weight[2] % 2 == 0:
        raise ValueError(f"{what}: a kernel of {weight[2]}x{weight[3]}, not square and odd")
    if weight[0] % groups:
        raise ValueError(f"{what}: {weight[0]} outputs are no {groups} equal groups")
    if around >= weight[2] or min(shape[1:]) + 2 * around < weight[2]:
        raise ValueError(f"{what}: a padding of {around} does not fit a kernel of {weight[2]} on {shape[1]}x{shape[2]}")
    return weight[0], *((side + 2 * around - weight[2]) // stride + 1 for side in shape[1:])


def _shortcut(spec: LayerSpec, before: dict[str, LIFLayer], driven: Shape) -> Current:
    """The current of a layer's shortcut. Raises ValueError unless it has the shape of the layer's own."""
    assert spec.shortcut is not None
    what, convolution = f"layer {spec.name}, shortcut", spec.shortcut.convolution
    source = _earlier(what, spec.shortcut.source, before)
    shape = source.out
    if convolution is not None:
        shape = _convolved(what, convolution, shape)
    if shape != driven or spec.kind != "conv":
        raise ValueError(f"{what}: gives {shape}, which does not fit currents of {driven}")
    return Current(f"{spec.name}.shortcut", source, convolution)
