"""A ledger gives back the runs that it was written from, each once, and refuses what is none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.cli.conftest import recipe as recipe
from tests.cli.conftest import tna as tna
from tests.documents import ROOT
from tnacli.errors import DataError, FileFormatError
from tnacli.experiment import Outcome
from tnacli.packed.file import read_packed
from tnacli.recipe.identity import Run
from tnacli.recipe.parse.load import load, plan
from tnacli.recipe.schema.model import Model
from tnacli.runs.ledger import DIGITS, entry_of, read, record
from tnacli.runs.recorded import Ledger
from tnacli.runs.store import RunFolder

KEPT = ROOT / "docs" / "results"


def test_a_report_from_a_ledger_is_that_from_the_folders(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    """Tables, effects and curves; but for the digits that a ledger keeps of a curve."""
    out, ledger = tmp_path / "runs", tmp_path / "kept" / "ledger.jsonl"
    assert tna("train", recipe, "--out", out).code == 0
    folders = [RunFolder(path.parent) for path in sorted(out.rglob("result.json"))]
    assert record(folders, ledger) == (2, 0)
    for arguments in ((recipe, "--json"), (recipe, "--format", "csv")):
        from_folders = tna("report", *arguments, "--out", out)
        from_ledger = tna("report", *arguments, "--ledger", ledger.parent)
        assert (from_ledger.code, from_ledger.out) == (from_folders.code, from_folders.out)
    recorded = Ledger.at(ledger)
    assert [again.path.relative_to(ledger) for again in recorded.folders] == [
        one.path.relative_to(out) for one in folders
    ]
    for folder, again in zip(folders, recorded.folders, strict=True):
        assert again.status == "finished"
        assert again.begun is not None
        assert folder.begun is not None
        assert again.begun.settings == folder.begun.settings
        for ours, theirs in zip(again.metrics(), folder.metrics(), strict=True):
            assert ours["epoch"] == theirs["epoch"]
            assert ours["train_parts"] == pytest.approx(theirs["train_parts"], rel=10.0 ** (1 - DIGITS))
            assert ours["accuracy"] == pytest.approx(theirs["accuracy"], rel=10.0 ** (1 - DIGITS))


def test_what_it_has_already_keeps_its_line(trained: Outcome, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    assert record([trained.folder], ledger) == (1, 0)
    before = ledger.read_bytes()
    assert record([trained.folder, trained.folder], ledger) == (0, 2)
    assert ledger.read_bytes() == before
    (entry,) = read(ledger)
    assert entry.run.identity == trained.run.identity
    assert entry.result.versions.processor is not None
    assert str(tmp_path) not in ledger.read_text(), "no path of this machine"


@pytest.mark.parametrize(("name", "root"), [("folder", "mine"), ("event_folder", "mine"), ("cifar10", None)])
def test_it_names_no_folder_of_this_machine(trained: Outcome, tmp_path: Path, name: str, root: str | None) -> None:
    """Of data, of a function that makes the network, and of a checkpoint that it began from; the identity is the same."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(trained.folder.path, folder.path)
    result, begun = folder.result, folder.require_begun()
    settings = begun.settings
    placed = settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"name": name, "root": f"{tmp_path}/mine"}),
            "model": Model(build=f"{tmp_path}/own:make"),
            "train": settings.train.model_copy(update={"initial": f"{tmp_path}/first.pt"}),
        }
    )
    assert result is not None
    run = Run(result.recipe, result.run, result.seed, placed, (), "0" * 64)
    begun = begun.model_copy(update={"settings": placed, "initial": run.initial})
    folder.finish(result.model_copy(update={"initial": run.initial, "identity": run.identity}))
    (folder.path / "run.json").write_text(begun.model_dump_json())
    entry = entry_of(folder)
    assert (entry.settings.data.root, entry.settings.model.build, entry.settings.train.initial) == (
        root,
        "own:make",
        "first.pt",
    )
    assert entry.run.identity == run.identity
    record([folder], tmp_path / "ledger.jsonl")
    assert str(tmp_path) not in (tmp_path / "ledger.jsonl").read_text()
    (recorded,) = Ledger.at(tmp_path / "ledger.jsonl").folders
    assert Ledger.at(tmp_path / "ledger.jsonl").of(run).result == recorded.result


def test_a_line_of_another_version(trained: Outcome, tmp_path: Path) -> None:
    """It is found under the identity of today, and the same run beside it is refused before one of them would be lost."""
    line = json.dumps(entry_of(trained.folder).model_dump(mode="json"))
    older = line.replace(f'"identity": "{trained.run.identity}"', '"identity": "0000000000"')
    assert older != line
    (tmp_path / "ledger.jsonl").write_text(f"{older}\n")
    result = Ledger.at(tmp_path / "ledger.jsonl").of(trained.run).result
    assert result is not None
    assert result.identity == trained.run.identity
    (tmp_path / "ledger.jsonl").write_text(f"{older}\n{line}\n")
    with pytest.raises(FileFormatError, match="has a run twice"):
        record([trained.folder], tmp_path / "ledger.jsonl")


def test_a_line_is_read_when_its_run_is_asked_for(trained: Outcome, tmp_path: Path) -> None:
    """So a report reads its own; one that is no finished run is refused by then, by its place."""
    entry = entry_of(trained.folder)
    line = json.dumps(entry.model_dump(mode="json"))
    damaged = line.replace(f'"identity": "{trained.run.identity}"', '"identity": "0000000000"')
    damaged = damaged.replace('"epochs": ', '"epoks": ')
    assert len({line, damaged}) == 2
    (tmp_path / "ledger.jsonl").write_text(f"{line}\n{damaged}\n")
    recorded = Ledger.at(tmp_path / "ledger.jsonl")
    assert recorded.of(trained.run).result == entry.result
    for ask in (lambda: recorded.folders, lambda: read(tmp_path / "ledger.jsonl")):
        with pytest.raises(FileFormatError, match=r"ledger.jsonl:2: no line of a ledger: .*epo"):
            ask()


def test_a_run_that_is_not_finished_is_no_line(trained: Outcome, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((trained.folder.path / "run.json").read_bytes())
    with pytest.raises(DataError, match="is not finished"):
        record([trained.folder, RunFolder(tmp_path)], tmp_path / "ledger.jsonl")
    assert not (tmp_path / "ledger.jsonl").exists()


def test_what_is_no_ledger_is_refused(
    trained: Outcome, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    line = json.dumps(entry_of(trained.folder).model_dump(mode="json"))
    for text, why in [
        ("{}\n", r"1: no line of a ledger: settings: Field required"),
        (f"{line}\n{line[:-9]}\n", r"2: no line of a ledger"),
        (f"{line}\n{line}\n", r"2: the same run as .*:1; delete one"),
        (f"{line.replace('fp32', 'fp8')}\n", r"1: no line of a ledger"),
    ]:
        (tmp_path / "ledger.jsonl").write_text(text)
        with pytest.raises(FileFormatError, match=why):
            read(tmp_path / "ledger.jsonl")
    with pytest.raises(DataError, match="no ledger"):
        read(tmp_path_factory.mktemp("empty"))
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "none.jsonl")


def test_recipes_that_share_a_run_may_each_have_it_in_their_ledger(trained: Outcome, tmp_path: Path) -> None:
    """A report of the folder takes either, as both say the same; it does not choose between two results."""
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    record([trained.folder], one)
    line = json.loads(one.read_text())
    line["result"] |= {"recipe": "other", "seconds": 2 * line["result"]["seconds"]}
    other.write_text(json.dumps(line) + "\n")
    (entry,) = read(tmp_path)
    assert entry.result.recipe == trained.run.recipe
    for where in ("accuracy", "loss", "validation"):
        changed = {**line, "result": {**line["result"], where: {**line["result"][where], "base": 12.5}}}
        other.write_text(json.dumps(changed) + "\n")
        with pytest.raises(FileFormatError, match=r"other.jsonl:1: the run of .*one.jsonl:1 with other results; keep"):
            read(tmp_path)
    other.write_text(f"{json.dumps(line)}\n{json.dumps(line)}\n")
    with pytest.raises(FileFormatError, match=r"other.jsonl:2: the same run as .*; delete"):
        read(tmp_path)


@pytest.mark.parametrize("version", ["this", "another"])
def test_a_report_does_not_choose_between_two_precisions(trained: Outcome, tmp_path: Path, version: str) -> None:
    ledger = tmp_path / "ledger.jsonl"
    record([trained.folder], ledger)
    line = json.loads(ledger.read_text())
    if version == "another":
        line["result"]["identity"] = "0123456789"
    bf16 = {**line, "result": {**line["result"], "precision": "bf16"}}
    ledger.write_text(f"{json.dumps(line)}\n{json.dumps(bf16)}\n")
    with pytest.raises(
        FileFormatError, match=r"jsonl:2: the run of .*jsonl:1 on other data or in another precision.*keep"
    ):
        Ledger.at(ledger).of(trained.run)


def test_a_run_that_two_older_versions_recorded_is_named_as_that(trained: Outcome, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    record([trained.folder], ledger)
    line = json.loads(ledger.read_text())
    older = [{**line, "result": {**line["result"], "identity": identity}} for identity in ("0123456789", "9876543210")]
    ledger.write_text("".join(json.dumps(one) + "\n" for one in older))
    with pytest.raises(FileFormatError, match=r"jsonl:2: the run of .*jsonl:1, recorded by another version .*; delete"):
        Ledger.at(ledger).of(trained.run)


@pytest.mark.skipif(not KEPT.exists(), reason="only in a checkout")
def test_the_ledger_of_this_project_holds() -> None:
    """Every line is of a shipped recipe as it is today, says what computed it, and was trained to its end."""
    entries = read(KEPT)
    assert entries
    seeds: dict[tuple[str, tuple[str, ...]], set[int]] = {}
    for entry in entries:
        if entry.result.run != "teacher":
            seeds.setdefault((entry.result.recipe, entry.result.altered), set()).add(entry.result.seed)
    known = {run.identity for (name, altered), of in seeds.items() for run in _all_runs(name, altered, sorted(of))}
    assert not re.search(r'"(root|initial|build)":"[^"]*/', "".join(file.read_text() for file in KEPT.glob("*.jsonl")))
    for entry in entries:
        assert entry.run.identity in known, (entry.result.recipe, entry.result.run, entry.result.seed)
        assert entry.result.versions.commit
        assert entry.result.versions.processor
        assert entry.result.epochs == entry.settings.train.epochs
        assert entry.curves["epoch"][-1] == entry.result.epochs


def _all_runs(name: str, altered: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """All that `tna train` trains of a recipe, under "with OVERLAY" and "set KEY=VALUE", teachers included."""
    said = [text.split(" ", 1) for text in altered]
    overlays, overrides = ([what for how, what in said if how == wanted] for wanted in ("with", "set"))
    planned = plan(load(name, overlays=overlays, overrides=overrides), seeds=seeds)
    return [one for run in planned for one in (run, run.teacher) if one is not None]


@pytest.mark.skipif(not KEPT.exists(), reason="only in a checkout")
def test_the_kept_packed_files_are_of_the_ledger() -> None:
    """One for each ternary row: small, named as its run (and its overlay, where there is one), with the ledger's accuracy."""
    results = {(e.result.recipe, e.result.run, e.result.seed, e.result.altered): e.result for e in read(KEPT)}
    files = sorted((KEPT / "packed").glob("*.tna"))
    rows = {(recipe, run, how) for (recipe, run, _, how), one in results.items() if one.compressed == "ternary"}
    for file in files:
        origin = read_packed(file).about.origin
        # A quarter of the width has 1,239,040 ternary weights: 248 kB at 1.6 bits each, and 68 kB of fp32 and the document.
        assert file.stat().st_size < (320_000 if "with workstation_wide" in origin.altered else 200_000)
        result = results[origin.recipe, origin.run, origin.seed, origin.altered]
        overlays = "".join(f"-{how.removeprefix('with ')}" for how in origin.altered if how.startswith("with "))
        names = [f"{origin.recipe}{among}-{origin.run}-seed{origin.seed}.tna" for among in ("", overlays)]
        assert file.name in names
        assert origin.accuracy == result.accuracy["base"]
        rows.discard((origin.recipe, origin.run, origin.altered))
    assert not rows, "a ternary row without a packed file"
