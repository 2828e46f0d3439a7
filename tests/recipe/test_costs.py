"""What a plan says that training takes, against what stands in docs/reproduction.md and what follows from the layers."""

from __future__ import annotations

import pytest

from tnacli.recipe.costs import Costs, costs
from tnacli.recipe.parse.load import load
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.recipe import Settings


def of(recipe: str, run: str, *overrides: str) -> Costs:
    found = costs(load(recipe, overrides=overrides).recipe.runs[run])
    assert found is not None
    return found


def test_full_size_is_what_the_documents_say() -> None:
    baseline, tna = of("table1_cifar10", "baseline"), of("table1_cifar10", "tna")
    assert baseline.sample_flop == pytest.approx(37e9, rel=0.02)
    assert baseline.run_flop == pytest.approx(4.7e17, rel=0.02)
    assert (tna.sample_flop, tna.run_flop) == (2 * baseline.sample_flop, 2 * (baseline.run_flop or 0))


def test_a_small_network_counted_by_hand() -> None:
    """8x8 digits, 2C3-AP2-3FC, T = 4: forward, and twice as much backward but for the first layer's input."""
    model = Model(layout="2C3-AP2-3FC", timesteps=4, dropout=0)
    found = costs(Settings(model=model))
    assert found is not None
    first, others = 2 * 64 * 9, 3 * 32 + 10 * 3
    assert found.sample_flop == 2 * (2 * first + 4 * 3 * others)
    assert found.run_flop == found.sample_flop * 250 * 1437
    batch, parameters = 256, 18 + 96 + 30
    summed, spikes = batch * (128 + 4 * 3), batch * 4 * (32 + 3)
    masks = batch * 4 * (128 + 3) // 4
    assert found.step_bytes == 16 * parameters + 4 * (summed + spikes) + masks + 4 * batch * 4 * 32


def test_every_frame_of_a_recording_passes_the_first_layer() -> None:
    """N-MNIST, two polarities of 34x34, 2C3-AP2-3FC, T = 4, batches of 256."""
    model = Model(layout="2C3-AP2-3FC", timesteps=4, dropout=0)
    found = costs(Settings(data=Data(name="nmnist"), model=model))
    assert found is not None
    first, others = 4 * 2 * 34 * 34 * 2 * 9, 4 * (3 * 2 * 17 * 17 + 10 * 3)
    assert found.sample_flop == 2 * (2 * first + 3 * others)
    batch, parameters, neurons = 256, 36 + 3 * 2 * 17 * 17 + 30, 2 * 34 * 34 + 3
    spikes = 4 * batch * 4 * (2 * 17 * 17 + 3)
    passed = 4 * batch * 4 * 2 * 17 * 17
    assert found.step_bytes == 16 * parameters + spikes + (4 * 4 + 1) * batch * neurons + passed


def test_a_teacher_is_only_passed_forward() -> None:
    kd, baseline = of("fig3b_cifar100_kd", "kd"), of("fig3b_cifar100_kd", "baseline")
    assert 1.3 * baseline.sample_flop < kd.sample_flop < 1.4 * baseline.sample_flop


def test_memory_is_left_out_where_it_was_not_derived() -> None:
    for override in (
        "train.precision=bf16",
        "runtime.memory=low",
        "model.norm=none",
        "model.neuron.detach_reset=false",
    ):
        assert of("table1_cifar10", "baseline", override).step_bytes is None
    assert of("ann_cifar100", "tna_ann").step_bytes is None


def test_what_depends_on_the_users_own_files_is_not_known() -> None:
    assert costs(Settings.model_validate({"data": {"name": "folder", "root": "x"}})) is None
