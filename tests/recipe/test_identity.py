"""Identities of runs stay what they were: results are found again by them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tnacli.recipe.parse.load import Loaded, load, plan

Load = Callable[..., Loaded]

# Since train.precision is fp32 unless a recipe says otherwise.
STORED = {
    ("table1_cifar100", "baseline"): "0a94a4fee1",
    ("table2_cifar100", "tna_t_snn"): "8e6ee1e634",
    ("sec531_cifar100_three_networks", "three_networks"): "967173d12e",
    ("fig3b_cifar100_kd", "kd_ce"): "fd9121c066",
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
    "objective.temporal": ("null", "{alpha: 1}"),
    "model.spiking": ("true", "false"),
    "objective.logits": ("summed", "per_timestep"),
    "objective.gradient": ("both", "base"),
    "objective.start": ("0", "20%"),
    "objective.ramp": ("0%", "5"),
    "train.cross_entropy": ("summed", "per_timestep"),
}


@pytest.mark.parametrize("key", LATER)
def test_a_later_field_counts_only_where_it_is_not_its_default(key: str, load_text: Load) -> None:
    text = "runs: {a: {objective: {kind: twin, alpha: 1e-3}, compression: {mode: ternary}}}\n"
    plain = plan(load_text(text))[0].identity
    default, other = (plan(load_text(text, f"{key}={value}"))[0].identity for value in LATER[key])
    assert default == plain
    assert other != plain


TWIN = "runs: {a: {objective: {kind: twin, alpha: 1e-3}, compression: {mode: ternary}}}\n"
# What is written out, over a recipe, and what it only repeats: the first must be the identity without it.
SPELLED = [
    (TWIN, "objective.siblings=[{width: 100%}]"),
    (TWIN, "objective.siblings=[{width: 1.0}]"),
    (TWIN, "objective.siblings=[{layout: cifarnet}]"),
    (TWIN, "objective.siblings=[{layout: 128C3-256C3-AP2-512C3-AP2-1024C3-512C3-1024FC-512FC}]"),
    (TWIN, "objective.siblings=[{timesteps: 5, spiking: true}]"),
    (TWIN, "data.size=[8, 8]"),
    (TWIN, "data.augmentation.crop_padding=1"),
    (TWIN, "compression.start=150"),
    (TWIN, "train.schedule.every=5"),
    ("data: {name: cifar10}\nruns: {a: {}}\n", "data.size=[32, 32]"),
    ("data: {name: cifar10}\nruns: {a: {}}\n", "data.augmentation={crop_padding: 4, flip: 0.5}"),
    ("data: {name: cifar10dvs}\nruns: {a: {}}\n", "data.augmentation={rotation: 30, shear: 30}"),
    ("data: {name: cifar10dvs}\nruns: {a: {}}\n", "data.normalise=none"),
    ("data: {name: folder, root: x, size: [32, 32]}\nruns: {a: {}}\n", "data.normalise=measure"),
    ("runs: {a: {objective: {kind: distill, alpha: 1, match: kl}}}\n", "objective.temperature=4"),
    ("runs: {a: {compression: {mode: ternary, threshold: mean}}}\n", "compression.share=0.7"),
    ("runs: {a: {compression: {mode: binary, gradual: {order: forward}}}}\n", "compression.gradual.over=50"),
]


@pytest.mark.parametrize(("text", "spelled"), SPELLED)
def test_a_value_that_only_repeats_what_holds_without_it_changes_no_identity(
    text: str, spelled: str, load_text: Load
) -> None:
    assert plan(load_text(text, spelled))[0].identity == plan(load_text(text))[0].identity


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (TWIN, "objective.siblings=[{width: 99%}]"),
        (TWIN, "objective.siblings=[{layout: vgg11}]"),
        (TWIN, "objective.siblings=[{}, {width: 100%}]"),
        (TWIN, "data.size=[16, 16]"),
        (TWIN, "compression.start=149"),
        (TWIN, "compression.start=0"),
        ("data: {name: cifar10}\nruns: {a: {}}\n", "data.augmentation.flip=0"),
        ("data: {name: cifar10}\nruns: {a: {}}\n", "data.normalise=measure"),
        ("runs: {a: {objective: {kind: distill, alpha: 1, match: kl}}}\n", "objective.temperature=2"),
    ],
)
def test_a_value_that_computes_something_else_changes_the_identity(text: str, other: str, load_text: Load) -> None:
    assert plan(load_text(text, other))[0].identity != plan(load_text(text))[0].identity


def test_a_named_layout_of_a_sibling_and_its_notation_are_one(load_text: Load) -> None:
    size = "data.size=[32, 32]"  # which VGG-11 needs
    spelled = "64C3-128C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-512C3-512C3-GAP"
    layouts = ("vgg11", spelled)
    one, two = (plan(load_text(TWIN, size, f"objective.siblings=[{{layout: {name}}}]"))[0] for name in layouts)
    assert one.identity == two.identity
