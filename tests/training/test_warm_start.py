"""Training that starts from the weights of a checkpoint, as a recipe says: `train.initial`."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tnacli.recipe.parse import load, plan
from tnacli.runs.ledger import entry_of
from tnacli.runs.store import RunFolder
from tnacli.training.checkpoint import load_checkpoint

RECIPE = """\
data: {name: digits, train_samples: 120, test_samples: 60}
model: {layout: 4C3-AP2-12FC, timesteps: 2}
train: {epochs: 1, batch_size: 40}
runs: {baseline: }
"""
STILL = "train.learning_rate=1e-30"


@pytest.fixture
def source(tna: Tna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run, in a folder that is also the working directory, beside recipes."""
    monkeypatch.chdir(tmp_path)
    Path("first.yaml").write_text(RECIPE)
    assert tna("train", "first.yaml").code == 0
    (folder,) = Path("runs/first").iterdir()
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: value
        for name, value in load_checkpoint(folder / "last.pt").under("networks/base").items()
        if "weight" in name
    }


def test_it_starts_from_these_weights_and_says_so_everywhere(tna: Tna, source: Path) -> None:
    Path("sub").mkdir()
    twin = "runs: {baseline: , tna: {objective: {kind: twin, alpha: 1e-3}}}"
    Path("sub/warm.yaml").write_text(f"extends: ../first.yaml\ntrain: {{initial: ../{source}}}\n{twin}\n")
    digest = hashlib.sha256((source / "last.pt").read_bytes()).hexdigest()
    planned = tna("train", "sub/warm.yaml", "--dry-run")
    assert (planned.code, str(source) in planned.err, digest[:10] in planned.err) == (0, True, True)
    plans = tna("train", "sub/warm.yaml", "--dry-run", "--json").json["runs"]
    assert [one["initial"] for one in plans] == [digest, digest]
    done = tna("train", "sub/warm.yaml", "--set", STILL)
    assert done.code == 0
    assert "sibling1, which it does not have, starts fresh" in done.err
    assert f"from the weights of {source.name}" in done.out
    for folder in Path("runs/warm").iterdir():
        assert all(torch.equal(value, weights(source)[name]) for name, value in weights(folder).items())
        result, begun = RunFolder(folder).result, RunFolder(folder).require_begun()
        assert result is not None
        assert result.initial == begun.initial == digest
        assert entry_of(RunFolder(folder)).run.identity == result.identity
    listed = tna("runs")
    assert listed.out.count(f"from the weights of {source.name}") == 2
    assert {one["initial"] for one in tna("runs", "--json").json["runs"]} == {None, digest}
    reported = tna("report", "sub/warm.yaml", "--set", STILL)
    assert reported.out.count(f"from the weights of {source.name}") >= 2
    assert "finished before" in tna("train", "sub/warm.yaml", "--set", STILL).err


def test_identity_is_that_of_the_content_wherever_it_lies(source: Path) -> None:
    shutil.copy(source / "last.pt", "copy.pt")
    ours, copied, cold = (
        plan(load("first.yaml", overrides=sets))[0]
        for sets in ([f"train.initial={source}"], ["train.initial=copy.pt"], [])
    )
    assert ours.identity == copied.identity != cold.identity
    with Path("copy.pt").open("ab") as file:
        file.write(b"x")
    assert plan(load("first.yaml", overrides=["train.initial=copy.pt"]))[0].identity not in (
        ours.identity,
        cold.identity,
    )
    taught = plan(load("first.yaml", overrides=[f"train.initial={source}", "objective={kind: distill, alpha: 1}"]))[0]
    assert taught.teacher is not None
    assert taught.teacher.initial == ours.initial


def test_an_interrupted_run_goes_on_from_its_own_checkpoint(tna: Tna, source: Path) -> None:
    sets = ("--set", f"train.initial={source}", "--set", "train.epochs=3", "--out", "other")
    assert tna("train", "first.yaml", *sets).code == 0
    (whole,) = Path("other/first").iterdir()
    kept = weights(whole)
    shutil.rmtree("other")
    assert tna("train", "first.yaml", *sets, "--time-limit", "0").code == 75
    (begun,) = Path("other/first").iterdir()
    assert RunFolder(begun).status == "interrupted"
    assert tna("train", "first.yaml", *sets).code == 0
    assert all(torch.equal(value, kept[name]) for name, value in weights(begun).items())


@pytest.mark.parametrize(
    ("place", "override", "code", "says"),
    [
        ("nothing.pt", "", 3, "train.initial: {here}/nothing.pt: no such file"),
        ("runs/first", "", 3, "is a folder without a checkpoint"),
        (
            "{source}",
            "model.layout=8C3-AP2-12FC",
            3,
            "its base is 4C3-AP2-12FC, width 1, norm batch, trained on digits",
        ),
        ("{source}", "model.width=2", 3, "and that of this run is 4C3-AP2-12FC, width 2, norm batch on digits"),
        ("{source}", "model.norm=none", 3, "norm none"),
        ("{source}", "data={name: cifar10, format: generated}", 3, "on cifar10"),
        ("first.yaml", "", 8, "a text file"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_what_does_not_fit_is_said_before_anything_is_trained(
    tna: Tna, source: Path, place: str, override: str, code: int, says: str, dry: bool
) -> None:
    sets = ["--set", f"train.initial={place.format(source=source)}", *(["--set", override] if override else [])]
    found = tna("train", "first.yaml", *sets, "--out", "other", *(["--dry-run"] if dry else []))
    assert found.code == code
    assert says.format(here=Path.cwd()) in found.err
    assert not Path("other").exists()
