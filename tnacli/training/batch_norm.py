"""Has the networks of an objective normalise over the samples of all processes."""

from __future__ import annotations

from torch import nn

from tnacli.objectives.objective import Objective
from tnacli.snn.synchronised import SynchronisedBatchNorm


def synchronise_batch_norm(objective: Objective) -> None:
    """Let every network of `objective` normalise over the samples of all processes, in place."""
    for network in objective.networks.values():
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                    setattr(module, name, SynchronisedBatchNorm.instead_of(child))
