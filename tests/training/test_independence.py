"""What must not depend on what: initial weights of base, twins and teachers, the order of samples, augmentation, dropout."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import TINY
from tests.training.test_loop import run_of
from tnacli.build import build_network, build_objective
from tnacli.data import batches as batches_module
from tnacli.experiment import Experiment
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.objective import Distill, Features, Sibling, Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.store import RunFolder
from tnacli.seeds import derive
from tnacli.training.checkpoint import load_checkpoint, restore_network


def objective(settings: Settings, seed: int = 0) -> Any:
    return build_objective(settings, channels=1, size=(8, 8), classes=10, seed=seed)


def with_twins(*siblings: Sibling, **more: Any) -> Settings:
    return TINY.model_copy(update={"objective": Twin(alpha=1e-3, siblings=siblings, **more)})


def drawn(network: nn.Module) -> dict[str, Tensor]:
    """The parameters that are drawn, not set to 0 or 1 as those of batch norm."""
    return {name: p.detach() for name, p in network.named_parameters() if "norm" not in name}


def unlike(one: nn.Module, other: nn.Module) -> None:
    """No weight of one is that of the other at the same place, nor do they go together."""
    for (name, ours), theirs in zip(drawn(one).items(), drawn(other).values(), strict=True):
        assert not (ours == theirs).any(), name
        if ours.numel() > 30:
            together = float(torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1])
            assert abs(together) < 4 / ours.numel() ** 0.5, name


def test_base_and_twins_begin_from_weights_of_their_own() -> None:
    networks = objective(with_twins(Sibling(), Sibling())).networks
    assert list(networks) == ["base", "sibling1", "sibling2"]
    for one, other in itertools.combinations(networks.values(), 2):
        unlike(one, other)


def test_every_objective_of_a_seed_begins_from_the_same_base() -> None:
    """So that differences between methods are paired over seeds."""
    alone = drawn(objective(TINY).base)
    for other in (
        with_twins(Sibling()),
        with_twins(Sibling(width="200%"), Sibling(), features=Features(alpha=1.0)),
        TINY.model_copy(update={"compression": Ternary(start=1)}),
    ):
        found = drawn(objective(other).base)
        assert all(torch.equal(found[name], weight) for name, weight in alone.items())


def test_a_twin_is_the_same_however_many_there_are() -> None:
    one, two = (objective(with_twins(*[Sibling()] * count)).networks["sibling1"] for count in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(drawn(one).values(), drawn(two).values(), strict=True))


@pytest.mark.parametrize("stream", ["base", "sibling1"])
def test_another_seed_begins_from_other_weights(stream: str) -> None:
    one, two = (
        build_network(TINY.model, channels=1, size=(8, 8), classes=10, seed=seed, stream=stream) for seed in (0, 1)
    )
    unlike(one, two)


def test_another_seed_is_another_run() -> None:
    assert len({run_of(TINY, seed).identity for seed in range(20)}) == 20


def test_drawing_weights_leaves_the_global_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    objective(with_twins(Sibling(), features=Features(alpha=1.0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_teacher_has_another_seed_than_every_pupil() -> None:
    """And so other weights to begin with, another order of samples, other crops: not its pupil trained before."""
    pupils = [Run("kd", "kd", seed, TINY.model_copy(update={"objective": Distill(alpha=1.0)})) for seed in range(5)]
    teachers = [pupil.teacher for pupil in pupils]
    assert [teacher.seed for teacher in teachers if teacher is not None] == [1000, 1001, 1002, 1003, 1004]
    for pupil, teacher in zip(pupils, teachers, strict=True):
        assert teacher is not None
        unlike(objective(TINY, pupil.seed).base, objective(teacher.settings, teacher.seed).base)
    own = TINY.model_copy(update={"objective": Distill(alpha=1.0, teacher_seed=7)})
    found = Run("kd", "kd", 3, own).teacher
    assert found is not None
    assert found.seed == 10


def test_a_pupil_is_taught_by_that_teacher(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained and stored with the teacher's seed is what the pupil matches: to the bit."""
    from tnacli import experiment

    taught_by: list[Any] = []
    build = experiment.build_objective

    def watched(settings: Settings, *, teacher: nn.Module | None = None, **given: Any) -> Any:
        taught_by.append(teacher)
        return build(settings, teacher=teacher, **given)

    monkeypatch.setattr(experiment, "build_objective", watched)
    pupil = Run("kd", "kd", 2, TINY.model_copy(update={"objective": Distill(alpha=1.0)}))
    outcome = Experiment(out).execute(pupil)
    assert pupil.teacher is not None
    trained = load_checkpoint(RunFolder.of(out, pupil.teacher).last)
    assert trained.metadata.seed == 1002
    expected = restore_network(trained).state_dict()
    (teacher,) = [one for one in taught_by if one is not None]
    assert all(torch.equal(teacher.state_dict()[name], value) for name, value in expected.items())
    unlike(teacher, restore_network(load_checkpoint(outcome.checkpoint)))


def seen_by(out: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[Any, ...]], list[list[int]]]:
    """The names of all random streams that a run drew from, and the order of its samples, epoch by epoch, as labels' bytes."""
    names: list[tuple[Any, ...]] = []
    orders: list[list[int]] = []
    order = batches_module.Batches._order

    def named(seed: int, *stream: str | int) -> int:
        names.append((seed, *stream))
        return derive(seed, *stream)

    def watched(self: Any, epoch: int) -> Tensor:
        found = order(self, epoch)
        if self.training:
            orders.append(found.tolist())
        return found

    with monkeypatch.context() as patch:
        for module in ("tnacli.build", "tnacli.data.batches", "tnacli.training.loop"):
            patch.setattr(f"{module}.derive", named)
        patch.setattr(batches_module.Batches, "_order", watched)
        Experiment(out).execute(run)
    return names, orders


def test_samples_come_in_another_order_every_epoch_and_for_every_seed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a run as it is trained; a twin's run sees the very order of the baseline's."""
    runs = [run_of(TINY), run_of(TINY, seed=1), run_of(with_twins(Sibling()))]
    first, second, twin = (seen_by(out, run, monkeypatch)[1] for run in runs)
    assert len(first) == TINY.train.epochs
    for one, other in itertools.combinations([*first, *second], 2):
        assert sorted(one) == sorted(other)
        # Of two orders that know nothing of each other, one place in expectation holds the same sample.
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 8
    assert twin == first


def test_no_two_random_choices_of_a_run_share_a_stream(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights by network, order by epoch, augmentation and dropout by epoch and step: each stream is used for one of them."""
    names, _ = seen_by(out, run_of(with_twins(Sibling()), seed=3), monkeypatch)
    epochs, steps = range(TINY.train.epochs), range(4)
    expected = {
        *((3, "weights", stream) for stream in ("base", "sibling1", "features")),
        *((3, "order", epoch) for epoch in epochs),
        *((3, what, epoch, step) for what in ("augment", "dropout") for epoch in epochs for step in steps),
    }
    assert set(names) == expected
    assert len(names) == len(expected)
    assert len({derive(*name) for name in names}) == len(expected)  # type: ignore[arg-type]


def test_streams_of_other_names_are_other_streams() -> None:
    """Also where the names would read alike if they were only put together."""
    names: list[tuple[Any, ...]] = [
        (0, "a"), (0, "b"), (1, "a"), (0, "a", 1), (0, "a", 11), (0, "a", 1, 1), (1, "a", 1), (0, "a1"), (0,), (11,), (1, 1),
    ]  # fmt: skip
    assert len({derive(*name) for name in names}) == len(names)
    assert all(0 <= derive(*name) < 2**63 for name in names)
