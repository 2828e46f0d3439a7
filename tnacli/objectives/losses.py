"""Matching losses between the logits of two networks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tnacli.recipe.objective_section import DEFAULT_TEMPERATURE, Matching


def matching_loss(logits: Tensor, target: Tensor, matching: Matching) -> Tensor:
    """The matching loss of `logits` [N, classes] against `target` [N, classes], before alpha.

    `mse`: squared differences of the time-summed logits (Eq. 5). `kl`: KL divergence of softened distributions times
    the squared temperature (Hinton, Vinyals and Dean 2015), from `target` to `logits`. Reduced as `matching` says.
    """
    if matching.match == "mse":
        each = (logits - target).square()
    else:
        temperature = matching.temperature or DEFAULT_TEMPERATURE
        each = temperature**2 * F.kl_div(
            F.log_softmax(logits / temperature, dim=1),
            F.log_softmax(target / temperature, dim=1),
            reduction="none",
            log_target=True,
        )
    if matching.reduction == "sum":
        return each.sum()
    return each.sum(1).mean() if matching.reduction == "batch_mean" else each.mean()
