"""`--json` prints a document for every end: what it was, its exit code, and what is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.conftest import Result, Tna
from tests.cli.test_contract import SCHEMAS, check, undocumented
from tnacli import errors
from tnacli.cli.document import finish, hold
from tnacli.cli.documents.lists import Data, Recipes
from tnacli.errors import TnaError
from tnacli.experiment import Experiment, Outcome
from tnacli.runs.store import RunFolder


def ended(result: Result, kind: str, code: int) -> dict[str, Any]:
    """The document of a command that ended so; its message is on stderr, too."""
    check("error", result.json)
    error = result.json["error"]
    assert (error["kind"], error["exit_code"], result.code) == (kind, code, code)
    said = "".join(result.err.split())  # Typer frames its own and folds them
    assert "".join(error["message"].replace("\n", "").split()) in said.replace("│", "")
    return result.json  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("arguments", "command", "kind", "code"),
    [
        ("train --json", "train", "UsageError", 2),
        ("train quickstart --nothing --json", "train", "UsageError", 2),
        ("train quickstart --seed x --json", "train", "UsageError", 2),
        ("train quickstart --device foo --json", "train", "UsageError", 2),
        ("train quickstart --shard 9/1 --json", "train", "UsageError", 2),
        ("wrong --json", "wrong", "UsageError", 2),
        ("--json", None, "UsageError", 2),
        ("data prepare digits --json", "data prepare", "UsageError", 2),
        ("data --json nothing", "data", "UsageError", 2),
        ("recipes quickstart --json", "recipes", "UsageError", 2),
        ("train nothing --json", "train", "RecipeError", 3),
        ("train quickstart --set train.epoch=3 --dry-run --json", "train", "RecipeError", 3),
        ("report nothing --format json", "report", "RecipeError", 3),
        ("report nothing --format=json", "report", "RecipeError", 3),
        ("compare-kd nothing --json", "compare-kd", "RecipeError", 3),
        ("train table1_cifar10 --data-root nowhere --json", "train", "DataError", 4),
        ("train quickstart --device cuda:99 --json", "train", "DeviceError", 5),
        ("doctor --out a-file/runs --json", "doctor", "DeviceError", 5),
        ("report quickstart --check --json", "report", "ToleranceError", 6),
        ("inspect nothing --json", "inspect", "FileFormatError", 8),
        ("ternarize nothing --json", "ternarize", "FileFormatError", 8),
        ("export nothing --json", "export", "FileFormatError", 8),
        ("evaluate a-file --json", "evaluate", "FileFormatError", 8),
        ("train quickstart --out a-file/runs --json", "train", "StorageError", 8),
    ],
)
def test_mistakes_have_a_document(
    tna: Tna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, command: str | None, kind: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("text")
    document = ended(tna(*arguments.split()), kind, code)
    assert document["command"] == command
    quiet = tna(*(word for word in arguments.replace("--format json", "").split() if "json" not in word))
    assert not quiet.out.startswith("{"), "a document that nobody asked for"


def test_every_kind_of_error_is_in_the_schema() -> None:
    kinds = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, TnaError)} - {TnaError}
    described = SCHEMAS["error"]["$defs"]["Error"]["properties"]
    assert set(described["kind"]["enum"]) == {kind.__name__ for kind in kinds} | {"Bug"}
    assert set(described["exit_code"]["enum"]) == {kind.exit_code for kind in kinds} | {1}


def finished(document: dict[str, Any]) -> list[str]:
    """The finished runs of an ended training, whose document is otherwise that of one that came to its end."""
    check("train", document)
    assert undocumented("train", document) == set()
    return [run["run"] for run in document["runs"]]


def test_runs_that_are_finished_are_listed_when_the_time_is_up(tna: Tna, recipe: Path, out: Path) -> None:
    assert tna("train", recipe, "--run", "baseline", "--out", out).code == 0
    limited = ("train", recipe, "--out", out, "--time-limit", "0")
    assert finished(ended(tna(*limited, "--json"), "Stopped", 75)) == ["baseline"]
    shown = tna(*limited)
    assert shown.code == 75
    assert [line.split()[0] for line in shown.out.splitlines()] == ["tiny", "run", "baseline"]
    assert shown.err.splitlines()[-1].startswith("stopped: time limit reached; saved")


def test_runs_that_are_finished_are_listed_when_the_next_is_busy(tna: Tna, recipe: Path, out: Path) -> None:
    plan = tna("train", recipe, "--out", out, "--dry-run", "--json").json
    folder = RunFolder(Path(plan["runs"][1]["folder"]))
    with folder.locked():
        assert finished(ended(tna("train", recipe, "--out", out, "--json"), "RunBusyError", 75)) == ["baseline"]
        shown = tna("train", recipe, "--out", out)
    assert [line.split()[0] for line in shown.out.splitlines()] == ["tiny", "run", "baseline"]


def test_of_a_diverged_run_and_a_stopped_one_both_are_told(tna: Tna, recipe: Path, out: Path) -> None:
    hopeless = ("--set", "runs.baseline.train.learning_rate=1e30", "--set", "train.epochs=1")
    document = ended(tna("train", recipe, "--out", out, *hopeless, "--json"), "DivergedError", 7)
    assert finished(document) == ["tna_t_snn"]
    assert [run["run"] for run in document["diverged"]] == ["baseline"]


def test_a_bug_has_a_document_and_keeps_its_traceback(
    tna: Tna, recipe: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    execute = Experiment.execute

    def broken(self: Experiment, run: Any, **options: Any) -> Outcome:
        if run.name == "baseline":
            return execute(self, run, **options)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Experiment, "execute", broken)
    with pytest.raises(ZeroDivisionError) as bug:
        tna("train", recipe, "--out", out, "--json")
    assert bug.traceback[-1].name == "broken"
    document = json.loads(capsys.readouterr().out)
    check("error", document)
    assert document["error"] == {"kind": "Bug", "message": "ZeroDivisionError: a bug", "exit_code": 1}
    assert finished(document) == ["baseline"]


def test_a_comparison_that_is_stopped_shows_what_is_there(tna: Tna, recipe: Path, out: Path) -> None:
    arguments = ("compare-kd", recipe, "--alpha", "1e-3", "--set", "train.epochs=1", "--out", out)
    nothing = tna(*arguments, "--time-limit", "0")
    assert (nothing.code, nothing.out) == (75, "")
    assert tna("train", recipe, "--run", "baseline", "--set", "train.epochs=1", "--out", out).code == 0
    document = ended(tna(*arguments, "--time-limit", "0", "--json"), "Stopped", 75)
    jsonschema.Draft202012Validator(SCHEMAS["compare_kd"]).validate(document)
    rows = {row["method"]: row for row in document["methods"]}
    assert rows["baseline"]["accuracy"]["count"] == 1
    assert (rows["TNA"]["accuracy"], rows["TNA"]["notes"]) == (None, "seed 0 is not trained; set train.epochs=1")


def test_files_evaluated_before_a_broken_one_are_listed(tna: Tna, trained: Outcome, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(trained.checkpoint.read_bytes()[:-300])
    document = ended(tna("evaluate", trained.checkpoint, broken, "--json"), "FileFormatError", 8)
    (record,) = document["finished"]
    check("evaluate", record)
    assert record["file"] == str(trained.checkpoint)


def test_what_is_held_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    hold(Recipes(recipes=[], overlays=[]))
    hold(Data(data=[]))
    finish(sys.stdout, [], SystemExit(0))
    assert json.loads(capsys.readouterr().out) == {"command": "data", "version": 1, "data": []}
    finish(sys.stdout, ["train"], SystemExit(0))
    finish(sys.stdout, ["train", "--", "--json"], errors.UsageError("wrong"))
    assert capsys.readouterr().out == ""
