"""Networks side by side give the bits that they give one after the other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tnacli.build import build_objective
from tnacli.objectives.objective import Objective, TwinObjective
from tnacli.objectives.side_by_side import SideBySide
from tnacli.quant.weights import compress
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Sibling, Temporal, Twin
from tnacli.recipe.schema.recipe import Settings, Train
from tnacli.snn.network import Network

LAYOUT = "64C3-AP2-64C3-AP2-32FC"


def made(twin: Twin, **train: object) -> Objective:
    settings = Settings(
        model=Model(layout=LAYOUT, timesteps=3, dropout=0.3), objective=twin, train=Train.model_validate(train)
    )
    return build_objective(settings, channels=1, size=(16, 16), classes=10, seed=0).train()


def two_steps(objective: Objective, *, bf16: bool = False) -> list[torch.Tensor]:
    """Losses, logits, gradients and statistics after each of two batches."""
    found: list[torch.Tensor] = []
    for step in range(2):
        torch.manual_seed(step)
        inputs, labels = torch.rand(32, 1, 16, 16), torch.arange(32) % 10
        objective.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = objective(inputs, labels)
        losses.total.backward()
        found += [losses.total.detach(), *(one.detach() for one in losses.logits.values())]
        found += [p.grad.clone() for p in objective.parameters() if p.grad is not None]
        found += [buffer.clone() for buffer in objective.buffers()] + [torch.rand(1)]
    return found


@pytest.mark.parametrize(
    ("twin", "train"),
    [
        (Twin(alpha=0.1), {}),
        (Twin(alpha=0.1, siblings=(Sibling(), Sibling())), {}),
        (Twin(alpha=0.1, logits="per_timestep", temporal=Temporal(alpha=0.5)), {"cross_entropy": "per_timestep"}),
        (Twin(alpha=0.1, gradient="base"), {}),
    ],
    ids=["twin", "three", "each timestep", "one side"],
)
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_the_same_bits(twin: Twin, train: dict[str, object], bf16: bool) -> None:
    alone, beside = made(twin, **train), made(twin, **train)
    assert isinstance(beside, TwinObjective)
    beside.outputs_of = pool = SideBySide(len(beside.networks), 1)
    expected, found = two_steps(alone, bf16=bf16), two_steps(beside, bf16=bf16)
    pool.close()
    assert len(expected) == len(found) > 20
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.get_num_threads() == 1


def test_ternary_weights_too() -> None:
    both = [made(Twin(alpha=0.1)) for _ in range(2)]
    for objective in both:
        base = objective.base
        assert isinstance(base, Network)
        for parameter in base.parameters():
            parameter.data *= 3  # beyond Delta
        compress(base, Ternary(), refuse_silent=False)
    assert isinstance(both[1], TwinObjective)
    both[1].outputs_of = pool = SideBySide(2, 1)
    for ours, theirs in zip(*map(two_steps, both), strict=True):
        assert torch.equal(ours, theirs)
    pool.close()


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    objective = made(Twin(alpha=0.1))
    assert isinstance(objective, TwinObjective)
    objective.outputs_of = pool = SideBySide(2, 1)

    def fails(*_: object) -> None:
        raise RuntimeError("of this layer")

    sibling = objective.networks["sibling1"]
    assert isinstance(sibling, nn.Module)
    hook = sibling.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="of this layer"):
        two_steps(objective)
    hook.remove()

    def fails_backward(*_: object) -> None:
        raise RuntimeError("of its gradient")

    next(sibling.parameters()).register_hook(fails_backward)
    with pytest.raises(RuntimeError, match="of its gradient"):
        two_steps(objective)
    pool.close()
