"""What Tab offers, asked for as the shells ask: bash by its own completion function, the others by Typer's protocol."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment
from tnacli.recipe.parse.fields import setting_keys
from tnacli.recipe.parse.find import list_overlays, list_recipes
from tnacli.recipe.parse.layers import read_override

BASH = shutil.which("bash")
RECIPES = [entry.name for entry in list_recipes()]
OVERLAYS = [entry.name for entry in list_overlays()]

# The program as bash and Typer know it, whether or not it is installed on this PATH.
PROGRAM = """\
import sys
sys.argv[0] = "tna"
from tnacli.cli.app import main
try:
    main()
finally:
    assert "torch" not in sys.modules, "completion has loaded torch"
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `tna` is this checkout's, and that asks bash-completion in no user's files."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "tna").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/program.py" "$@"\n')
    (folder / "tna").chmod(0o755)
    source = str(Path(__file__).parents[2])
    return environment(PATH=f"{folder}{os.pathsep}{os.environ['PATH']}", HOME=str(folder), PYTHONPATH=source)


def run(command: list[str], program: dict[str, str], **extra: str) -> str:
    done = subprocess.run(command, env={**program, **extra}, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def script(program: dict[str, str]) -> str:
    """What `tna --install-completion` writes for bash."""
    return run(["tna"], program, _TNA_COMPLETE="source_bash")


def in_bash(program: dict[str, str], script: str, *words: str) -> list[str]:
    """The offers when Tab is pressed at the end of `words`, as bash splits a line into them."""
    assert BASH is not None
    ask = f'{script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _tna_completion tna; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return run([BASH, "--norc", "-c", ask, "bash", *words], program).split()


needs_bash = pytest.mark.skipif(BASH is None, reason="asks bash itself")


@needs_bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["train", "tab"], [name for name in RECIPES if name.startswith("tab")]),
        (["train", "--quiet", "quick"], ["quickstart"]),
        (["recipes", ""], [*RECIPES, *OVERLAYS]),
        (["train", "quickstart", "--with", ""], [entry.name for entry in list_overlays()]),
        (["train", "quickstart", "--run", ""], ["baseline", "tna", "t_snn", "tna_t_snn"]),
        (["report", "quickstart", "--run", "t"], ["tna", "t_snn", "tna_t_snn"]),
        (["compare", "quickstart", "--against", "t"], ["tna", "t_snn", "tna_t_snn"]),
        (
            ["train", "quickstart", "--set", "train.pre"],
            [f"train.precision={p}" for p in ("auto", "fp32", "tf32", "bf16", "fp16")],
        ),
        (["train", "quickstart", "--set", "train.epo"], ["train.epochs=", "train.epochs=250"]),
        # bash takes KEY=VALUE for three words and replaces the last.
        (["train", "quickstart", "--set", "train.precision", "="], ["auto", "fp32", "tf32", "bf16", "fp16"]),
        (["train", "quickstart", "--set", "train.precision", "=", "b"], ["bf16"]),
        (["train", "--set", "data.download", "=", "", "quickstart"][:-1], ["true", "false"]),
        (["train", "--set", "data.name", "=", "cifar10"], ["cifar10", "cifar100", "cifar10dvs"]),
        (["export", "last.pt", "--format", ""], ["packed", "nir", "onnx", "c"]),
        # Nothing fits: bash falls back on file names.
        (["train", "./my"], []),
        (["train", "no_such_recipe", "--run", ""], []),
        (["train", "quickstart", "--set", "no.such"], []),
        (["evaluate", ""], []),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else None,
)
def test_bash(program: dict[str, str], script: str, words: list[str], offered: list[str]) -> None:
    assert in_bash(program, script, "tna", *words) == offered


@needs_bash
def test_every_key_is_offered_and_taken(program: dict[str, str], script: str) -> None:
    offered = [word.removesuffix("=") for word in in_bash(program, script, "tna", "train", "quickstart", "--set", "")]
    assert len(set(offered)) == len(offered)
    sections = {key for key in setting_keys() if any(other.startswith(f"{key}.") for other in setting_keys())}
    assert set(offered) == {*setting_keys(), "seeds", "export"} - sections
    for key in offered:
        assert read_override(f"{key}=1", 1, ())[1] == [], key


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_see_what_the_words_mean(program: dict[str, str], shell: str) -> None:
    asked = {"_TNA_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    lines = run(["tna"], program, **asked, _TYPER_COMPLETE_ARGS="tna train tab").splitlines()
    # One line an offer: a meaning that runs over would be taken for another.
    assert len(lines) == sum(name.startswith("tab") for name in RECIPES)
    assert re.search(r"table2_cifar10\W+Table 2, CIFAR-10", "\n".join(lines))
    sizes = run(["tna"], program, **asked, _TYPER_COMPLETE_ARGS="tna train quickstart --set data.si")
    assert "[height, width]" in sizes
    (value,) = run(["tna"], program, **asked, _TYPER_COMPLETE_ARGS="tna train x --set train.precision=b").splitlines()
    assert "train.precision=bf16" in value


def test_completion_can_be_installed(program: dict[str, str], tmp_path: Path) -> None:
    run(
        ["tna", "--install-completion", "bash"],
        program,
        HOME=str(tmp_path),
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert "_tna_completion" in (tmp_path / ".bash_completions" / "tna.sh").read_text()
    assert "tna.sh" in (tmp_path / ".bashrc").read_text()
