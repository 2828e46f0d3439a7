"""The sums of an epoch are those of its batches, one by one, and go on from plain numbers as they would have gone on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tnacli.objectives.objective import Losses
from tnacli.training.epoch_sums import EpochSums

CPU = torch.device("cpu")


def batches(count: int) -> list[tuple[Losses, Tensor, int]]:
    generator = torch.Generator().manual_seed(3)
    made = []
    for number in range(count):
        logits = torch.randn(2, 6 + number, 3, generator=generator)
        total, own, match = torch.rand(3, generator=generator)
        losses = Losses(total, {"cross_entropy": own, "matching": match}, {"base": logits[0], "sibling": logits[1]})
        made.append((losses, torch.randint(3, (6 + number,), generator=generator), 6 + number))
    return made


def test_they_are_sums_over_samples_in_double_precision() -> None:
    sums, made = EpochSums(CPU), batches(5)
    for batch in made:
        sums.add(*batch)
    samples = sum(count for _, _, count in made)
    assert sums.samples == samples
    assert sums.loss == sum(float(losses.total * count) for losses, _, count in made) / samples
    for name in ("cross_entropy", "matching"):
        assert sums.parts[name] == sum(float(losses.parts[name] * count) for losses, _, count in made) / samples
    for name in ("base", "sibling"):
        right = sum(int((losses.logits[name].argmax(1) == labels).sum()) for losses, labels, _ in made)
        assert sums.accuracy[name] == 100 * right / samples


@pytest.mark.parametrize("after", range(6))
def test_from_plain_numbers_they_go_on_to_the_bit(after: int) -> None:
    whole, made = EpochSums(CPU), batches(5)
    for number, batch in enumerate(made):
        if number == after:
            whole = EpochSums(CPU, dict(sorted(whole.totals().items())))  # as a checkpoint has them
        whole.add(*batch)
    uninterrupted = EpochSums(CPU)
    for batch in made:
        uninterrupted.add(*batch)
    assert whole.totals() == uninterrupted.totals()
