"""The edges of the neuron's comparisons, on every path that computes them: at the threshold, and at the ends of the window.

All numbers are exact in binary, and so are their sums: a potential that should be at an edge is at it, and one that should
be beside it is A_LITTLE away.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.fused import Constants, lif_pool, norm_lif_pool, scaled_lif
from tnacli.snn.lif import LIF, lif_fused, lif_over_time, lif_reference
from tnacli.snn.native import native
from tnacli.snn.regions import _region, _Shape

NEURON = Neuron(decay=0.5, threshold=1.0, surrogate_height=0.5, surrogate_window=0.5)
Path = Callable[[Tensor, int, Neuron], Tensor]
"""Spikes [T, N, C] of currents [T, N, C]."""


def compiled(current: Tensor, timesteps: int, neuron: Neuron) -> Tensor:
    return lif_pool(current.flatten(0, 1), Constants(neuron, timesteps, 1, 0.0), current.shape[1])


def region(current: Tensor, timesteps: int, neuron: Neuron) -> Tensor:
    """What torch.compile is given."""
    flat = current.flatten(0, 1)
    spikes = _region(_Shape(current.shape[1], neuron, timesteps, 1, (), (None,)))([(flat,)])
    return spikes.unflatten(0, (timesteps, -1))


def evaluated(current: Tensor, timesteps: int, neuron: Neuron) -> Tensor:
    ones = torch.ones(current.shape[2])
    return scaled_lif(current, ones, torch.zeros_like(ones), neuron=neuron, timesteps=timesteps)


def evaluated_plainly(current: Tensor, timesteps: int, neuron: Neuron) -> Tensor:
    ones = torch.ones(current.shape[2])
    with torch.enable_grad():  # where a gradient may be asked for, the kernel is not taken
        return LIF(neuron, timesteps)(current, ones, torch.zeros_like(ones))


needs_kernels = pytest.mark.skipif(native().library is None, reason=native().reason)
PLAIN = [lif_reference, lif_fused, region]
TRAINING = [*PLAIN, pytest.param(compiled, marks=needs_kernels)]
ALL = [*TRAINING, evaluated_plainly, pytest.param(evaluated, marks=needs_kernels)]


A_LITTLE = 2**-20
AT_THE_THRESHOLD = [(1.0, 1), (1.0 - A_LITTLE, 0), (1.0 + A_LITTLE, 1)]
AT_THE_WINDOW = [
    (0.5, True), (0.5 - A_LITTLE, False), (0.5 + A_LITTLE, True),
    (1.5, True), (1.5 + A_LITTLE, False), (1.5 - A_LITTLE, True), (1.0, True),
]  # fmt: skip


def channels(values: list[float]) -> Tensor:
    """Currents [1, 1, C], in so many channels that whole vectors and what is left of them are worked on."""
    return torch.tensor(values).repeat(13).view(1, 1, -1)


@pytest.mark.parametrize("path", ALL)
def test_a_potential_at_the_threshold_spikes(path: Path) -> None:
    values, spikes = zip(*AT_THE_THRESHOLD, strict=True)
    found = path(channels(list(values)), 1, NEURON)
    assert found.flatten().tolist() == list(spikes) * 13


@pytest.mark.parametrize("path", TRAINING)
@pytest.mark.parametrize("steps", [1, 5])
def test_the_ends_of_the_window_are_inside(path: Path, steps: int) -> None:
    """The gradient of Eq. 4 is 0.5 where |u - threshold| <= 0.5; at each of the timesteps, which share bytes in the kernel."""
    values, inside = zip(*AT_THE_WINDOW, strict=True)
    current = channels(list(values)).expand(steps, -1, -1).contiguous().requires_grad_()
    neuron = NEURON.model_copy(update={"decay": 0.0})  # each step by itself
    path(current, steps, neuron).sum().backward()
    assert current.grad is not None
    assert (current.grad.view(steps, -1) == torch.tensor([0.5 * one for one in inside] * 13)).all()


@pytest.mark.parametrize("path", TRAINING)
@pytest.mark.parametrize(("threshold", "window", "height"), [(0.75, 0.25, 1.0), (2.0, 2.0, 0.25)])
def test_a_window_and_height_of_ones_own(path: Path, threshold: float, window: float, height: float) -> None:
    neuron = Neuron(decay=0.5, threshold=threshold, surrogate_window=window, surrogate_height=height)
    ends = [threshold - window, threshold + window]
    values = [*ends, ends[0] - A_LITTLE, ends[1] + A_LITTLE]
    current = channels(values).requires_grad_()
    spikes = path(current, 1, neuron)
    assert spikes.flatten().tolist() == [float(value >= threshold) for value in values] * 13
    (grad,) = torch.autograd.grad(spikes.sum(), current)
    assert grad.flatten().tolist() == [height, height, 0.0, 0.0] * 13


@pytest.mark.parametrize("path", TRAINING)
@pytest.mark.parametrize(("drive", "through"), [(1.0, 0.0), (1.0 - A_LITTLE, 0.25)])
def test_no_gradient_passes_a_spike_at_the_threshold(path: Path, drive: float, through: float) -> None:
    """ds[1]/dI[0] is decay * 0.5 where nothing spiked before, and 0 where the potential was reset."""
    current = torch.tensor([drive, 0.75]).view(2, 1, 1).expand(-1, 3, 37).contiguous().requires_grad_()
    path(current, 2, NEURON)[1].sum().backward()
    assert current.grad is not None
    assert (current.grad[0] == through).all()
    assert (current.grad[1] == 0.5).all()


@pytest.mark.parametrize("path", ALL)
def test_a_potential_that_reaches_the_threshold_in_time_is_reset(path: Path) -> None:
    """u = 0.5, 0.25 + 0.75 = 1 (spike), 0.75 without what was before, 0.375 + 0.625 = 1 (spike)."""
    current = torch.tensor([0.5, 0.75, 0.75, 0.625]).view(4, 1, 1).expand(-1, 2, 37).contiguous()
    assert path(current, 4, NEURON)[:, 0, 0].tolist() == [0, 1, 0, 1]
    assert (path(current, 4, NEURON) == torch.tensor([0, 1, 0, 1]).view(4, 1, 1)).all()


@pytest.mark.parametrize("path", ALL)
def test_nothing_is_left_of_a_potential_above_the_threshold(path: Path) -> None:
    """A hard reset: after 1.5, a current of 3/4 alone; if the half above the threshold stayed, it would bring a spike."""
    current = torch.tensor([1.5, 0.75]).view(2, 1, 1).expand(-1, 2, 37).contiguous()
    assert (path(current, 2, NEURON) == torch.tensor([1, 0]).view(2, 1, 1)).all()


@needs_kernels
@pytest.mark.parametrize(
    ("drive", "spikes", "slope"),
    [
        (0.5, 0, 0.5),
        (1.0, 1, 0.5),
        (1.5, 1, 0.5),
        (1 - A_LITTLE, 0, 0.5),
        (0.5 - A_LITTLE, 0, 0.0),
        (1.5 + A_LITTLE, 1, 0.0),
    ],
)
def test_the_edges_behind_a_batch_norm(drive: float, spikes: int, slope: float) -> None:
    """Inputs of 1 and -1, mean 0 and deviation 1, times a weight of `drive`; the bias receives the surrogate's slope."""
    norm = nn.BatchNorm1d(37, eps=0.0)
    with torch.no_grad():
        norm.weight.fill_(drive)
    both = torch.ones(2, 37)
    both[1] = -1
    found = norm_lif_pool(both, norm, Constants(NEURON, 1, 1, 0.0), 2)[0]
    assert (found[0] == spikes).all()
    assert (found[1] == 0).all()
    (grad,) = torch.autograd.grad(found.sum(), norm.bias)
    assert (grad == slope).all()


@needs_kernels
@pytest.mark.parametrize("repeated", [False, True])
def test_bf16_has_the_same_edges(repeated: bool) -> None:
    """Numbers that bf16 holds exactly: 1 - 2^-8 and 1.5 + 2^-7 are its neighbours of 1 and 1.5."""
    values = [1.0, 1 - 2**-8, 0.5, 0.5 - 2**-9, 1.5, 1.5 + 2**-7]
    current = channels(values).bfloat16()
    current = (current if repeated else current.expand(3, -1, -1).contiguous()).requires_grad_()
    neuron = NEURON.model_copy(update={"decay": 0.0})
    spikes = lif_pool(current.flatten(0, 1), Constants(neuron, 3, 1, 0.0), 1)
    assert (spikes.float().view(3, -1) == torch.tensor([1.0, 0, 0, 0, 1, 1] * 13)).all()
    (grad,) = torch.autograd.grad(spikes.sum(), current)
    times = 3 if repeated else 1
    assert (grad.float().flatten(0, 1) == times * torch.tensor([0.5, 0.5, 0.5, 0, 0.5, 0] * 13)).all()


def test_the_reference_is_the_equation_step_by_step() -> None:
    """What every other path is compared with, at the edges of this file."""
    current = torch.tensor([0.5, 0.75, 0.75, 0.625, 0.0]).view(5, 1)
    potential, spikes = 0.0, list[float]()
    for drive in current.flatten().tolist():
        potential = 0.5 * potential * (1 - (spikes[-1] if spikes else 0)) + drive
        spikes.append(int(potential >= 1.0))
    assert [int(spike) for spike in torch.stack(lif_over_time(current, 5, NEURON)).flatten()] == spikes
