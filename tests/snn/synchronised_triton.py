"""Run by test_triton.py in two processes: the operator over both their samples against the operator over all in one.

With TRITON_INTERPRET=1, in Triton's interpreter on the CPU. The process's number is the only argument.
"""

from __future__ import annotations

import copy
import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.synchronised import SynchronisedBatchNorm
from tnacli.snn.triton_lif import Branch, Layer, lif_pool
from tnacli.training.distributed import ranks

NEURON = Neuron(decay=0.7, threshold=0.6)
SAMPLES, WORLD = 5, 2  # so that one has more than the other


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    return norm


def passed(inputs: list[Tensor], norms: list[nn.BatchNorm2d | None], samples: int, outward: Tensor) -> list[Tensor]:
    """Spikes, and the gradients of inputs and of the norms' parameters."""
    given = [x.contiguous(memory_format=torch.channels_last).requires_grad_() for x in inputs]
    branches: list[Branch] = list(zip(given, norms, strict=True))
    spikes = lif_pool(branches, Layer(NEURON, 3, samples, pool=2))
    parameters = [p for norm in norms if norm is not None for p in norm.parameters()]
    return [spikes.detach(), *torch.autograd.grad(spikes, [*given, *parameters], outward)]


def compare(rank: int, normed: tuple[bool, ...], dtype: torch.dtype, repeated: bool) -> None:
    torch.manual_seed(0)
    rows = SAMPLES * (1 if repeated else 3)
    inputs = [torch.randn(rows, 4, 4, 4).to(dtype) * (1 + 3 * torch.rand(rows, 1, 1, 1)).to(dtype) for _ in normed]
    norms = [norm_of(4) if one else None for one in normed]
    outward = torch.randn(3, SAMPLES, 4, 2, 2).to(dtype)
    alone = copy.deepcopy(norms)
    whole = passed([x.clone() for x in inputs], list(alone), SAMPLES, outward)

    def share(x: Tensor) -> Tensor:  # of [T * N or N, ...]
        return x.unflatten(0, (-1, SAMPLES))[:, rank::WORLD].flatten(0, 1)

    mine = [None if norm is None else SynchronisedBatchNorm.instead_of(norm) for norm in norms]
    own = passed([share(x) for x in inputs], list(mine), len(range(rank, SAMPLES, WORLD)), outward[:, rank::WORLD])
    assert 0.05 < float(whole[0].float().mean()) < 0.95
    assert torch.equal(own[0], whole[0][:, rank::WORLD])
    unit = 1e-5 if dtype == torch.float32 else 2**-7
    for found, expected in zip(own[1 : 1 + len(inputs)], whole[1:], strict=False):
        torch.testing.assert_close(found, share(expected), rtol=unit, atol=unit * float(expected.abs().max()))
    for found, expected in zip(own[1 + len(inputs) :], whole[1 + len(inputs) :], strict=True):
        dist.all_reduce(found)  # as DistributedDataParallel adds them up
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    for norm, other in zip(mine, alone, strict=True):
        if norm is not None and other is not None:
            for found, expected in zip(norm.buffers(), other.buffers(), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


if __name__ == "__main__":
    number = int(sys.argv[1])
    ranks()  # and left at the end in the order in which gloo's threads end before the interpreter
    for normed in ((True,), (True, True), (True, False), (False, True)):
        for dtype in (torch.float32, torch.bfloat16):
            # Inputs are the same at every timestep in the first layer alone, which has no shortcut.
            for repeated in (False, True) if normed == (True,) else (False,):
                compare(number, normed, dtype, repeated)
    print("equal")
