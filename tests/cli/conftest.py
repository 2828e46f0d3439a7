"""Running `tna` as a user would, in this process where possible: importing torch anew costs seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TINY_RECIPE = """\
name: tiny
seeds: [0]
data: {name: digits, train_samples: 120, test_samples: 60}
model: {layout: 4C3-AP2-6C3-AP2-12FC, timesteps: 3}
train: {epochs: 3, batch_size: 40}
runs:
  baseline: {}
  tna_t_snn:
    objective: {kind: twin, alpha: 1e-2}
    compression: {mode: ternary, delta: 0.05}
"""


@dataclass(frozen=True)
class Result:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Tna = Callable[..., Result]


@pytest.fixture
def tna(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tna:
    """Call `tna ARGS...` in this process, its streams not being terminals."""
    from tnacli.cli.app import main

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["tna", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Result(end.value.code if isinstance(end.value.code, int) else 1, captured.out, captured.err)

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE)
    return path


def environment(**extra: str) -> dict[str, str]:
    """This process's environment for a child, without what forces or forbids colour."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", **extra}


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m tnacli ARGS...` as a process of its own, in pipes."""

    def call(*arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tnacli", *map(str, arguments)],
            capture_output=True, text=True, env=environment(**extra), timeout=120, check=False,
        )  # fmt: skip

    return call


def loaded_by(*arguments: object) -> tuple[set[str], int, int]:
    """What `tna ARGS...` has loaded at its end in a process of its own, how much is frozen then, and its exit code."""
    program = (
        f"import gc, sys; sys.argv = {['tna', *map(str, arguments)]}\n"
        "from tnacli.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: print('loaded', gc.get_freeze_count(), end.code, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    _, frozen, code, *loaded = done.stdout.splitlines()[-1].split()
    return set(loaded), int(frozen), int(code)
