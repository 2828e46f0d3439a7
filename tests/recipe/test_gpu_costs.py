"""What is predicted of a step on CUDA, against what a fake step counts; and that what is said to fit does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tnacli.recipe import gpus
from tnacli.recipe.costs import Sample
from tnacli.recipe.gpu_costs import LONGEST, GPUStep, gpu_step
from tnacli.recipe.gpus import CARDS, needed_bytes, on_cards, remedies, seconds_of
from tnacli.recipe.schema.recipe import Settings

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
_ROW = re.compile(r"^\| (?P<case>.+?) \| \d+ \| (?P<peak>[\d.]+) \| (?P<touched>[\d.]+) \|$", flags=re.M)
COUNTED = {row["case"]: (float(row["peak"]), float(row["touched"])) for row in _ROW.finditer(PAGE.read_text())}

TWIN: dict[str, Any] = {"objective": {"kind": "twin", "alpha": 1e-3}}
KD = {"objective": {"kind": "distill", "alpha": 1e-3}}
LOW = {"runtime": {"memory": "low"}}
TERNARY = {"compression": {"mode": "ternary", "start": 0}}
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "baseline, fp32": ("fp32", {}, 0),
    "baseline, bf16": ("bf16", {}, 0),
    "twin, fp32": ("fp32", TWIN, 0),
    "twin, bf16": ("bf16", TWIN, 0),
    "twin, fp16": ("fp16", TWIN, 0),
    "twin, bf16, low memory": ("bf16", TWIN | LOW, 0),
    "twin, bf16, ternary": ("bf16", TWIN | TERNARY, 0),
    "restored, twin, ternary": ("fp32", TWIN | TERNARY, 0),
    "distillation and cross-entropy, bf16": ("bf16", KD, 0),
    "ResNet-18, bf16": ("bf16", {"model": {"layout": "resnet18"}}, 0),
    "VGG-11, events, bf16": ("bf16", {"model": {"layout": "vgg11"}}, 5),
    "MLP, events, bf16": ("bf16", {"model": {"layout": "mlp"}}, 5),
}


def settings(precision: str = "bf16", **other: Any) -> Settings:
    train = {"precision": precision, "batch_size": 256, "epochs": 250} | other.pop("train", {})
    return Settings.model_validate({"data": {"name": "cifar100"}, "train": train, **other})


def step(of: Settings, frames: int = 0, **more: Any) -> GPUStep:
    found = gpu_step(of, Sample(2 if frames else 3, (32, 32), 100, bool(frames)), **more)
    assert found is not None
    return found


@pytest.mark.parametrize("case", CASES)
def test_memory_and_traffic_are_those_of_a_fake_step(case: str) -> None:
    """Traffic of the small MLP is that of its augmentation, which is not predicted."""
    precision, other, frames = CASES[case]
    found, (peak, touched) = step(settings(precision, **other), frames), COUNTED[case]
    assert found.step_bytes / 1e9 == pytest.approx(peak, rel=0.015, abs=0.01)
    if not case.startswith("MLP"):
        assert found.touched_bytes / 1e9 == pytest.approx(touched, rel=0.11)


def test_memory_of_an_evaluation_is_that_of_a_fake_one() -> None:
    assert step(settings()).evaluation_bytes / 1e9 == pytest.approx(COUNTED["evaluation of one batch"][0], rel=0.01)


def test_what_the_operator_is_not_for_is_not_predicted() -> None:
    for model in (
        {"spiking": False},
        {"norm": "none"},
        {"neuron": {"detach_reset": False}},
        {"timesteps": LONGEST + 1},
    ):
        assert gpu_step(settings(model=model)) is None
    assert gpu_step(Settings.model_validate({"data": {"name": "folder", "root": "x"}})) is None


def test_two_processes_hold_what_half_the_batch_does() -> None:
    assert step(settings(), processes=2) == step(settings(train={"batch_size": 128}))


def test_the_operators_bounds_are_the_operators() -> None:
    from tnacli.snn import triton_lif

    assert triton_lif._LONGEST == LONGEST


def test_samples_stay_on_a_gpu_by_the_same_rule_as_is_counted() -> None:
    from tnacli.data import batches

    assert batches._RESIDENT_SHARE == gpus._RESIDENT_SHARE


@pytest.mark.parametrize(
    ("memory", "resident"),
    [(10**11, 30_000 + 8_000 + 6_000), (4 * 24_000 * 3 * 64 * 64, 8_000 + 6_000), (1, 0)],
    ids=["all", "all but those trained on", "none"],
)
def test_ones_own_samples_count_where_they_stay(memory: int, resident: int) -> None:
    """Of 30,000 to train on and 8,000 held out, of 38,000 there are; each split by itself, by its share of the memory."""
    own = Settings.model_validate(settings().model_dump() | {"data": {"name": "folder", "validation_samples": 8_000}})
    fed = Sample(3, (64, 64), 10)
    seen = replace(fed, train=38_000, test=6_000)
    unknown, known = needed_bytes(own, 10**11, fed), needed_bytes(own, memory, seen)
    assert unknown is not None
    assert known == unknown - 8_000 * 3 * 64 * 64 + resident * 3 * 64 * 64
    few = own.model_copy(update={"data": own.data.model_copy(update={"train_samples": 9_000, "test_samples": 1})})
    assert needed_bytes(few, 10**11, seen) == unknown + (9_000 - 8_000 + 1) * 3 * 64 * 64


def test_a_full_size_twin_on_every_card() -> None:
    """From the figures of the cards: 250 epochs of 196 steps, of 19.1 TFLOP and 32.5 GB each."""
    found = {one.card: one for one in on_cards(settings(**TWIN))}
    assert found.keys() == {card.name for card in CARDS}
    assert found["V100 16 GB"].unavailable == "has no bf16: train.precision=fp16"
    assert found["H100"].hours == pytest.approx(
        250 * 196 * (19.086e12 / (0.55 * 989.4e12) + 32.5e9 / 3.35e12) / 3600, rel=0.01
    )
    assert found["H100"].fits
    assert found["RTX 4090"].fits
    assert all(one.fits for one in on_cards(settings("fp16", **TWIN)))
    assert found["RTX 4090"].hours > found["A100 40 GB"].hours > found["H100"].hours  # type: ignore[operator]


@pytest.mark.parametrize(
    ("width", "more", "milliseconds"),
    [(1, {}, 20.0), (1, TWIN, 39.9), (0.5, {}, 10.8), (0.125, {}, 11.9)],
)
def test_a_step_takes_about_what_was_measured(width: float, more: dict[str, Any], milliseconds: float) -> None:
    """On an H200 in bf16 (docs/performance/nvidia-h200.json); narrow networks wait for the host."""
    (card,) = (card for card in CARDS if card.name == "H200")
    predicted = seconds_of(step(settings("bf16", model={"width": width}, **more)), card, "bf16")
    assert 1e3 * predicted == pytest.approx(milliseconds, rel=0.15)


def test_auto_is_bf16_where_the_card_has_it() -> None:
    auto, named = on_cards(settings("auto")), on_cards(settings("bf16"))
    assert auto[2:] == named[2:]
    assert auto[:2] == on_cards(settings("fp32"))[:2]


@pytest.mark.parametrize("room", [2, 4, 6, 9, 14, 20])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_said_to_fit_does(room: int, precision: str) -> None:
    """Each remedy is applied as it reads; a batch twice as large as the one named would not fit."""
    wide = settings(precision, model={"width": 1.5}, **TWIN)
    if needed_bytes(wide, room * 10**9) <= room * 10**9:  # type: ignore[operator]
        pytest.skip("nothing to remedy")
    said = list(remedies(wide, room * 10**9))
    if not said:
        least = wide.model_copy(update={
            "train": wide.train.model_copy(update={"batch_size": 2}),
            "runtime": wide.runtime.model_copy(update={"memory": "low"}),
        })  # fmt: skip
        assert needed_bytes(least, room * 10**9) > room * 10**9  # type: ignore[operator]
    for text in said:
        changed, processes = wide, 1
        for key, value in re.findall(r"(runtime\.memory|train\.batch_size|train\.precision)=(\w+)", text):
            section, name = key.split(".")
            part = getattr(changed, section)
            value = int(value) if value.isdigit() else value
            changed = changed.model_copy(update={section: part.model_copy(update={name: value})})
        if per_node := re.search(r"--nproc-per-node (\d)", text):
            processes = int(per_node[1])
        needed = needed_bytes(changed, room * 10**9, processes=processes)
        assert needed is not None
        assert needed <= room * 10**9
        assert f"{needed / 1e9:.1f} GB" in text
