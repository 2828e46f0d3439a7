"""What the optimiser really did: its rate at every step, Adam's update, its state over compression, the whole loop."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tests.conftest import TINY
from tests.training.test_loop import StopAfter, run_of, tensors
from tnacli.build import build_objective
from tnacli.data.batches import Batches
from tnacli.data.load import load
from tnacli.errors import Stopped
from tnacli.experiment import Experiment
from tnacli.quant.weights import compress, latent_state
from tnacli.recipe.schema.compression import Gradual, Ternary
from tnacli.recipe.schema.objective import Twin
from tnacli.recipe.schema.recipe import Schedule, Settings, Train
from tnacli.seeds import derive
from tnacli.training.adam import Adam
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.events import EpochDone, Event
from tnacli.training.fine_tune import compression_run

STEPS = 4  # an epoch of TINY
RATE, GAMMA = 0.02, 0.5


@dataclass(frozen=True)
class Step:
    """One step of the optimiser: the rates of its groups, and each parameter before, after, its gradient, its state before."""

    rates: list[float]
    before: list[Tensor]
    after: list[Tensor]
    gradients: list[Tensor | None]
    states: list[dict[str, Tensor]]


@contextmanager
def watched() -> Iterator[list[Step]]:
    """Every step of every optimiser of this process while inside."""
    steps: list[Step] = []

    def parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
        return [parameter for group in optimiser.param_groups for parameter in group["params"]]

    def before(optimiser: torch.optim.Optimizer, *given: Any) -> None:
        held = parameters(optimiser)
        steps.append(
            Step(
                [group["lr"] for group in optimiser.param_groups],
                [p.detach().clone() for p in held],
                [],
                [None if p.grad is None else p.grad.clone() for p in held],
                [{key: value.clone() for key, value in optimiser.state.get(p, {}).items()} for p in held],
            )
        )

    def after(optimiser: torch.optim.Optimizer, *given: Any) -> None:
        steps[-1].after.extend(p.detach().clone() for p in parameters(optimiser))

    hooks = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    try:
        yield steps
    finally:
        for hook in hooks:
            hook.remove()


def settings(compression: Ternary | None = None, **schedule: Any) -> Settings:
    train = Train(
        epochs=4, batch_size=32, learning_rate=RATE, precision="fp32", schedule=Schedule(gamma=GAMMA, **schedule)
    )
    return TINY.model_copy(update={"train": train, "compression": compression})


def run(out: Path, chosen: Settings) -> tuple[list[Step], list[EpochDone]]:
    events: list[Event] = []
    with watched() as steps:
        Experiment(out, emit=lambda run, event: events.append(event)).execute(run_of(chosen))
    return steps, [event for event in events if isinstance(event, EpochDone)]


@pytest.mark.parametrize(
    ("schedule", "powers"),
    [
        ({"every": 1}, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]),
        ({"every": 2}, [0] * 8 + [1] * 8),
        ({"every": "12.5%"}, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]),
        ({"every": 1, "at_compression": "restart"}, [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]),
    ],
    ids=["every epoch", "every second", "twice an epoch", "restart"],
)
def test_the_rate_of_every_step_is_the_schedules_and_the_logged_one_the_optimisers(
    out: Path, schedule: dict[str, Any], powers: list[int]
) -> None:
    """Written out by hand for sixteen steps, over a compression that brings the optimiser new parameters."""
    steps, epochs = run(out, settings(Ternary(start=2, threshold="learned"), **schedule))
    assert [step.rates[0] for step in steps] == pytest.approx([RATE * GAMMA**power for power in powers])
    assert [len(step.rates) for step in steps] == [1] * 8 + [2] * 8
    assert all(len(set(step.rates)) == 1 for step in steps)
    assert [epoch.learning_rate for epoch in epochs] == [step.rates[0] for step in steps[::STEPS]]


def test_the_logged_rate_is_read_from_the_optimiser(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that something else has set is logged as it was used."""
    from tnacli.training import loop

    rates = (0.5 / (number + 1) for number in itertools.count())
    monkeypatch.setattr(loop, "learning_rate", lambda train, progress, compressed_at: next(rates))
    steps, epochs = run(out, settings())
    used = [step.rates[0] for step in steps]
    assert used == [0.5 / (number + 1) for number in range(16)]
    assert [epoch.learning_rate for epoch in epochs] == used[::STEPS]


@pytest.mark.parametrize("stop", [0, 2, 3, 5])
def test_a_resumed_run_logs_the_rates_of_an_uninterrupted_one(out: Path, stop: int) -> None:
    """Also where it stopped after the last step of an epoch, and the new optimiser has taken none in it."""
    chosen = settings(every="12.5%")
    with pytest.raises(Stopped):
        Experiment(out, stop=StopAfter(stop)).execute(run_of(chosen))
    outcome = Experiment(out).execute(run_of(chosen))
    assert [row["learning_rate"] for row in outcome.folder.metrics()] == [RATE * GAMMA**power for power in (0, 2, 4, 6)]


def adam(parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], rate: float) -> Tensor:
    """One step of Adam as Kingma and Ba (2015) write it, Algorithm 1, in double precision; no weight decay."""
    number = 1 + (int(state["step"]) if state else 0)
    first, second = (state[key].double() if state else torch.zeros(()) for key in ("exp_avg", "exp_avg_sq"))
    g = gradient.double()
    first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g.square()
    step = first / (1 - 0.9**number) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
    return parameter.double() - rate * step


def test_every_update_is_adams(out: Path) -> None:
    compression = Ternary(start=2, threshold="learned", gradual=Gradual(over=1))
    steps, _ = run(out, settings(compression, every=1))
    assert len(steps) == 16
    for step in steps:
        assert len(step.before) == len(step.after) == len(step.gradients)
        for before, after, gradient, state in zip(step.before, step.after, step.gradients, step.states, strict=True):
            assert gradient is not None
            torch.testing.assert_close(
                after.double(), adam(before, gradient, state, step.rates[0]), rtol=1e-5, atol=1e-7
            )
    moved = [float((after - before).abs().max()) for before, after in zip(steps[0].before, steps[0].after, strict=True)]
    assert min(moved) == pytest.approx(RATE, rel=1e-2)  # Adam's first step is the rate, whatever the gradient


@pytest.mark.parametrize("gradual", [None, Gradual(over=1)], ids=["at once", "layer by layer"])
def test_adams_state_survives_compression(out: Path, gradual: Gradual | None) -> None:
    """Every parameter that was there goes on with its moments and its count of steps; a learned Delta begins anew."""
    steps, _ = run(out, settings(Ternary(start=2, threshold="learned", gradual=gradual), every=1))
    known = len(steps[0].before)
    for number, step in enumerate(steps):
        for state in step.states[:known]:
            assert int(state["step"]) == number if number else not state
            assert not number or float(state["exp_avg_sq"].abs().sum()) > 0
    new = [[int(state["step"]) if state else 0 for state in step.states[known:]] for step in steps]
    at_once = [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5], [6, 6], [7, 7]]
    in_turn = [[0], [1], [2], [3], [4, 0], [5, 1], [6, 2], [7, 3]]
    assert new == [[]] * 8 + (at_once if gradual is None else in_turn)


@pytest.mark.parametrize("mode", ["ternary", "binary"])
def test_adams_state_survives_a_restart_at_compression(out: Path, mode: str) -> None:
    """The moments in the last checkpoint before compression are those of the first step after it."""
    chosen = settings(Ternary(start=2, delta=0.05)).model_dump(mode="json")
    chosen["compression"] = {"mode": mode, "start": 2}
    compressed = run_of(Settings.model_validate(chosen, strict=False))
    with pytest.raises(Stopped):
        Experiment(out, stop=StopAfter(2 * STEPS - 1)).execute(compressed)
    (path,) = out.rglob("last.pt")
    stored = load_checkpoint(path)
    assert stored.metadata.state.compressed is False
    with watched() as steps:
        Experiment(out).execute(compressed)
    kept = {key: value for key, value in stored.tensors.items() if key.startswith("adam/exp_avg/")}
    assert len(kept) == len(steps[0].states)
    for (_, expected), state in zip(kept.items(), steps[0].states, strict=True):
        assert torch.equal(state["exp_avg"], expected)
        assert int(state["step"]) == 2 * STEPS


def test_fine_tuning_begins_with_a_new_optimiser(out: Path) -> None:
    """Weights are handed on, Adam's moments are not: they belong to another run."""
    full = Experiment(out).execute(run_of(settings()))
    checkpoint = load_checkpoint(full.checkpoint)
    tuned = compression_run(checkpoint, Ternary(start=0, delta=0.05), source="x", epochs=1)
    with watched() as steps:
        Experiment(out, initial={checkpoint.digest: checkpoint}).execute(tuned)
    assert all(not state for state in steps[0].states)
    assert int(steps[-1].states[0]["step"]) == STEPS - 1


def test_training_is_the_loop_written_out(out: Path) -> None:
    """Twin, dropout, augmentation, a falling rate and compression: every weight of a run, from a loop of a few lines."""
    chosen = settings(Ternary(start=2, delta=0.05), every=1)
    chosen = chosen.model_copy(update={"objective": Twin(alpha=0.1, reduction="batch_mean")})
    assert (chosen.model.dropout, chosen.data.augmentation.crop_padding) == (0.2, None)
    data = load(chosen.data, chosen.model.timesteps)
    objective = build_objective(chosen, channels=data.channels, size=data.size, classes=len(data.classes), seed=7)
    objective.to(memory_format=torch.channels_last).train()
    base, twin = objective.networks["base"], objective.networks["sibling1"]
    batches = Batches(data.train, data, 32, "cpu", seed=7, training=True)
    optimiser = torch.optim.Adam(objective.parameters(), lr=RATE, fused=True)
    for epoch in range(4):
        if epoch == 2:
            compress(base, chosen.compression)  # type: ignore[arg-type]
        for step, batch in enumerate(batches.epoch(epoch)):
            torch.manual_seed(derive(7, "dropout", epoch, step))
            optimiser.param_groups[0]["lr"] = RATE * GAMMA**epoch
            ours, theirs = base(batch.inputs), twin(batch.inputs)
            matching = (ours - theirs).square().sum(1).mean()
            loss = F.cross_entropy(ours, batch.labels) + F.cross_entropy(theirs, batch.labels) + 0.1 * matching
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    found = tensors(Experiment(out).execute(run_of(chosen, seed=7)))
    for name, network in (("base", base), ("sibling1", twin)):
        for key, expected in latent_state(network).items():
            torch.testing.assert_close(found[f"networks/{name}/{key}"], expected, rtol=1e-4, atol=1e-6)


def test_steps_load_no_compiler() -> None:
    """`torch._dynamo` takes as long to load as PyTorch itself, and 150 MB; `torch.optim.Adam` loads it for a hint."""
    program = (
        "import sys, torch\n"
        "from tnacli.training.adam import Adam\n"
        "weight = torch.nn.Parameter(torch.ones(3))\n"
        "adam = Adam([weight], lr=0.1, fused=True)\n"
        "adam.add_param_group({'params': [torch.nn.Parameter(torch.ones(1))]})\n"
        "weight.sum().backward()\n"
        "adam.step()\n"
        "adam.zero_grad(set_to_none=True)\n"
        "assert weight.grad is None and bool((weight < 1).all())\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_moments_in_memory_of_their_own_are_those_of_pytorchs_adam() -> None:
    torch.manual_seed(0)
    shapes = [(8, 5, 3, 3), (7,), (3, 4)]
    weights = [torch.randn(shape) for shape in shapes]
    weights[0] = weights[0].contiguous(memory_format=torch.channels_last)
    pairs = [[torch.nn.Parameter(weight.clone()) for weight in [*weights, torch.zeros(2)]] for _ in range(2)]
    ours, theirs = Adam(pairs[0], lr=0.1, fused=True), torch.optim.Adam(pairs[1], lr=0.1, fused=True)
    for step in range(3):
        for one, two in zip(*pairs, strict=True):
            if one.shape != (2,) or step:  # one has its first gradient later
                one.grad = torch.randn_like(one)
                two.grad = one.grad.clone()
        ours.step()
        theirs.step()
    places = set()
    for one, two in zip(*pairs, strict=True):
        assert torch.equal(one, two)
        assert list(ours.state[one]) == list(theirs.state[two])
        for name, moment in ours.state[one].items():
            assert torch.equal(moment, theirs.state[two][name])
            assert (moment.dtype, moment.stride()) == (theirs.state[two][name].dtype, theirs.state[two][name].stride())
        places.add(ours.state[one]["exp_avg"].untyped_storage().data_ptr())
    assert len(places) == 2  # one for all that began together
