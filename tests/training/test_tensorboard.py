"""Runs as TensorBoard logs: what TensorBoard itself reads is what the run's own metrics say, also after an interruption."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Tna
from tests.cli.conftest import recipe as recipe
from tests.cli.conftest import tna as tna
from tests.conftest import tiny_tna_t_snn
from tnacli.errors import Stopped
from tnacli.experiment import Experiment
from tnacli.recipe.identity import Run
from tnacli.runs.store import RunFolder
from tnacli.training.events import EpochDone, Event
from tnacli.training.stop import StopRequest

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra tensorboard"
)
Points = dict[str, list[tuple[int, Any]]]


def points(folder: Path) -> Points:
    """Every point of every scalar, as TensorBoard reads them."""
    log = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.SCALARS: 0}).Reload()
    return {tag: [(event.step, event.value) for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


def numbers(row: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float) and key != "epoch":
            yield above + key, value


def expected(folder: RunFolder) -> Points:
    """The same from metrics.jsonl and result.json."""
    found: Points = {}
    for row in folder.metrics():
        for tag, value in numbers(row):
            found.setdefault(tag, []).append((row["epoch"], pytest.approx(value, rel=1e-6)))
    result = folder.result
    for network, accuracy in (result.accuracy if result else {}).items():
        found[f"test_accuracy/{network}"] = [(result.selected_epoch, pytest.approx(accuracy, rel=1e-6))]
    return found


RUN = Run("tiny", "tna_t_snn", 0, tiny_tna_t_snn())


def test_a_log_says_what_the_metrics_say_behind_an_interruption_too(tmp_path: Path) -> None:
    from tnacli.training.tensorboard import TensorBoardLog

    stop, place = StopRequest(), tmp_path / "logs" / RUN.recipe / RUN.folder_name

    def until_the_third(run: Run, event: Event) -> None:
        log.emit(run, event)
        if isinstance(event, EpochDone) and event.epoch == 3:
            stop.ask(15)

    with TensorBoardLog(tmp_path / "logs", tmp_path) as log, pytest.raises(Stopped):
        Experiment(tmp_path, emit=until_the_third, stop=stop).execute(RUN)
    folder = RunFolder.of(tmp_path, RUN)
    assert points(place) == expected(folder)
    assert [step for step, _ in points(place)["train_loss"]] == [1, 2, 3]
    with TensorBoardLog(tmp_path / "logs", tmp_path) as log:
        Experiment(tmp_path, emit=log.emit).execute(RUN)
    found = points(place)
    assert found == expected(folder)
    assert [step for step, _ in found["train_loss"]] == [1, 2, 3, 4]
    assert {"learning_rate", "train_parts/matching", "accuracy/base", "firing_rate/conv1", "shares/fc1/zero"} <= set(
        found
    )
    assert [step for step, _ in found["shares/conv2/zero"]] == [3, 4]  # compressed after the second epoch


def test_hyperparameters_are_logged(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    from tnacli.training.tensorboard import RESULT, TensorBoardLog

    with TensorBoardLog(tmp_path / "logs", tmp_path) as log:
        Experiment(tmp_path, emit=log.emit).execute(RUN)
    folder = tmp_path / "logs" / RUN.recipe / RUN.folder_name
    contents = accumulator.EventAccumulator(str(folder)).Reload().PluginTagToContent("hparams")
    session = HParamsPluginData.FromString(contents["_hparams_/session_start_info"]).session_start_info.hparams
    assert session["objective.alpha"].number_value == 1e-3
    assert session["compression.mode"].string_value == "ternary"
    assert (session["run"].string_value, session["seed"].number_value) == ("tna_t_snn", 0)
    experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"]).experiment
    assert [metric.name.tag for metric in experiment.metric_infos] == [RESULT]
    assert RESULT in points(folder)


def test_the_command_logs_finished_runs_too_and_computes_the_same_run(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    one = ("train", recipe, "--run", "tna_t_snn", "--out", tmp_path / "runs", "--json")
    (trained,) = tna(*one).json["runs"]
    (found,) = tna(*one, "--tensorboard", tmp_path / "logs").json["runs"]
    assert (found["identity"], found["trained"]) == (trained["identity"], False)
    folder = RunFolder(Path(found["folder"]))
    assert points(tmp_path / "logs" / "tiny" / folder.path.name) == expected(folder)


@pytest.mark.slow
def test_runs_trained_at_once_are_each_in_a_log_of_its_own(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    trained = tna(
        "train", recipe, "--out", tmp_path / "runs", "--json", "--jobs", 2, "--tensorboard", tmp_path / "logs"
    )
    assert "--jobs 2: 2 at once" in trained.err
    folders = [RunFolder(Path(run["folder"])) for run in trained.json["runs"]]
    assert len(folders) == 2
    for folder in folders:
        assert points(tmp_path / "logs" / "tiny" / folder.path.name) == expected(folder)


def test_without_the_package_it_is_said_what_to_install(
    tna: Tna, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "torch.utils.tensorboard":
            raise ImportError(name)
        return load(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    result = tna("train", recipe, "--out", tmp_path / "runs", "--tensorboard", tmp_path / "logs")
    assert result.code == 2
    assert "pip install 'tnacli[tensorboard]'" in result.err
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_to_is_named(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = tna("train", recipe, "--out", tmp_path / "runs", "--tensorboard", tmp_path / "file" / "logs")
    assert result.code == 8
    assert "the TensorBoard log cannot be written" in result.err
    assert "--tensorboard" in result.err
