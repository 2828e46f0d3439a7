"""A recorded run as layers: weights, neurons and pooling in the order of a packed file, and shortcuts between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tnacli.errors import NetworkError
from tnacli.importing.parts import Affine, Leaky, MaxPool, Neurons, Pool, Vote, Weighted
from tnacli.importing.recording import Added, Given, Scaled, Summed, Value
from tnacli.packed.spec import EXACT_POOLS
from tnacli.packed.steps import MOST_SPIKES


@dataclass(frozen=True, eq=False)
class Current:
    """What neurons receive from `source` (neurons, or the sample): `weights * spikes * scale + shift`, both float64 [out].

    Without `weights` the pooled spikes are a current as they are. `where` names the module of the weights.
    """

    source: Value
    weights: Weighted | None
    scale: Tensor
    shift: Tensor
    where: str

    def over(self, unit: float) -> Current:
        """In units of so much."""
        return replace(self, scale=self.scale / unit, shift=self.shift / unit)


@dataclass(frozen=True, eq=False)
class Layer:
    """Neurons that receive `own` and maybe a `shortcut`, or the largest of squares `before` them, and pooling `after` them.

    `skipped` names the layer that the shortcut is from, `source` the one whose spikes the weights meet, None for the one before,
    and `added` the one whose spikes are added to its own.
    """

    name: str
    neurons: Neurons
    own: Current
    shortcut: Current | None
    skipped: str | None
    before: MaxPool | None
    after: Pool | MaxPool
    source: str | None = None
    added: str | None = None


@dataclass(frozen=True, eq=False)
class Readout:
    """Logits are the sums over time of `u = leak * u + weight * spikes + bias`: float64 [classes, features] and [classes]."""

    weight: Tensor
    bias: Tensor
    leak: float


def layers_of(output: Value, samples: int) -> tuple[list[Layer], Readout, int]:
    """The layers and the readout that end in `output`, and the number of timesteps.

    Raises NetworkError that names what no packed file can say.
    """
    walk = _Walk()
    after, value = walk.factors(output)
    if isinstance(value.part, Vote | Neurons):
        return _spikes_as_logits(walk, value, after, samples)
    leak = 0.0  # no potential is kept: currents are summed as they are
    if isinstance(value.part, Leaky):
        leak, after.factor = value.part.leak, after.factor * value.part.gain
        inner, value = walk.factors(value.sources[0])
        after = after.times(inner)
    readout = walk.current(value, _Factors())
    if readout.weights is None or readout.weights.weight.dim() != 2:
        raise NetworkError(f"{value.where} gives the logits; a packed file ends in a linear layer")
    source = readout.source
    before = walk.time.pop(id(source), _Factors())
    walk.visit(source)
    if walk.time:
        raise NetworkError("a sum or mean over time is taken before the last layer")
    hidden = walk.layers()
    steps = source.numel // (samples * math.prod(source.shape))
    driven = walk.counted(value) // (samples * len(readout.scale))
    factor = after.over(steps)
    weight = readout.weights.weight.double() * (readout.scale * factor * before.over(steps))[:, None]
    return hidden, Readout(weight, readout.shift * (factor * driven / steps), leak), steps


def _spikes_as_logits(walk: _Walk, value: Value, after: _Factors, samples: int) -> tuple[list[Layer], Readout, int]:
    """What ends in neurons whose spikes, or the means of groups of them, are the logits: a readout of equal weights."""
    voters = 1
    if isinstance(value.part, Vote):
        voters = value.part.size
        inner, value = walk.factors(value.sources[0])
        after = after.times(inner)
    if not isinstance(value.part, Neurons) or len(value.shape) != 1 or value.shape[0] % voters:
        raise NetworkError(f"{value.where} gives the logits; a packed file ends in a linear layer, or in its neurons")
    walk.pools[id(value)] = Pool(1)
    walk.visit(value)
    hidden, (features,) = walk.layers(), value.shape
    steps, classes = value.numel // (samples * features), features // voters
    weight = torch.eye(classes, dtype=torch.float64).repeat_interleave(voters, 1) * (after.over(steps) / voters)
    return hidden, Readout(weight, torch.zeros(classes, dtype=torch.float64), 0.0), steps


@dataclass
class _Factors:
    """A factor, and how often a mean over timesteps is taken."""

    factor: float = 1.0
    means: int = 0

    def over(self, steps: int) -> float:
        return self.factor / float(steps**self.means)

    def times(self, other: _Factors) -> _Factors:
        return _Factors(self.factor * other.factor, self.means + other.means)


class _Walk:
    """From the output back to the sample."""

    def __init__(self) -> None:
        self.pools: dict[int, Pool | MaxPool] = {}
        self.time: dict[int, _Factors] = {}
        self.currents: dict[int, list[Current]] = {}
        self.before: dict[int, MaxPool] = {}
        self.added: dict[int, Value | None] = {}
        self.found: dict[int, Value] = {}

    def factors(self, value: Value) -> tuple[_Factors, Value]:
        """What factors and means over time are taken of the value that comes back."""
        found = _Factors()
        while isinstance(value.part, Summed | Scaled):
            if isinstance(value.part, Scaled):
                found.factor *= value.part.factor
            else:
                found.means += value.part.mean
            (value,) = value.sources
        return found, value

    def counted(self, value: Value) -> int:
        """How much was seen of the weights that `value` is made of."""
        while not isinstance(value.part, Weighted):
            (value,) = value.sources
        return value.numel

    def current(self, value: Value, factors: _Factors) -> Current:
        """The current that `value` is."""
        scale, shift = torch.tensor(factors.factor, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
        where = value.where
        while isinstance(value.part, Affine | Scaled):
            if isinstance(value.part, Affine):
                scale, shift = scale * value.part.scale, shift + scale * value.part.shift
            else:
                scale = scale * value.part.factor
            (value,) = value.sources
        weights = value.part if isinstance(value.part, Weighted) else None
        if weights is None:
            source, gain = self.spikes(value)
            if scale.numel() != 1 or float(scale) * gain <= 0 or shift.any():
                raise NetworkError(
                    f"{where} shifts spikes that are a current of their own, or scales each map otherwise or below 0; a shortcut "
                    f"adds them as they are"
                )
            return Current(source, None, scale * gain, shift, where)
        source, gain = self.spikes(value.sources[0])
        shift = shift + scale * weights.bias.double()
        return Current(source, weights, (scale * gain).expand_as(shift), shift, value.where)

    def spikes(self, value: Value) -> tuple[Value, float]:
        """The neurons, or the sample, whose pooled spikes `value` is, and a factor on them."""
        gain, size, over_time = 1.0, 1, _Factors()
        maxima: MaxPool | None = None
        while not isinstance(value.part, Neurons | Given):
            if isinstance(value.part, Pool):
                side = value.part.size
                size, gain = size * side, gain * (side**2 if value.part.summed else 1)
            elif isinstance(value.part, MaxPool):
                if maxima is not None or gain <= 0:
                    raise NetworkError(
                        f"{value.where} pools by maxima what is scaled below 0, or pooled by maxima again"
                    )
                maxima = value.part
            elif isinstance(value.part, Scaled):
                gain *= value.part.factor
            elif isinstance(value.part, Summed):
                over_time.means += value.part.mean
                self.time[-1] = over_time
            elif isinstance(value.part, Added):
                break
            else:
                raise NetworkError(f"the output of {value.where} meets no spiking neurons before what comes next")
            (value,) = value.sources
        value, added = self.summed(value) if isinstance(value.part, Added) else (value, None)
        if -1 in self.time:
            self.time[id(value)] = self.time.pop(-1)
        if self.added.setdefault(id(value), added) is not added:
            raise NetworkError(
                f"the spikes of {value.where} are taken with others added in one place and otherwise in another"
            )
        if isinstance(value.part, Given) and (size != 1 or maxima is not None):
            raise NetworkError("the sample is pooled before the first layer; pool it before it is given")
        if maxima is not None and size != 1:
            raise NetworkError(f"the spikes of {value.where} are pooled by maxima and by averages; it is one of them")
        pooling = maxima or Pool(size)
        if self.pools.setdefault(id(value), pooling) != pooling:
            raise NetworkError(f"the spikes of {value.where} are taken pooled in one place and otherwise in another")
        return value, gain

    def summed(self, value: Value) -> tuple[Value, Value]:
        """The last of the neurons whose spikes are added up, and those whose spikes are added to theirs."""
        own = max(
            (one for one in value.sources if isinstance(one.part, Neurons)), key=lambda one: one.number, default=None
        )
        others = [one for one in value.sources if one is not own]
        if own is None or len(others) != 1:
            raise NetworkError(
                f"{value.where} adds {len(value.sources)} values, neither spikes to spikes nor currents to currents before "
                f"neurons; a packed layer adds to its own spikes those that leave an earlier one, and neurons receive the "
                f"current of one layer's weights and that of one shortcut"
            )
        added, gain = self.spikes(others[0])
        pooling = self.pools[id(added)]
        averaged = isinstance(pooling, Pool) and pooling.size > 1
        if gain != 1 or averaged or isinstance(added.part, Given) or added.number > own.number:
            raise NetworkError(
                f"{value.where} adds to spikes what is no number of earlier neurons' spikes: scaled ones, means or the sample"
            )
        return own, added

    def visit(self, neurons: Value) -> None:
        """Find all that `neurons` receive."""
        if isinstance(neurons.part, Given) or id(neurons) in self.currents:
            return
        assert isinstance(neurons.part, Neurons)
        self.found[id(neurons)] = neurons
        factors, value = self.factors(neurons.sources[0])
        factors.factor *= neurons.part.gain
        if factors.means:
            raise NetworkError(f"{neurons.where} receives a mean over time")
        if isinstance(value.part, MaxPool):
            if factors.factor <= 0:
                raise NetworkError(f"{value.where} pools by maxima what is scaled below 0 afterwards")
            self.before[id(neurons)] = value.part
            inner, value = self.factors(value.sources[0])
            factors = factors.times(inner)
        parts = value.sources if isinstance(value.part, Added) else (value,)
        self.currents[id(neurons)] = [self.current(part, factors) for part in parts]
        for current in self.currents[id(neurons)]:
            self.visit(current.source)
        added = self.added.get(id(neurons))
        if added is not None:
            self.visit(added)

    def layers(self) -> list[Layer]:
        """All layers in the order in which their neurons were first seen."""
        made: list[Layer] = []
        names: dict[int, str] = {}
        before: Value | None = None
        ordered = sorted(self.found.values(), key=lambda value: value.number)
        for value in ordered:
            assert isinstance(value.part, Neurons)
            _require_squares(value, self.pools[id(value)], last=value is ordered[-1])
            own, shortcut = _own_first(value, self.currents[id(value)], before)
            added = self.added.get(id(value))
            assert own.weights is not None
            kind = "conv" if own.weights.weight.dim() == 4 else "fc"
            names[id(value)] = f"{kind}{1 + sum(name.startswith(kind) for name in names.values())}"
            neurons = value.part
            if shortcut is not None and shortcut.weights is None:
                # Spikes are a current as they are: potentials are counted in what one of them adds.
                unit = 1.0 if math.isclose(shortcut.scale, 1, rel_tol=1e-6) else float(shortcut.scale)
                neurons, own, shortcut = neurons.over(unit), own.over(unit), shortcut.over(unit)
            made.append(
                Layer(
                    name=names[id(value)],
                    neurons=neurons,
                    own=own,
                    shortcut=shortcut,
                    skipped=None if shortcut is None else names.get(id(shortcut.source), "the sample"),
                    before=self.before.get(id(value)),
                    after=self.pools[id(value)],
                    source=None if before is None or own.source is before else names[id(own.source)],
                    added=None if added is None else names[id(added)],
                )
            )
            before = value
        if not made:
            raise NetworkError("there are no spiking neurons")
        return made


def _require_squares(value: Value, pooling: Pool | MaxPool, *, last: bool) -> None:
    size = pooling.size if isinstance(pooling, Pool) else 1
    if size not in EXACT_POOLS and not (last and size**2 <= MOST_SPIKES):
        raise NetworkError(
            f"what follows {value.where} pools {size}x{size}; packed files pool by 2, 4 or 8, before the last layer by up to 11"
        )


def _own_first(value: Value, currents: list[Current], before: Value | None) -> tuple[Current, Current | None]:
    """The current with weights that meet the spikes of the last neurons, those before if it can be, and another one."""
    weighted = [c for c in currents if c.weights is not None and (before is None or isinstance(c.source.part, Neurons))]
    own = max(weighted, key=lambda current: current.source.number, default=None)
    others = [current for current in currents if current is not own]
    if own is None or len(others) > 1:
        raise NetworkError(
            f"{value.where} receives {len(currents)} currents of which {'none has' if own is None else 'one has'} weights that "
            f"meet spikes; a packed layer has one of them, and one shortcut"
        )
    return own, others[0] if others else None


def threshold(neurons: Neurons) -> float:
    """The least potential in fp32 that makes a spike."""
    exact = np.float32(neurons.threshold)
    return float(np.nextafter(exact, np.float32(np.inf)) if neurons.strict else exact)
