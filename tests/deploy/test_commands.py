"""`tna export --format`, `tna evaluate --activity`, and what a packed file knows of its data."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.deploy.conftest import Quickstart
from tnacli.deploy import c_build
from tnacli.experiment import Outcome
from tnacli.packed.file import read_packed, write_packed

NEEDS = {"nir": "nir", "onnx": "onnxruntime", "c": None}


@pytest.mark.parametrize(("name", "files"), [("net.c", ["net.c", "net.h"]), ("net.safetensors", ["net.safetensors"])])
def test_the_name_chooses_the_format(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, name: str, files: list[str]
) -> None:
    done = tna("export", quickstart.checkpoint, "-o", tmp_path / name, "--samples", 0)
    assert done.code == 0, done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("form", "file", "kind"),
    [
        ("nir", "model.nir", "an HDF5 file, as NIR is"),
        ("onnx", "model.onnx", "an ONNX file, which `tna predict` takes"),
        ("c", "tna_net.c", "a text file, as recipes and exported C are"),
    ],
)
def test_a_packed_file_becomes_what_its_checkpoint_does(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, form: str, file: str, kind: str
) -> None:
    pytest.importorskip(NEEDS[form] or "numpy")
    written = []
    for name, source in (("a", quickstart.checkpoint.parent), ("b", quickstart.file)):
        done = tna("export", source, "--format", form, "-o", f"{tmp_path}/{name}/", "--samples", 30, "--json")
        assert done.code == 0, done.err
        assert (done.json["samples"], done.json["agreeing"]) == (30, 30)
        written.append((tmp_path / name / file).read_bytes())
    if form != "c":  # whose text says which accuracy its file stated
        assert len(written[0]) == pytest.approx(len(written[1]), abs=64)
    refused = tna("evaluate", tmp_path / "a" / file)
    assert (refused.code, f"it is {kind}" in refused.err) == (8, True)
    again = tna("export", quickstart.file, "-o", tmp_path / "a.safetensors")
    assert (again.code, "is no checkpoint: --format packed is made of those" in again.err) == (2, True)
    assert "agree" not in tna("export", quickstart.file, "--format", form, "-o", f"{tmp_path}/c/", "--samples", 0).out


@pytest.mark.parametrize("form", NEEDS)
def test_every_form_is_verified_on_every_digit(tna: Tna, quickstart: Quickstart, tmp_path: Path, form: str) -> None:
    needed = NEEDS[form]
    if needed is not None:
        pytest.importorskip(needed, reason=f"needs the extra {form}")
    elif c_build.compiler() is None:
        pytest.skip("no C compiler on this machine")
    to = tmp_path / "deep" / ("net" if form == "c" else f"net.{form}")
    done = tna("export", quickstart.checkpoint, "--format", form, "-o", to, "--json")
    assert done.code == 0, done.err
    said = done.json
    assert (said["command"], said["format"]) == ("export", form)
    assert (said["samples"], said["agreeing"]) == (360, 360)
    assert said["weights"] == 32 * 16 * 9 + 64 * 128
    assert said["largest_difference"] < 1e-4
    assert sum(Path(path).stat().st_size for path in said["paths"]) == said["size_bytes"]
    assert ("ram" in said["memory_bytes"]) == (form == "c")

    again = tna("export", quickstart.checkpoint, "--format", form, "-o", to)
    assert again.code == 2
    assert "--force" in again.err
    shown = tna("export", quickstart.checkpoint, "--format", form, "-o", to, "--samples", 20, "--force")
    assert shown.code == 0
    assert "20 of 20 predictions equal when run by" in shown.out


def test_c_takes_a_folder_or_either_of_its_two_names(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    for to in (tmp_path, tmp_path / "one.c", tmp_path / "two.h"):
        assert tna("export", quickstart.checkpoint, "--format", "c", "-o", to, "--samples", 0).code == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tna_net.c", "tna_net.h", "one.c", "one.h", "two.c", "two.h"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "tflite"], "--format is one of packed, nir, onnx, c, not 'tflite'"),
        (["--format", "c", "--encoding", "2bit"], "--encoding applies to packed files"),
        (["--encoding", "3bit"], "--encoding is one of 2bit, base3"),
        (["--format", "c", "-o", "my-net"], "cannot be called 'my-net'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = tna("export", quickstart.checkpoint, *arguments)
    assert done.code == 2
    assert said in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["nir", "onnx"])
def test_a_missing_package_is_named_with_its_extra(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setitem(sys.modules, form, None)
    done = tna("export", quickstart.checkpoint, "--format", form, "-o", tmp_path / "net")
    assert done.code == 2
    assert f"pip install 'tnacli[{form}]'" in done.err


def test_full_precision_is_refused_in_every_form(tna: Tna, trained_full: Outcome, tmp_path: Path) -> None:
    for form in NEEDS:
        done = tna("export", trained_full.checkpoint, "--format", form, "-o", tmp_path / "net")
        assert done.code == 2
        assert "tna ternarize" in done.err


def test_a_packed_file_is_measured_on_the_samples_of_its_checkpoint(tna: Tna, trained: Outcome, tmp_path: Path) -> None:
    """The run kept 60 of the 360 test digits; nothing but the file says so."""
    file = tmp_path / "net.safetensors"
    assert tna("export", trained.checkpoint, "-o", file).code == 0
    ours, theirs = tna("evaluate", file, "--json").json, tna("evaluate", trained.checkpoint, "--json").json
    assert ours["samples"] == theirs["samples"] == 60
    assert ours["accuracy"] == theirs["accuracy"]
    assert ours["loss"] == pytest.approx(theirs["loss"])
    origin = read_packed(file).about.origin
    assert (origin.test_samples, origin.format, origin.binning) == (60, "auto", "count")
    assert origin.accuracy == theirs["accuracy"]
    fewer = tmp_path / "fewer.safetensors"
    assert tna("export", trained.checkpoint, "-o", fewer, "--samples", 10).code == 0
    assert read_packed(fewer).about.origin.accuracy is None


@pytest.mark.parametrize("changed", [{"data_set": "unheard_of"}, {"binning": "time"}])
def test_an_origin_that_names_no_data_is_explained(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, changed: dict[str, str]
) -> None:
    about = quickstart.packed.about
    origin = about.origin.model_copy(update=changed)
    other = dataclasses.replace(quickstart.packed, about=about.model_copy(update={"origin": origin}))
    write_packed(tmp_path / "net.safetensors", other)
    done = tna("evaluate", tmp_path / "net.safetensors")
    assert done.code == 8
    assert "does not say on which data to evaluate it" in done.err
    assert "tnacli.load" in done.err


def test_activity_of_checkpoint_and_packed_file(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plots")
    picture = tmp_path / "activity.svg"
    packed = tna("evaluate", quickstart.file, "--activity", "--plot", picture, "--json").json["activity"]
    restored = tna("evaluate", quickstart.checkpoint, "--activity", "--json").json["activity"]
    assert packed == restored
    assert packed["samples"] == 360
    assert packed["energy_nj"] < packed["energy_dense_nj"]
    assert packed["energy_nj"] < packed["energy_with_memory_nj"] < packed["ann_energy_with_memory_nj"]
    without = tna("evaluate", quickstart.file, "--activity", "--memory-pj", 0, "--json").json["activity"]
    assert without["energy_with_memory_nj"] == packed["energy_nj"]
    assert b"conv2" in picture.read_bytes()

    shown = tna("evaluate", quickstart.file, "--activity", "--mac-pj", 1, "--addition-pj", 0)
    assert shown.code == 0
    assert "1 pJ a MAC, 0 pJ an addition" in shown.err
    header, *rows = [line for line in shown.out.splitlines() if line][2:]
    assert header.split()[:3] == ["layer", "firing", "rate"]
    assert [row.split()[0] for row in rows] == ["conv1", "conv2", "fc1", "readout", "sum"]
    # At these prices the energy in nJ is the number of MACs in thousands.
    sums = rows[-1].split()
    assert float(sums[4]) == pytest.approx(float(sums[1].replace(",", "")) / 1000, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plot", "a.png"], "--plot has no effect without --activity"),
        (["--mac-pj", "3"], "--mac-pj has no effect without --activity"),
        (["--addition-pj", "0"], "--addition-pj has no effect without --activity"),
        (["--memory-pj", "0"], "--memory-pj has no effect without --activity"),
        (["--activity", "--plot", "a.bmp"], "--plot writes .png, .svg, .pdf files, not 'a.bmp'"),
    ],
)
def test_options_without_effect_are_refused(tna: Tna, quickstart: Quickstart, arguments: list[str], said: str) -> None:
    done = tna("evaluate", quickstart.file, *arguments)
    assert done.code == 2
    assert said in done.err


def test_a_plot_without_matplotlib_says_what_to_install(
    tna: Tna, quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = tna("evaluate", quickstart.file, "--activity", "--plot", "a.png")
    assert done.code == 2
    assert "pip install 'tnacli[plots]'" in done.err
