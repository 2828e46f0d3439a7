"""`tna doctor`: every problem is found, and comes with what to do."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tnacli.cli import checks


def one(found: list[checks.Finding], name: str) -> checks.Finding:
    (finding,) = [finding for finding in found if finding.name == name]
    return finding


def test_a_machine_on_which_the_tests_run_has_no_problem(tna: Tna, tmp_path: Path) -> None:
    result = tna("doctor", "--out", tmp_path / "not" / "there", "--json")
    assert result.code == 0
    assert result.json["problems"] == 0
    names = [check["name"] for check in result.json["checks"]]
    assert {"tnacli", "torch", "torchvision", "device cpu", "compiled kernels", "data digits", "runs folder"} <= set(
        names
    )
    assert all(check["fix"] for check in result.json["checks"] if check["status"] != "ok")
    assert not (tmp_path / "not").exists()


def test_a_place_that_cannot_be_written_to_exits_with_5(tna: Tna, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = tna("doctor", "--out", tmp_path / "file" / "runs")
    assert result.code == 5
    assert "choose another place with --out" in result.out


def test_a_torchvision_for_another_torch_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requires = importlib.metadata.requires
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: ["numpy", "torch==2.0.1"] if name == "torchvision" else requires(name),
    )
    finding = one(checks.examine(tmp_path), "torchvision")
    assert finding.status == "problem"
    assert "made for torch 2.0.1" in finding.found
    assert finding.fix is not None
    assert "pip install" in finding.fix


def test_a_torchvision_that_cannot_be_loaded_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module

    def broken(name: str, package: str | None = None) -> object:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore")
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    finding = one(checks.examine(tmp_path), "torchvision")
    assert (finding.status, "operator torchvision::nms does not exist" in finding.found) == ("problem", True)


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("torch==2.15.0", "2.15.0"),
        ("torch (==2.11.1)", "2.11.1"),
        ('torch==2.1.0 ; extra == "x"', "2.1.0"),
        ("torch>=2", None),
    ],
)
def test_the_pinned_torch(requirement: str, version: str | None) -> None:
    assert checks._torch_wanted(["numpy", requirement]) == version


def test_little_space_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
    assert one(checks.examine(tmp_path), "runs folder").status == "warning"


def test_without_a_cache_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TNA_CACHE", str(tmp_path / "file" / "cache"))
    finding = one(checks.examine(tmp_path), "cache folder")
    assert (finding.status, finding.fix) == ("warning", "set TNA_CACHE to a folder that can be written to")
    assert "cannot be written to" in finding.found


def test_no_compiler_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tnacli.snn import native

    monkeypatch.setenv("TNA_NATIVE", "0")
    native.native.cache_clear()
    try:
        finding = one(checks.examine(tmp_path), "compiled kernels")
    finally:
        native.native.cache_clear()
    assert (finding.status, finding.fix) == ("warning", "unset TNA_NATIVE")


def test_whatever_fails_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_devices", lambda: 1 / 0)
    assert one(checks.examine(tmp_path), "devices").status == "problem"


def test_the_extras_are_those_of_the_package() -> None:
    """What people who work on tnacli need is no extra of its users."""
    path = Path(__file__).parents[2] / "pyproject.toml"
    if not path.exists():
        pytest.skip("only in a checkout")
    declared = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    packages = {name: {re.split(r"[<>=]", one)[0] for one in needed} for name, needed in declared.items()}
    assert {name: set(needed) for name, (needed, _) in checks.EXTRAS.items()} == {
        name: needed for name, needed in packages.items() if name not in ("test", "bench", "docs", "dev")
    }


def test_a_missing_extra_is_a_warning_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    finding = one(checks.examine(tmp_path), "extra onnx")
    assert (finding.status, finding.fix) == ("warning", "pip install 'tnacli[onnx]'")
    assert "onnxruntime not installed" in finding.found
