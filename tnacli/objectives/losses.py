"""Losses of a batch, or of a share of one.

Several processes may each hold a share of a batch. The losses of all shares add up to the batch's: a mean over samples counts
by the share that it was taken over, a sum as it is.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tnacli.recipe.schema.objective import DEFAULT_TEMPERATURE, Matching, Temporal, Twin


def cross_entropy(logits: Tensor, labels: Tensor, share: float = 1.0) -> Tensor:
    """The mean cross-entropy of `logits` against labels [N], times `share`; [N, classes], or [T, N, classes] by timestep.

    By timestep it is averaged over time, too (Deng et al. 2022, "temporal efficient training").
    """
    if logits.dim() == 3:
        logits, labels = logits.flatten(0, 1), labels.repeat(len(logits))
    return weighed(F.cross_entropy(logits, labels), share)


def matching_loss(logits: Tensor, target: Tensor, matching: Matching, share: float = 1.0) -> Tensor:
    """The matching loss of `logits` against `target`, before its weight; [N, classes], or [T, N, classes] by timestep.

    `mse`: squared differences (Eq. 5). `kl`: KL divergence of softened distributions times the squared temperature (Hinton,
    Vinyals and Dean 2015), from `target` to `logits`. By timestep they are summed over time first. Reduced over samples and
    classes as `matching` says.
    """
    if matching.match == "mse":
        each = (logits - target).square()
    else:
        temperature = matching.temperature or DEFAULT_TEMPERATURE
        each = temperature**2 * F.kl_div(
            F.log_softmax(logits / temperature, dim=-1),
            F.log_softmax(target / temperature, dim=-1),
            reduction="none",
            log_target=True,
        )
    if each.dim() == 3:
        each = each.sum(0)
    if matching.reduction == "sum":
        return each.sum()
    return weighed(each.sum(1).mean() if matching.reduction == "batch_mean" else each.mean(), share)


def twin_matching_loss(base: Tensor, sibling: Tensor, twin: Twin, share: float = 1.0) -> Tensor:
    """The matching loss between the logits of the base and of a sibling, which moves the networks that `twin.gradient` says."""
    return matching_loss(
        base.detach() if twin.gradient == "siblings" else base,
        sibling.detach() if twin.gradient == "base" else sibling,
        twin,
        share,
    )


def temporal_loss(logits: Tensor, temporal: Temporal, share: float = 1.0) -> Tensor:
    """Temporal self-distillation of one network's logits [T, N, classes], before its weight (Yu et al. 2025).

    The teacher is the sum over time divided by T, which is on the scale of a single timestep: against the sum itself the loss
    would be 0 nowhere but where nothing is said, and logits that follow it would grow without end.
    """
    temperature = temporal.temperature
    teacher = F.log_softmax(logits.detach().mean(0, keepdim=True) / temperature, dim=-1).expand_as(logits)
    each = F.kl_div(F.log_softmax(logits / temperature, dim=-1), teacher, reduction="none", log_target=True)
    return weighed(temperature**2 * each.sum(-1).mean(), share)


def weighed(mean: Tensor, share: float) -> Tensor:
    """A mean over a share of a batch as its part of the mean over the whole batch."""
    return mean if share == 1 else share * mean
