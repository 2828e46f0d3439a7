"""`python -m benchmarks.sparse`: how many times as fast convolutions over lists of spikes are as dense ones, by density.

CIFARNet's four hidden convolutions, forward and for the gradients of weights and inputs, in turns; medians of ratios of
neighbouring turns. The share is of inputs that are not zero, and for their gradient of those that are wanted. `bounds` of
tnacli.snn.sparse come from this table: where the ratio falls below 1, dense sums are the faster way.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import cache
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.snn import sparse
from tnacli.snn.gated import Gate, gated_gradient
from tnacli.snn.native import LayerArguments

_LAYERS = {"conv2": (128, 256, 32), "conv3": (256, 512, 16), "conv4": (512, 1024, 8), "conv5": (1024, 512, 8)}
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _ratio(dense: Callable[[], object], lists: Callable[[], object], rounds: int) -> float:
    dense(), lists()
    return median(_seconds(dense) / _seconds(lists) for _ in range(rounds))


def _ratios(
    channels: int, out: int, side: int, *, share: float, samples: int, rounds: int, dtype: torch.dtype
) -> list[float]:
    """Of the forward pass and of the gradients of weights and of inputs."""
    x = (torch.rand(samples, channels, side, side) < share).to(dtype, memory_format=torch.channels_last)
    conv = nn.Conv2d(channels, out, 3, padding=1, bias=False, dtype=dtype).to(memory_format=torch.channels_last)
    outward = torch.randn(samples, out, side, side).to(dtype, memory_format=torch.channels_last)

    def summed() -> Tensor:
        summed = sparse.sparse_convolution(x, conv)
        assert summed is not None
        return summed

    kept, dense = summed(), F.conv2d(x, conv.weight, padding=1)

    def gradient(of: Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(of, conv.weight, outward, retain_graph=True)

    with torch.no_grad():
        forward = _ratio(lambda: F.conv2d(x, conv.weight, padding=1), summed, rounds)
    ratios = [forward, _ratio(gradient(dense), gradient(kept), rounds)]
    codes = 2 * (torch.rand(samples, side, side, channels) < share).to(torch.uint8)
    gate = Gate(LayerArguments(1, samples, side, side, channels, 1, 0, 0, 0.5, 1.0, 0.5, 0.5), codes)
    ratios.append(_ratio(lambda: _of_inputs(x, conv, outward), lambda: _gated(x, conv, outward, gate), rounds))
    return ratios


def _of_inputs(x: Tensor, conv: nn.Conv2d, outward: Tensor) -> Tensor:
    sides, wanted = (1, 1), (True, False, False)
    found: Tensor = torch.ops.aten.convolution_backward(
        outward, x, conv.weight, None, sides, sides, sides, False, (0, 0), 1, wanted
    )[0]
    return found


def _gated(x: Tensor, conv: nn.Conv2d, outward: Tensor, gate: Gate) -> Tensor | None:
    return gated_gradient(x, conv.weight.detach(), outward, gate=gate, below=float("inf"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse", description=__doc__)
    parser.add_argument("--width", type=float, default=0.25, help="of the network (default 0.25)")
    parser.add_argument("--side", type=int, default=32, help="of the images (default 32)")
    parser.add_argument("--samples", type=int, default=320, help="images times timesteps (default 320)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    sparse.bounds = cache(lambda _: sparse.Bounds(float("inf"), float("inf")))  # lists, however dense the inputs are
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    threads = f"{arguments.precision}, {torch.get_num_threads()} threads"
    table = Table(title=f"width {arguments.width:g}, images {arguments.side} wide, {threads}: dense time / lists")
    table.add_column("share not zero", justify="right")
    for name in _LAYERS:
        table.add_column(f"{name} forward", justify="right")
        table.add_column("of weights", justify="right")
        table.add_column("of inputs", justify="right")
    for share in _SHARES:
        row = []
        for channels, out, side in _LAYERS.values():
            narrow = int(channels * arguments.width), int(out * arguments.width)
            row += [
                f"{r:.2f}"
                for r in _ratios(
                    *narrow, side, share=share, samples=arguments.samples, rounds=arguments.rounds, dtype=dtype
                )
            ]
        table.add_row(f"{share:g}", *row)
    Console(width=None if Console().is_terminal else 160).print(table)


if __name__ == "__main__":
    main()
