"""How good a network is on a set of samples, and how much its layers spike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tnacli.data.batches import Batch
from tnacli.evaluation.scores import Evaluation, Scores, SpikeCounts
from tnacli.snn.arithmetic import exact
from tnacli.snn.lif import LIF
from tnacli.snn.network import Network


@torch.inference_mode()
@exact()
def measure(predict: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> Evaluation:
    """Accuracy and loss of `predict`, which maps inputs to logits [N, classes], over all of `batches`, in exact fp32."""
    scores = Scores()
    for batch in batches:
        scores.add(predict(batch.inputs).float().cpu().numpy(), batch.labels.cpu().numpy())
    return scores.evaluation({})


def evaluate_network(network: Network, batches: Iterable[Batch]) -> Evaluation:
    """Evaluate in evaluation mode and full precision, with firing rates; training mode is restored."""
    training = network.training
    network.eval()
    try:
        with counting_spikes(network) as counts:
            result = measure(network, batches)
    finally:
        network.train(training)
    return replace(result, firing_rate=counts.rates())


def spikes_in(spikes: Tensor, *, binary: bool) -> Tensor:
    """How many of the values [T, N, ...] of a layer are not 0; where all are 0 or 1, their sum says it, much faster."""
    if not binary:
        return spikes.count_nonzero()
    # Sums of one sample and timestep, which fp32 holds; those of a batch it might not.
    return spikes.sum(tuple(range(2, spikes.dim()))).sum(dtype=torch.int64)


@contextlib.contextmanager
def counting_spikes(network: Network) -> Iterator[SpikeCounts]:
    """While inside, every spike of every layer of `network` is counted."""
    counts = SpikeCounts()

    def watch(name: str) -> Callable[[object, object, Tensor], None]:
        return lambda module, inputs, spikes: counts.add(
            name, spikes_in(spikes, binary=isinstance(module, LIF)), spikes.numel()
        )

    hooks = [neurons.register_forward_hook(watch(name)) for name, neurons in network.neurons.items()]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()
