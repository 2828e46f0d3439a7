"""Several networks on one batch: one after the other, or side by side on a CPU, each in a thread with its share of the cores.

Threads that share one network wait for each other at the end of every operation. Threads with a network each meet twice a step:
before the losses, and when the backward pass is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from tnacli.snn.network import SpikingNetwork

Computed = Callable[[nn.Module], Tensor]
"""What is computed of one network."""

OutputsOf = Callable[[Mapping[str, nn.Module], Computed, int], dict[str, Tensor]]
"""What is computed of each network, by name, on a batch of so many samples: `in_turn` or a `SideBySide`."""


def in_turn(networks: Mapping[str, nn.Module], computed: Computed, samples: int) -> dict[str, Tensor]:
    """What is `computed` of each network on a batch of `samples`, one after the other."""
    return {name: computed(network) for name, network in networks.items()}


class SideBySide:
    """`in_turn` in one thread a network, of the same bits as there with `threads` threads.

    Gradients of what is computed go back through each network in a thread, too, when all of them are there; so nothing of a
    network's graph but that can be part of a loss. Random numbers of dropout are drawn before, in the order of the networks.
    """

    def __init__(self, networks: int, threads: int) -> None:
        before = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(networks, "network", initializer=torch.set_num_threads, initargs=(threads,))
        list(self._pool.map(lambda _: None, range(networks)))
        # The number is the calling thread's, and that of threads to come: the autograd engine's, say.
        torch.set_num_threads(before)

    def __call__(self, networks: Mapping[str, nn.Module], computed: Computed, samples: int) -> dict[str, Tensor]:
        for network in networks.values():
            assert isinstance(network, SpikingNetwork)
            network.draw_dropout(samples)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

        def forward(network: nn.Module) -> Tensor:
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                return computed(network)

        outputs = list(self._pool.map(forward, networks.values()))
        ends = [output.detach().requires_grad_() for output in outputs]

        def backward(gradients: Sequence[Tensor | None]) -> None:
            reached = [pair for pair in zip(outputs, gradients, strict=True) if pair[1] is not None]
            list(self._pool.map(lambda pair: torch.autograd.backward(*pair), reached))

        torch.autograd.graph.register_multi_grad_hook(ends, backward)
        return dict(zip(networks, ends, strict=True))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
