"""Identities of runs stay what they were: results are found again by them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tnacli.recipe.load import Loaded, load, plan

Load = Callable[..., Loaded]

# As results of earlier versions carry them in the names of their folders.
STORED = {
    ("table1_cifar100", "baseline"): "0022629673",
    ("table2_cifar100", "tna_t_snn"): "c891999adf",
    ("sec531_cifar100_three_networks", "three_networks"): "7c9dc7bc6d",
    ("fig3b_cifar100_kd", "kd_ce"): "8089855d51",
}


@pytest.mark.parametrize(("recipe", "run"), STORED)
def test_fields_that_came_later_change_no_identity(recipe: str, run: str) -> None:
    found = plan(load(recipe), runs=[run])[0]
    assert found.seed == 0
    assert found.identity == STORED[recipe, run]


LATER = {
    "compression.threshold": ("fixed", "mean"),
    "compression.gradual": ("null", "{order: forward}"),
    "objective.siblings": ("[{}]", "[{timesteps: 4}]"),
    "objective.features": ("null", "{alpha: 1}"),
    "model.spiking": ("true", "false"),
}


@pytest.mark.parametrize("key", LATER)
def test_a_later_field_counts_only_where_it_is_not_its_default(key: str, load_text: Load) -> None:
    text = "runs: {a: {objective: {kind: twin, alpha: 1e-3}, compression: {mode: ternary}}}\n"
    plain = plan(load_text(text))[0].identity
    default, other = (plan(load_text(text, f"{key}={value}"))[0].identity for value in LATER[key])
    assert default == plain
    assert other != plain
