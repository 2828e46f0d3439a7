"""`tna evaluate` of several files and of both kinds, and options that would have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tnacli.experiment import Outcome


@pytest.fixture
def packed(tna: Tna, trained: Outcome, tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    assert tna("export", trained.checkpoint, "-o", path, "--samples", 0).code == 0
    return path


def test_several_files_make_a_row_each(tna: Tna, trained: Outcome, trained_full: Outcome, packed: Path) -> None:
    files = [trained_full.checkpoint, trained.checkpoint, packed]
    several = tna("evaluate", *files, "--json").json
    assert [record["file"] for record in several] == list(map(str, files))
    assert [record["weights"] for record in several] == ["fp32", "ternary", "ternary"]
    for file, record in zip(files, several, strict=True):
        alone = tna("evaluate", file, "--json").json
        assert {**alone, "seconds": 0} == {**record, "seconds": 0}
    title, *rows = tna("evaluate", *files).out.splitlines()
    assert title.split()[0] == "file"
    assert [row.split()[:2] for row in rows] == [[str(r["file"]), r["weights"]] for r in several]


def test_a_packed_file_spikes_as_its_checkpoint_does(tna: Tna, trained: Outcome, packed: Path) -> None:
    of_checkpoint, of_packed = tna("evaluate", trained.checkpoint, packed, "--json").json
    assert of_packed["firing_rate"] == of_checkpoint["firing_rate"]
    assert len(of_packed["firing_rate"]) == 3


def test_ternary_alone_suits_what_is_ternary_already(tna: Tna, trained: Outcome, packed: Path) -> None:
    plain = tna("evaluate", trained.checkpoint, packed, "--json").json
    again = tna("evaluate", trained.checkpoint, packed, "--ternary", "--json").json
    assert [record["accuracy"] for record in again] == [record["accuracy"] for record in plain]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{packed} --ternary --delta 0.5", "has ternary weights already; --delta applies to full-precision"),
        ("{ternary} --ternary --delta 0.5", "has ternary weights already; --delta applies to full-precision"),
        ("{full} --ternary --delta 0", "--delta must be above 0, not 0"),
        ("{full} --ternary --delta nan", "--delta must be above 0, not nan"),
        ("{packed} --device cuda", "a packed file runs on the CPU"),
        ("{full} --device foo", "--device is auto, cpu, mps, cuda, or cuda:1 and so on; not 'foo'"),
        ("{full} {packed} --network sibling1", "--network applies to checkpoints"),
        ("{full} {packed} --activity", "--activity shows one file"),
    ],
)
def test_options_without_effect_are_refused(
    tna: Tna, trained: Outcome, trained_full: Outcome, packed: Path, arguments: str, said: str
) -> None:
    words = arguments.format(packed=packed, ternary=trained.checkpoint, full=trained_full.checkpoint).split()
    refused = tna("evaluate", *words)
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err


def test_a_missing_file_is_told_before_anything_is_measured(tna: Tna, trained: Outcome) -> None:
    refused = tna("evaluate", trained.checkpoint, "missing.pt")
    assert (refused.code, refused.out) == (8, "")
    assert "missing.pt: no such file" in refused.err
