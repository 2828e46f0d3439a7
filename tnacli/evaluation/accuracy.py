"""How good a network is on a set of samples, and how much its layers spike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.data.batches import Batch
from tnacli.snn.arithmetic import exact
from tnacli.snn.lif import LIF
from tnacli.snn.network import Network


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` and `top5` in %, `loss` the mean cross-entropy, `firing_rate` in spikes a neuron and timestep by layer.

    In an artificial network the rate is the share of values above 0.
    """

    accuracy: float
    top5: float
    loss: float
    samples: int
    firing_rate: dict[str, float]


@torch.inference_mode()
@exact()
def measure(predict: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> Evaluation:
    """Accuracy and loss of `predict`, which maps inputs to logits [N, classes], over all of `batches`, in exact fp32."""
    hits = hits5 = samples = 0
    loss = 0.0
    for batch in batches:
        logits = predict(batch.inputs).float()
        loss += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.labels[:, None]
        hits += int(best[:, 0].sum())
        hits5 += int(best.sum())
        samples += len(batch.labels)
    return Evaluation(100 * hits / samples, 100 * hits5 / samples, loss / samples, samples, {})


def evaluate_network(network: Network, batches: Iterable[Batch]) -> Evaluation:
    """Evaluate in evaluation mode and full precision, with firing rates; training mode is restored."""
    training = network.training
    network.eval()
    try:
        with counting_spikes(network) as counts:
            result = measure(network, batches)
    finally:
        network.train(training)
    return Evaluation(result.accuracy, result.top5, result.loss, result.samples, counts.rates())


class SpikeCounts:
    """Running totals of spikes and of neuron-timesteps by layer."""

    def __init__(self) -> None:
        self._spikes: dict[str, Tensor] = {}
        self._chances: dict[str, int] = {}

    def add(self, name: str, spikes: Tensor, *, binary: bool = False) -> None:
        """Count what is not zero in `spikes` [T, N, ...] of a layer; where all are 0 or 1, their sum says it, much faster."""
        # Sums of one sample and timestep, which fp32 holds; those of a batch it might not.
        fired = spikes.sum(tuple(range(2, spikes.dim()))).sum(dtype=torch.int64) if binary else spikes.count_nonzero()
        self._spikes[name] = self._spikes[name] + fired if name in self._spikes else fired
        self._chances[name] = self._chances.get(name, 0) + spikes.numel()

    def rates(self) -> dict[str, float]:
        return {name: int(fired) / self._chances[name] for name, fired in self._spikes.items()}


@contextlib.contextmanager
def counting_spikes(network: Network) -> Iterator[SpikeCounts]:
    """While inside, every spike of every layer of `network` is counted."""
    counts = SpikeCounts()

    def watch(name: str) -> Callable[[object, object, Tensor], None]:
        return lambda module, inputs, spikes: counts.add(name, spikes, binary=isinstance(module, LIF))

    hooks = [neurons.register_forward_hook(watch(name)) for name, neurons in network.neurons.items()]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()
