"""The matching loss of Twin Network Augmentation for anybody's training loop."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tnacli.errors import UsageError
from tnacli.objectives.losses import twin_matching_loss
from tnacli.recipe.schema.objective import Match, Reduction, Twin


def twin_loss(
    logits: Tensor,
    other: Tensor,
    *,
    alpha: float,
    match: Match = "mse",
    reduction: Reduction = "batch_mean",
    temperature: float | None = None,
    gradient: Literal["both", "base", "twin"] = "both",
) -> Tensor:
    """`alpha` times the matching loss between `logits` and the `other` network's: the last term of Eq. 5, a scalar.

    Both are [N, classes] summed over time, or [T, N, classes] of each timestep, whose differences are then summed over time.
    Add it to the cross-entropies of both networks:

        loss = ce(logits, labels) + ce(other, labels) + tnacli.twin_loss(logits, other, alpha=1e-3)

    `match`: squared differences ("mse", Eq. 5) or the KL divergence from `other` to `logits` at a `temperature` ("kl"; default
    4). `reduction`: "sum" over samples and classes, "batch_mean" over samples, or "mean" over both. `gradient` reaches both
    networks, or the one that gives `logits` ("base"), or the one that gives `other` ("twin") alone. Computed in fp32 at least,
    under autocast too. Where processes of DDP average gradients, leave `reduction` at a mean.

    Raises UsageError if the shapes differ or are neither of the two, or if a setting makes no sense or would have no effect.
    """
    if logits.shape != other.shape or logits.dim() not in (2, 3):
        ours, theirs = ("x".join(map(str, one.shape)) or "a single number" for one in (logits, other))
        raise UsageError(
            f"twin_loss takes logits of one shape, [N, classes] or [T, N, classes]; these are {ours} and {theirs}"
        )
    for name, value, allowed in (
        ("match", match, ("mse", "kl")),
        ("reduction", reduction, ("sum", "batch_mean", "mean")),
        ("gradient", gradient, ("both", "base", "twin")),
    ):
        if value not in allowed:
            raise UsageError(f"{name}={value!r}: must be one of {', '.join(map(repr, allowed))}")
    if not alpha > 0 or (temperature is not None and not temperature > 0):
        raise UsageError(f"alpha={alpha!r}, temperature={temperature!r}: must be above 0")
    if temperature is not None and match != "kl":
        raise UsageError("temperature has no effect with match='mse'; it softens the logits of match='kl'")
    twin = Twin(
        alpha=alpha,
        match=match,
        reduction=reduction,
        temperature=temperature,
        gradient="siblings" if gradient == "twin" else gradient,
    )
    base, sibling = (one.to(torch.promote_types(one.dtype, torch.float32)) for one in (logits, other))
    with torch.autocast(base.device.type, enabled=False):
        return alpha * twin_matching_loss(base, sibling, twin)
