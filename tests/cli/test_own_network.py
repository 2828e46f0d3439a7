"""A user's own network from recipe to file: what works, what is refused, and that no file's code runs unasked."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import tnacli
from tests.cli.conftest import Tna
from tnacli.errors import UsageError

NETWORK = """\
from pathlib import Path

from tests.snn.own_networks import by_layout, pooled_by_maximum, pooled_to_a_size

Path("imported").touch()
"""
RECIPE = """\
name: own
seeds: [0]
data: {name: digits, train_samples: 120, test_samples: 60}
model: {timesteps: 3, args: {maps: 4}}
train: {epochs: 2, batch_size: 40}
compression: {mode: ternary, delta: 0.02, start: 1}
runs:
  free: {model: {build: "lies_here:pooled_by_maximum"}}
  layout: {model: {build: "lies_here:by_layout"}, objective: {kind: twin, alpha: 1e-2}}
  sized: {model: {build: "lies_here:pooled_to_a_size"}}
  full: {model: {build: "lies_here:pooled_by_maximum"}, compression: null}
"""
FREE = "lies_here:pooled_by_maximum"
FORWARD = """\
from torch import nn


class network(nn.Module):
    def __init__(self, model, *, channels, size, classes, maps):
        super().__init__()
        self.layer = nn.Linear(3, classes)

    def forward(self, images):
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lies_here.py").write_text(NETWORK)
    (tmp_path / "own.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "lies_here", raising=False)
    return tmp_path


def forgotten(folder: Path) -> None:
    """As if in a new process."""
    sys.modules.pop("lies_here", None)
    (folder / "imported").unlink(missing_ok=True)


def test_the_whole_story(tna: Tna, folder: Path) -> None:
    planned = tna("train", "own.yaml", "--dry-run")
    assert "depends on your code" in planned.out, planned.err
    assert not (folder / "imported").exists()
    trained = tna("train", "own.yaml", "--json")
    assert trained.code == 0, trained.err
    free, layout, sized, full = trained.json["runs"]
    assert (free["compressed"], layout["compressed"]) == ("ternary", "ternary")
    assert list(free["firing_rate"]) == ["2", "4"]
    again = tna("train", "own.yaml", "--run", "layout")
    assert "finished before" in again.err

    # No code that a file names is imported until its name is repeated.
    forgotten(folder)
    export = ("export", free["checkpoint"], "-o", "x")
    for command in (
        ("evaluate", free["checkpoint"]),
        ("inspect", free["checkpoint"]),
        export,
        ("ternarize", full["checkpoint"]),
    ):
        refused = tna(*command)
        assert (refused.code, refused.out) == (2, "")
        assert f"add --trust-build {FREE}" in refused.err
        assert tna(*command, "--trust-build", "os:system").code == 2
    with pytest.raises(UsageError, match="--trust-build"):
        tnacli.load(free["checkpoint"])
    assert not (folder / "imported").exists()

    evaluated = tna("evaluate", free["checkpoint"], "--trust-build", FREE, "--activity", "--json")
    assert evaluated.code == 0, evaluated.err
    assert (evaluated.json["accuracy"], evaluated.json["weights"]) == (free["accuracy"]["base"], "ternary")
    assert [layer["name"] for layer in evaluated.json["activity"]["layers"]] == ["1.0", "2", "3.1", "4", "6"]
    inspected = tna("inspect", free["checkpoint"], "--trust-build", FREE, "--json").json
    assert (inspected["build"], inspected["layout"]) == (FREE, None)
    assert [layer["encoding"] for layer in inspected["layers"]] == ["fp32", "ternary", "fp32"]
    assert tnacli.load(free["checkpoint"], trust_build=FREE).weights == "ternary"
    made = tna("ternarize", full["checkpoint"], "--delta", 0.02, "--epochs", 1, "--trust-build", FREE, "--json")
    assert made.json["runs"][0]["compressed"] == "ternary", made.err

    # Its module is run to see what it computes, and the first thing named that no file can say.
    for form in ("packed", "onnx", "c"):
        refused = tna(
            "export", sized["checkpoint"], "-o", "x", "--format", form, "--trust-build", "lies_here:pooled_to_a_size"
        )
        assert (refused.code, refused.out) == (8, "")
        assert (
            "in the network made by lies_here:pooled_to_a_size, 3.0 (AdaptiveMaxPool2d) has maximum pooling"
            in refused.err
        )
    refused = tna("export", full["checkpoint"], "-o", "x", "--trust-build", FREE)
    assert (refused.code, "full-precision weights: 3.1" in refused.err) == (2, True)
    for run, function in ((free, "pooled_by_maximum"), (layout, "by_layout")):
        trusted = ("--trust-build", f"lies_here:{function}")
        packed = tna("export", run["checkpoint"], "-o", f"{function}.safetensors", *trusted)
        assert "60 of 60 predictions equal, test accuracy" in packed.out, packed.err
        written = tna("export", run["checkpoint"], "-o", f"{function}.c", *trusted)
        assert "60 of 60 predictions equal when run by a program" in written.out, written.err
        forgotten(folder)
        assert tna("evaluate", f"{function}.safetensors", "--json").json["accuracy"] == run["accuracy"]["base"]
        assert not (folder / "imported").exists()
        assert tna("evaluate", f"{function}.safetensors", *trusted).code == 2


def test_the_module_lies_beside_the_recipe(tna: Tna, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another folder too; a teacher and an export come to it as well, a checkpoint by itself never does."""
    text = RECIPE.replace("name: own\n", "name: own\nexport: true\n").replace(
        "  full:", '  kd: {model: {build: "./lies_here:by_layout"}, objective: {kind: distill, alpha: 1}}\n  full:'
    )
    (folder / "own.yaml").write_text(text)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    trained = tna("train", "../own.yaml", "--run", "kd", "--json")
    assert trained.code == 0, trained.err
    (run,) = trained.json["runs"]
    forgotten(folder)
    shutil.rmtree(run["folder"])
    again = tna("train", "../own.yaml", "--run", "kd", "--json").json["runs"][0]  # of a teacher that is there
    assert (again["identity"], again["accuracy"]) == (run["identity"], run["accuracy"])
    assert tna("inspect", again["packed"]["path"]).code == 0
    forgotten(folder)
    for trusted, code in (("lies_here:by_layout", 3), ("../lies_here:by_layout", 0), ("../lies_here:other", 2)):
        assert tna("evaluate", run["checkpoint"], "--trust-build", trusted).code == code
        forgotten(folder)
    (full,) = tna("train", "../own.yaml", "--run", "full", "--set", "export=false", "--json").json["runs"]
    forgotten(folder)
    common = ("ternarize", full["checkpoint"], "--delta", 0.02, "--epochs", 1, "--json", "--trust-build")
    refused = tna(*common, FREE)  # by its own word the checkpoint's module lies in the folder above
    assert (refused.code, "name that folder: FOLDER/lies_here" in refused.err) == (3, True)
    forgotten(folder)
    assert tna(*common, f"../{FREE}").code == 0


def test_code_that_is_not_there(tna: Tna, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tna("train", "own.yaml", "--run", "free", "--json").json["runs"][0]["checkpoint"]
    forgotten(folder)
    (folder / "lies_here.py").unlink()
    for command in (("evaluate", checkpoint, "--trust-build", FREE), ("train", "own.yaml", "--run", "full")):
        failed = tna(*command)
        assert failed.code == 3
        assert f"model.build: {FREE} cannot be imported: No module named 'lies_here'" in failed.err


def test_arguments_can_be_set_on_the_command_line(tna: Tna, folder: Path) -> None:
    set_maps = ("--set", "model.args.maps=6")
    (run,) = tna("train", "own.yaml", "--run", "full", *set_maps, "--json").json["runs"]
    layers = tna("inspect", run["checkpoint"], "--trust-build", FREE, "--json").json["layers"]
    assert [layer["shape"][0] for layer in layers] == [6, 12, 10]


@pytest.mark.parametrize(
    ("code", "who", "traced"),
    [
        (
            "def network(model, *, channels, size, classes, maps):\n    return helper()\n\n\ndef helper():\n    return 1 / 0\n",
            "the function broken:network raised ZeroDivisionError",
            ['broken.py", line 2, in network', 'broken.py", line 6, in helper', "ZeroDivisionError: division by zero"],
        ),
        (
            "nothing.at_all()\n",
            "the module broken, while it was imported, raised NameError",
            ['broken.py", line 1, in <module>', "NameError: name 'nothing' is not defined"],
        ),
        ("def network(:\n", "the module broken, while it was imported, raised SyntaxError", ['broken.py", line 1']),
        (
            "import sys\n\nsys.exit(0)\n",
            "the module broken, while it was imported, raised SystemExit",
            ['broken.py", line 3, in <module>', "SystemExit: 0"],
        ),
        (
            "def network(model, *, channels, size, classes, maps):\n    raise SystemExit\n",
            "the function broken:network raised SystemExit",
            ['broken.py", line 2, in network'],
        ),
        (
            f"{FORWARD}        return helper(images)\n\n\ndef helper(images):\n    return {{}}['missing']\n",
            "the forward pass of broken:network raised KeyError",
            ['broken.py", line 10, in forward', 'broken.py", line 14, in helper', "KeyError: 'missing'"],
        ),
        (
            f"{FORWARD}        return self.layer(images)\n",
            "the forward pass of broken:network raised RuntimeError",
            ['broken.py", line 10, in forward', "RuntimeError: mat1 and mat2 shapes cannot be multiplied"],
        ),
    ],
)
def test_code_of_the_users_that_raises_shows_its_own_traceback_alone(
    tna: Tna, folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, who: str, traced: list[str]
) -> None:
    (folder / "broken.py").write_text(code)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    (folder / "own.yaml").write_text(RECIPE.replace("lies_here:pooled_by_maximum", "broken:network"))
    refused = tna("train", "own.yaml", "--run", "full")
    assert refused.code == 3
    assert f"error: model.build: {who}" in refused.err
    assert refused.err.partition('File "')[2].partition('"')[0].endswith("broken.py")
    for line in traced:
        assert line in refused.err
    assert "tnacli/" not in refused.err.partition("error: ")[2]
    assert "importlib" not in refused.err
