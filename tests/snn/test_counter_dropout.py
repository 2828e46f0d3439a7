"""Dropout from a counter: the share that is kept, that masks of different keys and places have nothing to do with each other."""

from __future__ import annotations

import pytest
import torch

from tnacli.snn.dropout import dropout_mask


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_the_share_that_is_kept(probability: float) -> None:
    like = torch.zeros(256, 1024)
    mask = dropout_mask(like, probability, key=5)
    kept = mask != 0
    assert mask[kept].unique().tolist() == pytest.approx([1 / (1 - probability)])
    spread = (probability * (1 - probability) / like.numel()) ** 0.5
    assert abs(float(kept.float().mean()) - (1 - probability)) < 4 * spread
    for axis, count in ((0, 256), (1, 1024)):  # no sample and no neuron is favoured
        shares = kept.float().mean(axis)
        assert float((shares - (1 - probability)).abs().max()) < 5 * (probability * (1 - probability) / count) ** 0.5


@pytest.mark.parametrize("other", [6, 5 + 2**31, 5 + 2**40])
def test_masks_of_other_keys_agree_by_chance_alone(other: int) -> None:
    like = torch.zeros(512, 512)
    one, two = (dropout_mask(like, 0.5, key) != 0 for key in (5, other))
    assert abs(float((one == two).float().mean()) - 0.5) < 4 * 0.5 / 512
    assert abs(float((one[:, 1:] == one[:, :-1]).float().mean()) - 0.5) < 4 * 0.5 / 512


def test_a_mask_follows_from_key_and_place_in_memory_by_channels_last() -> None:
    """The very numbers: a run that goes on elsewhere drops the same neurons."""
    mask = dropout_mask(torch.zeros(2, 4), 0.5, key=2**40 + 17)
    assert mask.tolist() == [[0.0, 2.0, 0.0, 2.0], [0.0, 2.0, 2.0, 0.0]]
    whole = dropout_mask(torch.zeros(2, 3, 5, 4), 0.5, key=9)
    assert torch.equal(whole.permute(0, 2, 3, 1).flatten(), dropout_mask(torch.zeros(1, 120), 0.5, key=9)[0])


def test_without_a_key_pytorch_draws() -> None:
    torch.manual_seed(3)
    mask = dropout_mask(torch.zeros(4, 5), 0.5, None)
    torch.manual_seed(3)
    assert torch.equal(mask, torch.nn.functional.dropout(torch.ones(4, 5), 0.5))
