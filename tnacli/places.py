"""Where data sets are, and where the program keeps things of its own."""

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


def make_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it, for others to read at most, whatever the umask lets them do.

    Raises OSError where it cannot be made.
    """
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(mode=0o755, exist_ok=True)


def data_root(root: str | None) -> tuple[Path, str]:
    """The folder that holds data sets, and what named it: the recipe, the environment, or nobody."""
    if root is not None:
        return Path(root).expanduser(), "--data-root, or data.root of the recipe"
    if named := os.environ.get("TNA_DATA"):
        return Path(named).expanduser(), "$TNA_DATA"
    return Path("data"), "the default, as none of --data-root, data.root and $TNA_DATA is given"
