"""Ways to ternary weights through the loop: exact resuming, the very weights in packed files, and fine-tuning with each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import TINY
from tests.training.test_loop import StopAfter, run_of, same, tensors
from tnacli.errors import DivergedError, Stopped, UsageError
from tnacli.experiment import Experiment, Outcome
from tnacli.exporting import export_checkpoint
from tnacli.packed.file import read_packed
from tnacli.quant.weights import compressed_layers, compression_mode
from tnacli.recipe.parse.load import load
from tnacli.recipe.schema.compression import Binary, Compression, Gradual, Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.objective import Solo, Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.training.checkpoint import Checkpoint, load_checkpoint, restore_network
from tnacli.training.events import Compressed, EpochDone, Event
from tnacli.training.fine_tune import compression_from_options, compression_run

STEPS = 4  # an epoch
FORWARD, BACKWARD = Gradual(over=2), Gradual(order="backward", over=2)
WAYS = {
    "mean": Ternary(start=2, threshold="mean"),
    "learned": Ternary(start=2, threshold="learned"),
    "from the start": Ternary(start=0, threshold="learned", share=0.4),
    "gradual": Ternary(start=1, delta=0.1, threshold="mean", gradual=FORWARD),
    "gradual, learned, backward": Ternary(start=0, threshold="learned", gradual=BACKWARD),
    "gradual, binary": Binary(start=1, gradual=FORWARD),
}


def settings_of(way: str) -> Settings:
    return TINY.model_copy(update={"objective": Twin(alpha=1e-3), "compression": WAYS[way]})


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(way: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, list[Event]]:
    """The uninterrupted run, and what it reported."""
    events: list[Event] = []
    experiment = Experiment(tmp_path_factory.mktemp("whole"), emit=lambda run, event: events.append(event))
    return experiment.execute(run_of(settings_of(way))), events


@pytest.mark.parametrize("steps", [1, 5, 9, 13])
def test_resumed_equals_uninterrupted(way: str, whole: tuple[Outcome, list[Event]], steps: int, tmp_path: Path) -> None:
    """Stops in every epoch: before, between and after the compressions of two layers."""
    run = run_of(settings_of(way))
    with pytest.raises(Stopped):
        Experiment(tmp_path, stop=StopAfter(steps)).execute(run)
    resumed = Experiment(tmp_path).execute(run)
    assert same(tensors(resumed), tensors(whole[0]))


def test_each_layer_is_compressed_when_it_should_be(way: str, whole: tuple[Outcome, list[Event]]) -> None:
    compression: Any = WAYS[way]
    outcome, events = whole
    found = [(event.epoch, tuple(event.shares)) for event in events if isinstance(event, Compressed)]
    start = int(compression.start)
    order = ("conv2", "fc1") if compression.gradual != BACKWARD else ("fc1", "conv2")
    expected = [(start, order)] if compression.gradual is None else [(start, order[:1]), (start + 2, order[1:])]
    assert found == expected
    last = expected[-1][0]
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.compressed for event in epochs] == [compression.mode if e >= last else None for e in range(4)]
    assert [len(event.shares) for event in epochs] == [sum(len(n) for at, n in found if at <= e) for e in range(4)]
    assert outcome.result.compressed == compression.mode


def test_the_packed_file_holds_the_same_weights_and_predicts_the_same(
    way: str, whole: tuple[Outcome, list[Event]], tmp_path: Path
) -> None:
    checkpoint = whole[0].checkpoint
    exported = export_checkpoint(checkpoint, tmp_path / "packed.safetensors")
    network = restore_network(load_checkpoint(checkpoint))
    assert exported.weights == sum(layer.synapse.weight.numel() for layer in network.hidden.values())
    assert exported.samples == 60
    assert exported.accuracy == whole[0].result.accuracy["base"]
    packed = read_packed(tmp_path / "packed.safetensors").weights
    for name, layer in network.hidden.items():
        stored = torch.from_numpy(packed[name].ternary()).float()
        assert torch.equal(stored.reshape(layer.synapse.weight.shape), layer.synapse.weight)


def learned_deltas(checkpoint: Path) -> torch.Tensor:
    """log Delta of every layer that has one, first to last."""
    state = load_checkpoint(checkpoint).under("networks/base")
    return torch.stack([value for name, value in state.items() if name.endswith("log_delta")])


def test_a_learned_delta_leaves_where_it_began_and_is_the_restored_networks(out: Path) -> None:
    compression = Ternary(start=2, threshold="learned")
    run = run_of(TINY.model_copy(update={"compression": compression}))
    with pytest.raises(Stopped):
        Experiment(out, stop=StopAfter(2 * STEPS)).execute(run)
    begun = learned_deltas(next(out.rglob("last.pt")))
    finished = Experiment(out).execute(run).checkpoint
    ended = learned_deltas(finished)
    assert len(begun) == 2
    assert not torch.isclose(begun, ended).any()
    restored = restore_network(load_checkpoint(finished))
    for layer, log_delta in zip(restored.hidden.values(), ended, strict=True):
        latent = layer.synapse.parametrizations.weight.original  # type: ignore[union-attr]
        assert torch.equal(layer.synapse.weight != 0, latent.abs() > log_delta.exp())


def test_a_partly_compressed_checkpoint_is_what_it_is(out: Path, tmp_path: Path) -> None:
    """It can be evaluated; it can be neither packed nor fine-tuned into what it half is."""
    run = run_of(settings_of("gradual"))
    with pytest.raises(Stopped):
        Experiment(out, stop=StopAfter(2 * STEPS)).execute(run)
    path = next(out.rglob("last.pt"))
    checkpoint = load_checkpoint(path)
    network = restore_network(checkpoint)
    assert compressed_layers(network) == {"conv2": "ternary"}
    assert compression_mode(network) is None
    with pytest.raises(UsageError, match="full-precision weights: fc1"):
        export_checkpoint(path, tmp_path / "packed.safetensors")
    with pytest.raises(UsageError, match="has ternary weights already"):
        compression_run(checkpoint, Ternary(start=0), source=str(path))


def test_only_an_epoch_with_all_layers_compressed_can_be_the_best(out: Path) -> None:
    data = TINY.data.model_copy(update={"validation_samples": 40})
    train = TINY.train.model_copy(update={"select": "val", "epochs": 6, "learning_rate": 0.05})
    compression = Ternary(start=1, threshold="learned", gradual=Gradual(over=2))
    settings = TINY.model_copy(update={"data": data, "train": train, "compression": compression})
    outcome = Experiment(out).execute(run_of(settings))
    rows = outcome.folder.metrics()
    assert [row["compressed"] for row in rows] == [None] * 3 + ["ternary"] * 3
    best = max(range(3, 6), key=lambda i: (rows[i]["accuracy"]["base"], -i))
    assert outcome.result.selected_epoch == best + 1
    assert compression_mode(restore_network(load_checkpoint(outcome.checkpoint))) == "ternary"


def test_the_fixed_delta_cannot_begin_at_the_start_and_says_what_can(out: Path) -> None:
    run = run_of(TINY.model_copy(update={"compression": Ternary(start=0, delta=5.0)}))
    with pytest.raises(DivergedError, match=r"compression\.threshold: mean"):
        Experiment(out).execute(run)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"threshold": "mean"}, Ternary(start=0, threshold="mean")),
        ({"threshold": "learned", "share": 0.5}, Ternary(start=0, threshold="learned", share=0.5)),
        (
            {"threshold": "mean", "gradual": "backward"},
            Ternary(start=0, threshold="mean", gradual=Gradual(order="backward")),
        ),
        ({"mode": "binary", "gradual": "forward"}, Binary(start=0, gradual=Gradual())),
    ],
)
def test_a_checkpoint_is_fine_tuned_each_way(
    options: dict[str, str], expected: Compression, trained_full: Outcome, out: Path
) -> None:
    checkpoint = load_checkpoint(trained_full.checkpoint)
    compression = compression_from_options(**options)  # type: ignore[arg-type]
    run = compression_run(checkpoint, compression, source="x", epochs=3)
    assert run.settings.compression == expected
    outcome = Experiment(out, initial={checkpoint.digest: checkpoint}).execute(run)
    assert outcome.result.compressed == expected.mode
    assert export_checkpoint(outcome.checkpoint, out / "packed.safetensors").samples == 60


@pytest.mark.parametrize(("data", "alpha"), [("cifar10", 1e-3), ("cifar100", 1e-3), ("fashion_mnist", 1e-4)])
def test_a_new_twin_is_matched_with_the_papers_alpha(data: str, alpha: float, trained_full: Outcome) -> None:
    """Table 1's, which its recipes have as well; the digits are not in the paper."""
    checkpoint = load_checkpoint(trained_full.checkpoint)
    settings = checkpoint.settings.model_copy(update={"objective": Solo()})
    other = settings.model_copy(update={"data": Data(name=data, size=(8, 8))})

    def of(settings: Settings) -> Checkpoint:
        return replace(checkpoint, metadata=checkpoint.metadata.model_copy(update={"settings": settings}))

    run = compression_run(of(other), Ternary(start=0), source="x", twin=True)
    assert isinstance(run.settings.objective, Twin)
    assert run.settings.objective.alpha == alpha
    table = load(f"table1_{data}").recipe.runs["tna"].objective
    assert isinstance(table, Twin)
    assert table.alpha == alpha
    with pytest.raises(UsageError, match=r"no alpha for digits: .*--alpha"):
        compression_run(of(settings), Ternary(start=0), source="x", twin=True)
    matched = compression_run(of(settings), Ternary(start=0), source="x", twin=True, alpha=0.25)
    assert matched.settings.objective == Twin(alpha=0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "binary", "threshold": "mean"}, "--threshold applies to ternary"),
        ({"threshold": "median"}, "threshold: Input should be 'fixed', 'mean' or 'learned'"),
        ({"gradual": "sideways"}, "order: Input should be 'forward' or 'backward'"),
        ({"threshold": "mean", "delta": 0.2}, "delta has no effect with threshold: mean"),
        ({"share": 0.2}, "share has no effect with threshold: fixed"),
        ({"gradual": "forward", "epochs": 0}, r"compression\.gradual\.over is 20% .*no epoch"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, str], message: str, trained_full: Outcome) -> None:
    checkpoint = load_checkpoint(trained_full.checkpoint)
    epochs = options.pop("epochs", None)
    with pytest.raises(UsageError, match=message):
        compression_run(checkpoint, compression_from_options(**options), source="x", epochs=epochs)  # type: ignore[arg-type]
