"""What makes short commands answer at once: each loads what it needs, and no more than that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment, loaded_by
from tnacli.cli.app import COMMANDS

FILES = {name: place.partition(":")[0] for name, place in COMMANDS.items()}
LEDGER = Path(__file__).parents[2] / "docs" / "results" / "readings_cifar10.jsonl"  # of ten seeds: with statistics
HEAVY = {"PIL", "matplotlib", "numpy", "scipy", "sklearn", "tonic", "torch", "torchvision"}


def rooms(loaded: set[str]) -> set[str]:
    return {name.split(".")[1] for name in loaded if name.startswith("tnacli.")} - {"errors", "places", "version"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_the_file_of_its_command_alone(command: str) -> None:
    loaded, _, code = loaded_by(command, "--help")
    assert code == 0
    assert loaded & set(FILES.values()) == {FILES[command]}
    assert rooms(loaded) == {"cli"}
    assert loaded & (HEAVY | {"yaml"}) == set()


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["trian"]])
def test_what_is_no_command_loads_the_command_line_alone(arguments: list[str]) -> None:
    loaded, _, code = loaded_by(*arguments)
    assert code == (2 if arguments == ["trian"] else 0)
    assert rooms(loaded) == {"cli"}
    assert loaded & set(FILES.values()) == (set(FILES.values()) if arguments == ["--help"] else set())
    assert loaded & (HEAVY | {"yaml"}) == set()


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ("data", {"data", "recipe"}),
        ("recipes", {"recipe", "storage"}),
        ("recipes quickstart", {"recipe", "storage"}),
        ("recipes --schema", {"recipe", "storage"}),
        ("runs", {"data", "recipe", "report", "runs", "storage"}),
        ("runs clean", {"data", "recipe", "runs", "storage"}),
        ("report quickstart", {"data", "recipe", "report", "runs", "storage"}),
        (f"report readings_cifar10 --ledger {LEDGER}", {"data", "recipe", "report", "runs", "storage"}),
        (f"compare readings_cifar10 --ledger {LEDGER}", {"data", "recipe", "report", "runs", "storage"}),
        ("train quickstart --dry-run", {"data", "recipe", "report", "runs", "storage"}),
        ("train quickstart --slurm", {"recipe", "storage", "training"}),
        ("compare-kd quickstart --dry-run", {"data", "recipe", "report", "runs", "storage"}),
    ],
)
def test_commands_that_only_read_load_no_array_library_and_nothing_that_trains(
    arguments: str, needed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    loaded, _, code = loaded_by(*arguments.split())
    assert code == 0
    assert rooms(loaded) <= {"cli", *needed}
    assert loaded & set(FILES.values()) == {FILES[arguments.split()[0]]}
    assert loaded & HEAVY == set()
    assert loaded & {f"tnacli.cli.{name}" for name in ("jobs", "running", "worker", "progress")} == set()


def test_nothing_looks_for_cycles_when_python_ends() -> None:
    program = (
        "import atexit, gc, sys; sys.argv = ['tna', '--version']\n"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count()))\n"  # called after what main() registers
        "from tnacli.cli.app import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert int(done.stdout.split()[-1]) > 10_000


def test_a_short_command_is_done_before_cycles_are_looked_for_and_torch_makes_it_usual_again() -> None:
    program = (
        "import gc, sys; sys.argv = ['tna', 'recipes']\n"
        "from tnacli.cli.app import main\n"
        "from tnacli.cli.loading import load_torch\n"
        "usual, before = gc.get_threshold(), [each['collections'] for each in gc.get_stats()]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([each['collections'] for each in gc.get_stats()] == before, gc.get_threshold() == usual)\n"
        "load_torch()\n"
        "print(gc.get_threshold() == usual)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.split()[-3:] == ["True", "False", "True"]
