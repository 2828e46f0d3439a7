"""A few of the kills of `tests.stress.kills`, which is run by hand with more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes, as POSIX has them")
def test_killed_at_any_moment_the_same_command_ends_with_the_same_weights() -> None:
    # A process of its own: forking this one, with its threads, would not be safe.
    done = subprocess.run(
        [sys.executable, "-m", "tests.stress.kills", "6", "--seed", "1"],
        cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "6 kills" in done.stdout
    assert "bit-identical" in done.stdout
