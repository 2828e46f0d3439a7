"""Times of the three Triton kernels for the layers of full-size CIFARNet: `python -m benchmarks.operator` on a CUDA device.

In bf16, batch 256, T = 5. Bytes moved are each tensor once: what comes, what goes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.triton_lif import Layer

BATCH, TIMESTEPS = 256, 5
LAYERS = {
    "conv1": ((BATCH, 128, 32, 32), 1),
    "conv2": ((BATCH * TIMESTEPS, 256, 32, 32), 2),
    "conv3": ((BATCH * TIMESTEPS, 512, 16, 16), 2),
    "conv4": ((BATCH * TIMESTEPS, 1024, 8, 8), 1),
}
"""The shape of a layer's summed input, and the pooling after it."""


def milliseconds(run: Callable[[], object], rounds: int = 10) -> float:
    """The median time of `run` on the device, after three turns that compile and warm up."""
    for _ in range(3):
        run()
    times = []
    for _ in range(rounds):
        began, ended = (torch.Event("cuda", enable_timing=True) for _ in range(2))
        began.record()
        run()
        ended.record()
        ended.synchronize()
        times.append(float(began.elapsed_time(ended)))
    return statistics.median(times)


def kernels(shape: tuple[int, ...], pool: int) -> dict[str, tuple[Callable[[], object], int]]:
    """The three operators on random sums of `shape`, and the bytes that each moves."""
    from tnacli.snn.triton_operators import lif_forward, lif_gradient, lif_sums

    layer = Layer(Neuron(), TIMESTEPS, BATCH, pool)
    x = torch.randn(shape, device="cuda", dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    branches = [x, torch.rand(4, shape[1], device="cuda")]
    given = (branches, layer.counts, layer.factors)
    spikes: Tensor = lif_forward(*given)
    outward, means = torch.randn_like(spikes), torch.rand(3, shape[1], device="cuda")
    return {
        "forward": (lambda: lif_forward(*given), x.nbytes + spikes.nbytes),
        "sums": (lambda: lif_sums(outward, *given), x.nbytes + outward.nbytes),
        "gradient": (lambda: lif_gradient(outward, branches, means, *given[1:]), 2 * x.nbytes + outward.nbytes),
    }


def main() -> None:
    print(torch.cuda.get_device_name())
    for name, (shape, pool) in LAYERS.items():
        cells = []
        for kernel, (run, moved) in kernels(shape, pool).items():
            took = milliseconds(run)
            cells.append(f"{kernel} {took:.3f} ms, {moved / took / 1e9:.1f} TB/s")
        print(f"{name}: {'; '.join(cells)}")


if __name__ == "__main__":
    main()
