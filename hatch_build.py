"""What a wheel gets where TNA_AHEAD=1 asks for it: the engine of packed files, compiled for any processor of this kind.

Without it a wheel serves every platform, and the engine is compiled on first use. The library knows nothing of Python: one
wheel serves every version of it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))


class CompiledEngine(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("TNA_AHEAD") != "1" or version == "editable":
            return
        self._compiled = tempfile.TemporaryDirectory(prefix="tnacli-ahead-")
        add_compiled(ROOT / "tnacli" / "native" / "engine.c", Path(self._compiled.name), "tnacli", build_data)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_compiled"):
            self._compiled.cleanup()


def add_compiled(engine: Path, folder: Path, package: str, build_data: dict[str, Any]) -> None:
    """Compile `engine` in `folder` and add it to the wheel of `package`, which is then for this platform alone.

    Raises OSError or SubprocessError where it cannot be compiled.
    """
    from tnacli.native.compile import compile_ahead  # loads nothing but Python's own library

    library = compile_ahead(engine, folder)
    build_data["force_include"][str(library)] = f"{package}/native/{library.name}"
    build_data["pure_python"] = False
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    build_data["tag"] = f"py3-none-{platform}"
