"""The whole story through the command line, and the mistakes that users make on the way."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import tnacli
from tests.cli.conftest import Tna, environment
from tnacli.experiment import Outcome


def test_from_recipe_to_packed_file(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    """train, evaluate, ternarize, export, evaluate the packed file, inspect: each takes what the one before made."""
    out = tmp_path / "runs"
    trained = tna("train", recipe, "--out", out, "--json")
    assert trained.code == 0, trained.err
    baseline, ternary = trained.json["runs"]
    assert (baseline["compressed"], ternary["compressed"]) == (None, "ternary")
    assert set(ternary["accuracy"]) == {"base", "sibling1"}

    evaluated = tna("evaluate", baseline["checkpoint"], "--json")
    assert evaluated.json["accuracy"] == baseline["accuracy"]["base"]
    assert evaluated.json["firing_rate"] == pytest.approx(baseline["firing_rate"])
    sibling = tna("evaluate", ternary["checkpoint"], "--network", "sibling1", "--json").json
    assert (sibling["accuracy"], sibling["weights"]) == (ternary["accuracy"]["sibling1"], "fp32")

    refused = tna("export", baseline["checkpoint"], "-o", tmp_path / "no.safetensors")
    assert refused.code == 2
    assert f"tna ternarize {baseline['checkpoint']}" in refused.err
    assert not (tmp_path / "no.safetensors").exists()

    made = tna("ternarize", baseline["checkpoint"], "--delta", "0.05", "--out", out, "--json")
    assert made.code == 0, made.err
    (run,) = made.json["runs"]
    assert (run["compressed"], run["epochs"]) == ("ternary", 2)

    for encoding in ("2bit", "base3"):
        packed = tmp_path / f"{encoding}.safetensors"
        exported = tna("export", run["checkpoint"], "-o", packed, "--encoding", encoding)
        assert exported.code == 0, exported.err
        assert "60 of 60 predictions equal" in exported.out
        again = tna("evaluate", packed, "--samples", 60, "--json").json
        assert again["accuracy"] == run["accuracy"]["base"]
        inspected = tna("inspect", packed, "--json").json
        assert next(layer["encoding"] for layer in inspected["layers"]) == "fp32"
        assert (inspected["recipe"], inspected["run"]) == ("tiny", "baseline-ternary")
    assert (tmp_path / "base3.safetensors").stat().st_size < (tmp_path / "2bit.safetensors").stat().st_size

    assert tna("export", run["checkpoint"], "-o", packed).code == 2
    assert tna("export", run["checkpoint"], "-o", packed, "--force").code == 0


def test_finished_runs_are_taken_from_disk(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    first = tna("train", recipe, "--run", "baseline", "--out", tmp_path, "--json").json
    again = tna("train", recipe, "--run", "baseline", "--out", tmp_path, "--json")
    assert [run["trained"] for run in (*first["runs"], *again.json["runs"])] == [True, False]
    assert "finished before" in again.err
    plan = tna("train", recipe, "--out", tmp_path, "--dry-run", "--json").json
    assert [run["status"] for run in plan["runs"]] == ["finished", "new"]


@pytest.mark.parametrize("options", [(), ("--jobs", 2)], ids=["in turn", "at once"])
def test_what_a_compressed_run_needs_is_kept_for_another_day(
    tna: Tna, recipe: Path, tmp_path: Path, options: tuple[object, ...]
) -> None:
    recipe.write_text(recipe.read_text() + "  tna: {objective: {kind: twin, alpha: 1e-2}}\n")
    tna("train", recipe, "--run", "baseline", "--run", "tna", "--out", tmp_path, "-q", *options)
    later = tna("train", recipe, "--run", "tna_t_snn", "--out", tmp_path)
    assert later.code == 0
    assert "tna_t_snn seed 0: its first 2 epochs are those of" in later.err
    assert [path.parent.name.split("-")[0] for path in tmp_path.rglob("epoch-*.pt")] == ["tna"]


def test_a_run_does_not_need_what_another_starts_from(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text() + "  tuned: {train: {initial: not_yet.pt}}\n")
    assert tna("train", recipe, "--run", "baseline", "--out", tmp_path).code == 0
    (result,) = tnacli.train(recipe, run="baseline", out=tmp_path, quiet=True)
    assert result.name == "baseline"
    assert "not_yet.pt: no such file" in tna("train", recipe, "--run", "tuned", "--out", tmp_path).err


def test_a_diverged_run_does_not_stop_the_others(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    hopeless = (
        "--set",
        "runs.baseline.train.learning_rate=1e30",
        "--set",
        "train.epochs=1",
        "--out",
        tmp_path / "runs",
    )
    arguments = ("train", recipe, "--set", "runs.tna_t_snn.compression=null", *hopeless)
    first = tna(*arguments)
    assert first.code == 7
    baseline, tna_run = first.out.splitlines()[:-3:-1]
    assert baseline.split()[:4] == ["baseline", "fp32", "0", "diverged"]
    assert "%" in first.out
    assert tna_run.split()[:3] == ["tna_t_snn", "fp32", "0"]
    assert first.err.splitlines()[-1].startswith("error: 1 of 2 runs diverged: baseline seed 0;")
    again = tna(*arguments, "--json")
    assert again.code == 7
    assert [(run["run"], run["trained"]) for run in again.json["runs"]] == [("tna_t_snn", False)]
    (diverged,) = again.json["diverged"]
    assert (diverged["run"], diverged["seed"]) == ("baseline", 0)
    assert "learning_rate" in diverged["message"]


def test_a_result_that_no_run_stored_is_refused_and_made_anew(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    arguments = ("train", recipe, "--run", "baseline", "--out", tmp_path, "--json")
    (first,) = tna(*arguments).json["runs"]
    result = Path(first["folder"]) / "result.json"
    whole = json.loads(result.read_text())
    for wrong, place in (({"a": 1}, "recipe"), ({**whole, "accuracy": {}}, "accuracy: has no base")):
        result.write_text(json.dumps(wrong))
        for command in (arguments, ("report", recipe, "--out", tmp_path)):
            refused = tna(*command)
            assert refused.code == 8
            assert f"error: {result}: not the result of a run: {place}" in refused.err
            assert "Delete it, and the same `tna train` writes it anew" in refused.err
    result.unlink()
    (again,) = tna(*arguments).json["runs"]
    assert (again["accuracy"], again["loss"]) == (first["accuracy"], first["loss"])


def test_results_say_what_altered_them(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    result = tna("train", recipe, "--run", "baseline", "--set", "train.epochs=1", "--out", tmp_path)
    assert result.code == 0
    assert "set train.epochs=1" in result.out


def test_a_recipe_may_ask_for_packed_files(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text("export: true\n" + recipe.read_text())
    (run,) = tna("train", recipe, "--run", "tna_t_snn", "--out", tmp_path, "--json").json["runs"]
    assert run["packed"]["accuracy"] == run["accuracy"]["base"]
    assert Path(run["packed"]["path"]).stat().st_size == run["packed"]["size_bytes"]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["train", "nope"], 3, "no shipped recipe has that name"),
        (["train", "quickstart", "--set", "train.epoch=3"], 3, "did you mean 'epochs'?"),
        (["train", "quickstart", "--run", "baselin"], 2, "baseline"),
        (["train", "quickstart", "--device", "cuda:9", "--seed", "0"], 5, "cuda:9 is not there"),
        (["train", "table1_cifar100", "--with", "laptop", "--data-root", "/nowhere"], 4, "/nowhere"),
        (["train", "quickstart", "--with", "smokey"], 3, "did you mean 'smoke'?"),
        (["train"], 2, "Missing argument"),
        (
            ["evaluate", "missing.pt"],
            8,
            "missing.pt: no such file; give a checkpoint (last.pt in the folder of a run), that folder, or a packed file",
        ),
        (["evaluate", "."], 8, ". is a folder without a checkpoint (last.pt)"),
        (["evaluate", __file__], 8, "test_commands.py"),
        (["evaluate", "x", "--delta", "0.1"], 2, "--ternary"),
        (["inspect", "missing"], 8, "missing: no such file; give a checkpoint"),
        (["export", "missing.pt"], 8, "no such file"),
        (["export", "missing.pt", "-o", "y.onnx", "--format", "packed"], 2, "y.onnx is a name of --format onnx"),
        (["export", "missing.pt", "-o", "y.h", "--format", "nir"], 2, "y.h is a name of --format c, and this writes"),
        (["export", "missing.pt", "-o", "./", "--force"], 8, "missing.pt: no such file"),
        (
            ["export", "missing.pt", "-o", "/dev/null", "--force"],
            8,
            "/dev/null: could not be written: it is not a regular",
        ),
        (
            ["export", __file__, "-o", "x.nir"],
            8,
            "not a packed file of tnacli: it does not begin as a safetensors file does",
        ),
        (
            ["ternarize", __file__],
            8,
            "test_commands.py is a text file, as recipes and exported C are, and a checkpoint is asked for",
        ),
        (["predict", "missing.pt", "x.png"], 8, "missing.pt: no such file"),
        (["predict", "/dev/null", "x.png"], 8, "/dev/null: not a regular file; give a checkpoint"),
        (["ternarize", "missing.pt", "--delta", "0"], 2, "--delta must be above 0, not 0"),
        *(
            (command, 2, "--device is auto, cpu, mps, cuda, or cuda:1 and so on; not 'foo'")
            for command in (
                ["train", "quickstart", "--device", "foo"],
                ["compare-kd", "quickstart", "--device", "foo"],
                ["ternarize", "missing.pt", "--device", "foo"],
            )
        ),
        (["data", "prepare", "cifar11"], 2, "cifar100"),
        (
            ["data", "prepare", "folder", "--data-root", "/nowhere"],
            4,
            "The folder of data sets is /nowhere (--data-root, or",
        ),
        (["data", "prepare", "folder"], 4, "and name the folder with --data-root, or data.root in a recipe"),
        (["recipes", "tabel1_cifar10"], 3, "table1_cifar10"),
        (["wrong"], 2, "No such command"),
    ],
)
def test_mistakes_are_explained(tna: Tna, tmp_path: Path, arguments: list[str], code: int, expected: str) -> None:
    if arguments[0] == "train":
        arguments = [*arguments, "--out", str(tmp_path)]
    result = tna(*arguments)
    assert (result.code, expected in result.err, result.out) == (code, True, ""), result.err
    assert "Traceback" not in result.err


def test_data_prepare_takes_what_its_messages_ask_for(tna: Tna, tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number, side in enumerate((4, 6)):
            Image.effect_noise((side, side), 50).save(tmp_path / label / f"{number}.png")
    prepare = ("data", "prepare", "folder", "--data-root", tmp_path)
    refused = tna(*prepare)
    assert refused.code == 4
    assert "data.size: [height, width] in a recipe, --size of `tna data prepare`" in refused.err
    done = tna(*prepare, "--size", 5, 7)
    assert done.code == 0, done.err
    assert "2 training and 2 test samples of 2 classes, 1x5x7" in done.err
    assert f"{tmp_path} has no test folder beside it: one file in 5 of each class is its test set" in done.err
    for given, said in (
        (("--size", 0, 8), "--size must be [height, width], both at least 1"),
        (("--sensor", 8, 8), "--sensor belongs to event_folder"),
        (("--download",), "--download has no effect: folder stands for files of one's own"),
    ):
        refused = tna(*prepare, *given)
        assert (refused.code, said in refused.err) == (2, True), refused.err


def test_what_is_advised_where_data_is_missing_can_be_done(
    tna: Tna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command in the message is whole, so that it is one wherever the message is read."""
    monkeypatch.chdir(tmp_path)
    for name in ("cifar10", "nmnist"):
        said = tna("data", "prepare", name).err
        advised = re.findall(r"`([^`]+)`", said)
        assert len(advised) == 2
        for command in advised:
            program, *words = command.split()
            assert program == "tna"
            options = [word for word in words if word.startswith("--")]
            path = [word for word in words if word in ("train", "data", "prepare")]
            assert all(option in tna(*path, "--help").out for option in options), command


def test_ternary_evaluation_of_a_full_precision_checkpoint(tna: Tna, trained_full: Outcome) -> None:
    full = tna("evaluate", trained_full.checkpoint, "--json").json
    ternary = tna("evaluate", trained_full.checkpoint, "--ternary", "--delta", "0.05", "--json").json
    assert (full["weights"], ternary["weights"]) == ("fp32", "ternary")
    hopeless = tna("evaluate", trained_full.checkpoint, "--ternary", "--delta", "9")
    assert hopeless.code == 7
    assert "every weight of these layers becomes zero" in hopeless.err


@pytest.mark.parametrize("split", ["train", "test"])
def test_splits(tna: Tna, trained_full: Outcome, split: str) -> None:
    assert tna("evaluate", trained_full.checkpoint, "--split", split, "--json").json["samples"] == (
        120 if split == "train" else 60
    )


def test_every_command_shows_examples(tna: Tna) -> None:
    for command in ("train", "ternarize", "evaluate", "export", "inspect", "recipes", "data"):
        result = tna(command, "--help")
        assert result.code == 0
        assert f"tna {command}" in result.out


def on_a_terminal(arguments: list[str], **extra: str) -> tuple[int, str]:
    """Exit code and everything that a terminal of 100 columns receives."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tnacli", *arguments],
        stdin=child, stdout=child, stderr=child, env=environment(COLUMNS="100", LINES="40", **extra), close_fds=True,
    )  # fmt: skip
    os.close(child)
    received = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        received += part
    os.close(parent)
    return process.wait(60), received.decode(errors="replace")


def test_a_terminal_gets_a_live_view_and_a_framed_table(recipe: Path, tmp_path: Path) -> None:
    code, seen = on_a_terminal(["train", str(recipe), "--out", str(tmp_path / "runs")])
    assert code == 0
    assert "\x1b[" in seen
    assert "loading PyTorch ..." in seen
    assert "all runs" in seen
    assert "━" in seen or "─" in seen
    assert "tna_t_snn" in seen


def test_a_pipe_gets_plain_lines(recipe: Path, tmp_path: Path, shell) -> None:  # type: ignore[no-untyped-def]
    done = shell("train", recipe, "--run", "baseline", "--out", tmp_path / "a-rather-long-folder-name" / ("x" * 120))
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "…" not in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert [line.split(",")[0] for line in lines if "samples/s" in line] == [
        f"baseline seed 0: epoch {number}/3" for number in (1, 2, 3)
    ]
    (checkpoint,) = tmp_path.glob("*/*/tiny/baseline-*/last.pt")
    assert lines[-1] == f"checkpoint: {checkpoint}"
    assert "baseline" in done.stdout
    assert "epoch" not in done.stdout


def test_a_person_reads_rounded_numbers_and_a_script_whole_ones(tna: Tna, trained: Outcome, tmp_path: Path) -> None:
    packed = tmp_path / "a.safetensors"
    tna("export", trained.checkpoint, "-o", packed)
    accuracy = tna("inspect", packed, "--json").json["accuracy"]
    assert accuracy == trained.result.accuracy["base"]
    shown = tna("inspect", packed).out
    assert f"test accuracy      {accuracy:.2f} %\n" in shown
    facts = shown.partition("\nlayer ")[0].splitlines()
    assert all(len(line.split("  ", 1)) == 2 for line in facts), "a row without a value"
    assert "sensor" not in shown


def test_a_live_view_shows_that_training_is_about_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from tnacli.cli.console import Output
    from tnacli.cli.progress import TrainingView

    monkeypatch.setattr(Output, "live", property(lambda output: True))
    view = TrainingView(Output(), [])

    def drawn() -> str:
        console = Console(width=100)
        with console.capture() as captured:
            console.print(view._board)
        return captured.get()

    assert "stopping" not in drawn()
    view.show_stopping()
    assert "stopping after this step; saving ..." in drawn()
