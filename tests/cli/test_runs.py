"""`tna runs` lists what is on disk, and keeps finished runs in a ledger."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Tna
from tests.cli.test_commands import on_a_terminal
from tnacli.runs.store import RunFolder


def test_runs_finished_interrupted_and_damaged(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    assert tna("train", recipe, "--out", out, "--set", "train.epochs=2").code == 0
    finished, interrupted = sorted(path.parent for path in out.glob("*/*/run.json"))
    (interrupted / "result.json").unlink()
    found = tna("runs", "--out", out, "--json").json
    assert [(one["status"], one["accuracy"] is None) for one in found["runs"]] == [
        ("finished", False),
        ("interrupted", True),
    ]
    assert found["runs"][0]["accuracy"] == RunFolder(finished).result.accuracy["base"]  # type: ignore[union-attr]
    assert found["runs"][0]["size_bytes"] == sum(file.stat().st_size for file in finished.iterdir())
    assert found["runs"][0]["altered"] == ["set train.epochs=2"]
    assert tna("runs", "--out", out).out.count("set train.epochs=2") == 2
    (interrupted / "run.json").write_text("{")
    (finished / "result.json").write_text("{}")
    listed = tna("runs", "--out", out)
    assert listed.code == 0
    assert listed.out.count("damaged") == 2
    assert tna("runs", "--out", tmp_path / "nowhere").code == 2


def test_runs_on_a_terminal(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    assert tna("train", recipe, "--out", tmp_path, "--run", "baseline", "--set", "train.epochs=1").code == 0
    code, shown = on_a_terminal(["runs", "--out", str(tmp_path)])
    assert code == 0
    assert "baseline" in shown
    assert "finished" in shown


def test_record(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    """A folder of runs, those that are not finished left out; damaged ones and what is no ledger are refused."""
    out, ledger = tmp_path / "runs", tmp_path / "ledger.jsonl"
    assert tna("train", recipe, "--out", out, "--set", "train.epochs=2").code == 0
    first, second = sorted(path.parent for path in out.glob("*/*/run.json"))
    (second / "result.json").rename(tmp_path / "result.json")
    assert tna("runs", "record", out, "--ledger", ledger, "--json").json == {
        "command": "runs record", "version": 1, "ledger": str(ledger), "new": 1, "known": 0,
    }  # fmt: skip
    (tmp_path / "result.json").rename(second / "result.json")
    assert "1 new, 1 there already" in tna("runs", "record", first, second, "--ledger", ledger).err
    assert len(ledger.read_text().splitlines()) == 2
    assert tna("runs", "record", tmp_path / "nowhere", "--ledger", ledger).code == 2
    assert tna("runs", "record", out, "--ledger", recipe).code == 8
    (first / "run.json").write_text("{}")
    assert tna("runs", "record", out, "--ledger", tmp_path / "other.jsonl").code == 4
    assert not (tmp_path / "other.jsonl").exists()
