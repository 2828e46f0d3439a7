"""The learning rate and the moments of compression."""

from __future__ import annotations

import pytest

from tnacli.recipe.schema.compression import Gradual, Ternary
from tnacli.recipe.schema.recipe import Schedule, Settings, Train
from tnacli.training.schedule import compression_epoch, compression_epochs, learning_rate


def test_the_rate_falls_by_gamma_every_so_many_epochs() -> None:
    train = Train(schedule=Schedule(every=5))
    rates = [learning_rate(train, epoch, None) for epoch in (0, 4.99, 5, 9.9, 10, 249)]
    assert rates == pytest.approx([0.01, 0.01, 0.00928, 0.00928, 0.01 * 0.928**2, 0.01 * 0.928**49])


def test_a_share_of_the_epochs_scales_with_them() -> None:
    long = Train(epochs=250, schedule=Schedule(every="2%"))
    short = Train(epochs=20, schedule=Schedule(every="2%"))
    for share in (0, 0.1, 0.5, 0.99):
        assert learning_rate(long, 250 * share, None) == pytest.approx(learning_rate(short, 20 * share, None))


def test_the_rate_restarts_at_compression_if_asked_to() -> None:
    train = Train(epochs=10, schedule=Schedule(every=1, at_compression="restart"))
    assert learning_rate(train, 5.5, 6) == pytest.approx(0.01 * 0.928**5)
    assert learning_rate(train, 6, 6) == pytest.approx(0.01)
    assert learning_rate(train, 8, 6) == pytest.approx(0.01 * 0.928**2)


@pytest.mark.parametrize(
    ("epochs", "start", "expected"), [(250, "60%", 150), (250, 150, 150), (2, "60%", 1), (1, "60%", 0), (20, "60%", 12)]
)
def test_compression_leaves_at_least_one_epoch(epochs: int, start: int | str, expected: int) -> None:
    settings = Settings(train=Train(epochs=epochs), compression=Ternary(start=start))  # type: ignore[arg-type]
    assert compression_epoch(settings) == expected


@pytest.mark.parametrize(
    ("gradual", "expected"),
    [
        (None, {"conv2": 60, "conv3": 60, "fc1": 60}),
        (Gradual(), {"conv2": 60, "conv3": 70, "fc1": 80}),
        (Gradual(order="backward", over=10), {"fc1": 60, "conv3": 65, "conv2": 70}),
        (Gradual(over=1), {"conv2": 60, "conv3": 61, "fc1": 61}),
    ],
)
def test_gradual_compression_spreads_the_layers_evenly(gradual: Gradual | None, expected: dict[str, int]) -> None:
    settings = Settings(train=Train(epochs=100), compression=Ternary(gradual=gradual))
    assert compression_epochs(settings, ["conv2", "conv3", "fc1"]) == expected
    assert compression_epochs(settings, ["conv2"]) == {"conv2": 60}


def test_without_compression_no_layer_is_compressed() -> None:
    assert compression_epochs(Settings(), ["conv2"]) == {}


@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
def test_gradual_compression_fits_into_any_number_of_epochs(epochs: int) -> None:
    settings = Settings(train=Train(epochs=epochs), compression=Ternary(gradual=Gradual()))
    found = list(compression_epochs(settings, ["a", "b", "c", "d"]).values())
    assert found == sorted(found)
    assert found[0] == compression_epoch(settings)
    assert found[-1] < epochs
