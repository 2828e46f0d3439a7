"""`tna evaluate` of several files and of both kinds, and options that would have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Tna, loaded_by
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
    again = tna("evaluate", trained.checkpoint, packed, "--ternary", "--json")
    assert [record["accuracy"] for record in again.json] == [record["accuracy"] for record in plain]
    for file in (trained.checkpoint, packed):
        assert f"{file} has ternary weights already; --ternary changes nothing there" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{packed} --ternary", "a packed file is ternary or binary already; --ternary applies to checkpoints"),
        ("{packed} --ternary --delta 0.5", "--ternary applies to checkpoints"),
        ("{packed} {full} --ternary --delta 0.5", "has ternary weights already; --delta applies to full-precision"),
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


# What takes long to load, or has threads or processes of its own, and computes nothing for a packed file on built-in data.
UNUSED = (
    "torch", "torchvision", "tonic", "sklearn", "scipy", "pandas", "sympy", "matplotlib", "onnx",
    "multiprocessing.pool", "tnacli.training", "tnacli.deploy", "tnacli.quant", "tnacli.recipe.schema.recipe",
)  # fmt: skip


def test_a_packed_file_loads_only_what_it_needs(packed: Path) -> None:
    loaded, _, code = loaded_by("evaluate", packed, "--samples", 10)
    assert sorted(loaded & set(UNUSED)) == []
    assert code == 0


def test_torch_is_loaded_where_operations_are_counted_and_set_aside(packed: Path) -> None:
    loaded, frozen, code = loaded_by("evaluate", packed, "--samples", 10, "--activity")
    assert "torch" in loaded
    assert frozen > 100_000, "the garbage collector goes through all of torch at exit"
    assert code == 0


def test_a_mistake_is_answered_without_torch(packed: Path) -> None:
    for arguments, expected in (((packed, "--split", "all"), 2), ((packed, "--device", "cuda"), 2), (("none.pt",), 8)):
        loaded, _, code = loaded_by("evaluate", *arguments)
        assert "torch" not in loaded
        assert code == expected


@pytest.mark.parametrize("above", [False, True])
def test_a_least_accuracy(tna: Tna, trained: Outcome, packed: Path, above: bool) -> None:
    """Enough is as much as asked for; a hair more is too much."""
    accuracy = trained.result.accuracy["base"]
    least = accuracy + (1e-6 if above else 0)
    code = 6 if above else 0
    found = tna("evaluate", packed, "--json", "--min-accuracy", repr(least))
    assert (found.code, found.json["min_accuracy"], found.json["enough"]) == (code, least, not above)
    assert found.json["accuracy"] == accuracy
    assert ("error" in found.json) is above
    several = tna("evaluate", packed, trained.checkpoint, "--json", "--min-accuracy", repr(least))
    assert several.code == code
    records = several.json["finished"] if above else several.json
    assert [record["enough"] for record in records] == [not above] * 2
    shown = tna("evaluate", packed, trained.checkpoint, "--min-accuracy", repr(least))
    assert (shown.code, len(shown.out.splitlines())) == (code, 3)
    assert (f"2 of 2 files are below --min-accuracy {least:g}" in shown.err) is above
    assert tna("evaluate", packed, "--json").json["enough"] is None


def test_one_of_several_files_below_is_named(tna: Tna, trained: Outcome, trained_full: Outcome) -> None:
    files = sorted((trained, trained_full), key=lambda outcome: outcome.result.accuracy["base"])
    low, high = (outcome.result.accuracy["base"] for outcome in files)
    assert low < high
    found = tna("evaluate", *(outcome.checkpoint for outcome in files), "--min-accuracy", high)
    assert found.code == 6
    _, *named = found.err.splitlines()
    assert named == [f"{files[0].checkpoint}: {low:g} % on test"]


@pytest.mark.parametrize("wrong", ["-1", "101", "nan"])
def test_a_least_accuracy_is_a_percentage(tna: Tna, packed: Path, wrong: str) -> None:
    assert tna("evaluate", packed, "--min-accuracy", wrong).code == 2


def test_samples_of_each_split(tna: Tna, recipe: Path, out: Path) -> None:
    """As many as asked for, balanced over classes, or none: never fewer without a word."""
    recipe.write_text(recipe.read_text().replace("digits, ", "digits, validation_samples: 30, "))
    (run,) = tna("train", recipe, "--run", "baseline", "--out", out, "--json").json["runs"]
    whole = {"train": 90, "validation": 30, "test": 60}
    for split, there in whole.items():
        arguments = ("evaluate", run["checkpoint"], "--split", split, "--json")
        assert tna(*arguments).json["samples"] == there
        for asked in (5, there):
            assert tna(*arguments, "--samples", asked).json["samples"] == asked
        refused = tna(*arguments, "--samples", there + 1)
        assert refused.code == 4
        assert (
            f"{there + 1} samples are asked for, and the {split} split has {there}" in refused.json["error"]["message"]
        )


def test_samples_beyond_a_whole_set(tna: Tna, recipe: Path, out: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace(", test_samples: 60", ""))
    (run,) = tna("train", recipe, "--run", "tna_t_snn", "--out", out, "--json").json["runs"]
    packed = tmp_path / "a.safetensors"
    export = ("export", run["checkpoint"], "-o", packed, "--samples")
    for command in ((*export, 361), ("evaluate", run["checkpoint"], "--samples", 361)):
        refused = tna(*command)
        assert refused.code == 4
        assert "361 test samples are asked for (data.test_samples, or --samples); digits has 360 here" in refused.err
    assert tna(*export, 360).code == 0
    assert tna("evaluate", packed, "--samples", 361).code == 4


def test_accuracy_by_timestep_and_early_exit(tna: Tna, trained: Outcome, packed: Path) -> None:
    """The last timestep is the plain evaluation with its activity; who is never sure stays until then, who always is leaves."""
    for file in (trained.checkpoint, packed):
        plain = tna("evaluate", file, "--json", "--activity").json
        assert not {"by_timestep", "early_exit"} & set(plain)
        timesteps = tna("inspect", file, "--json").json["timesteps"]
        found = tna("evaluate", file, "--json", "--timesteps", f"1..{timesteps}", "--exit-confidence", "1e-9").json
        steps, left = found["by_timestep"], found["early_exit"]
        assert [one["timesteps"] for one in steps] == list(range(1, timesteps + 1))
        assert steps[-1]["accuracy"] == plain["accuracy"]
        assert steps[-1]["loss"] == pytest.approx(plain["loss"])
        assert steps[-1]["energy_nj"] == pytest.approx(plain["activity"]["energy_nj"])
        assert {key: left[key] for key in steps[0]} == steps[0]
        assert left["energy_saved"] == pytest.approx(1 - steps[0]["energy_nj"] / steps[-1]["energy_nj"])
        assert 0 < left["energy_saved"] < 1
        cheap = tna("evaluate", file, "--json", "--timesteps", "1", "--mac-pj", 0, "--addition-pj", 1000).json
        assert cheap["by_timestep"][0]["energy_nj"] == pytest.approx(steps[0]["additions_nonzero"])
    shown = tna("evaluate", packed, "--timesteps", "1,2", "--exit-confidence", "0.5")
    _, one, two, early = shown.out.splitlines()[-4:]
    assert (one.split()[0], two.split()[0], "(early exit)" in early) == ("1", "2", True)
    assert "samples leave at a confidence of 0.5" in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--timesteps 0..2", "--timesteps is a range such as 1..4, or a rising list such as 1,2,4; not '0..2'"),
        ("--timesteps 2,1", "not '2,1'"),
        ("--timesteps 3..2", "not '3..2'"),
        ("--timesteps many", "not 'many'"),
        ("--timesteps 1..999", "--timesteps 999 is beyond its last; the network has"),
        ("--exit-confidence 0", "--exit-confidence must be above 0 and at most 1, not 0"),
        ("--exit-confidence 1.5", "not 1.5"),
        ("--mac-pj 1", "--mac-pj has no effect without --activity, --timesteps or --exit-confidence"),
        ("--timesteps 1 --plot a.png", "--plot has no effect without --activity"),
    ],
)
def test_timesteps_that_cannot_be(tna: Tna, packed: Path, words: str, said: str) -> None:
    refused = tna("evaluate", packed, *words.split())
    assert refused.code == 2
    assert said in refused.err
