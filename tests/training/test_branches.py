"""A compressed run that begins from its stem's checkpoint computes what it computes alone, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_tna_t_snn
from tnacli.experiment import Experiment, Outcome
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Binary
from tnacli.training.branches import stem_of, wanted_epochs
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.events import Branched, EpochDone, Event

TERNARY = Run("tiny", "ternary", 0, tiny_tna_t_snn())
BINARY = Run("tiny", "binary", 0, TERNARY.settings.model_copy(update={"compression": Binary(start="50%")}))


def stem() -> Run:
    found = stem_of(TERNARY)
    assert found is not None
    return Run("tiny", "full", 0, found[0].settings)


def learned(outcome: Outcome) -> dict[str, torch.Tensor]:
    return load_checkpoint(outcome.checkpoint).tensors


def test_full_precision_and_compression_from_the_start_have_no_stem() -> None:
    assert stem_of(stem()) is None
    assert stem_of(Run("tiny", "from_start", 0, TERNARY.settings.model_copy(
        update={"compression": Binary(start=0)}))) is None  # fmt: skip
    assert wanted_epochs([stem(), TERNARY, BINARY]) == {stem().identity: frozenset({2})}


@pytest.mark.parametrize("branch", [TERNARY, BINARY], ids=["ternary", "binary"])
def test_a_branch_equals_the_run_alone(tmp_path: Path, branch: Run) -> None:
    alone = Experiment(tmp_path / "alone").execute(branch)
    events: list[Event] = []
    experiment = Experiment(tmp_path / "shared", emit=lambda run, event: events.append(event), coming=[stem(), branch])
    kept = experiment.execute(stem())
    assert kept.folder.kept(2).exists()
    events.clear()
    shared = experiment.execute(branch)
    assert [event.epochs for event in events if isinstance(event, Branched)] == [2]
    assert [event.epoch for event in events if isinstance(event, EpochDone)] == [3, 4]
    one, two = learned(alone), learned(shared)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert shared.result.accuracy == alone.result.accuracy
    timed = ("seconds", "samples_per_second")
    plain = [[{k: v for k, v in row.items() if k not in timed} for row in o.folder.metrics()] for o in (alone, shared)]
    assert plain[0] == plain[1]


def test_a_kept_checkpoint_stays_as_it_was_while_the_stem_goes_on(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path, coming=[TERNARY])
    outcome = experiment.execute(stem())
    assert load_checkpoint(outcome.folder.kept(2)).metadata.state.epoch == 2
    assert load_checkpoint(outcome.checkpoint).metadata.state.epoch == 4


def test_a_checkpoint_is_kept_where_files_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    outcome = Experiment(tmp_path, coming=[TERNARY]).execute(stem())
    assert load_checkpoint(outcome.folder.kept(2)).metadata.state.epoch == 2
    assert [path.name for path in outcome.folder.path.iterdir() if path.name.endswith(".part")] == []


def test_a_damaged_stem_is_no_stem(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path, coming=[TERNARY])
    kept = experiment.execute(stem()).folder.kept(2)
    kept.write_bytes(kept.read_bytes()[:1000])
    events: list[Event] = []
    Experiment(tmp_path, emit=lambda run, event: events.append(event)).execute(TERNARY)
    assert not [event for event in events if isinstance(event, Branched)]
    assert [event.epoch for event in events if isinstance(event, EpochDone)] == [1, 2, 3, 4]
