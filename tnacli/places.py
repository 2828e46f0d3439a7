"""Where the program keeps things of its own."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """For decoded data and compiled kernels; None where there is no home folder.

    $TNA_CACHE, else tnacli below $XDG_CACHE_HOME or ~/.cache.
    """
    if named := os.environ.get("TNA_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "tnacli"
    try:
        return Path.home() / ".cache" / "tnacli"
    except RuntimeError:
        return None
