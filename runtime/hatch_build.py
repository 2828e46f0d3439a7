"""What the build of `tnacli-runtime` adds: the files that it shares with tnacli, their licence and their version.

A source distribution holds them already, so nothing is added where it is built from one. With TNA_AHEAD=1 a checkout's wheel
brings the engine compiled, as tnacli's does.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))

from collect import TNACLI, collect, version


class Version(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        metadata["version"] = version()


class SharedFiles(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not TNACLI.exists():
            return
        self._collected = tempfile.TemporaryDirectory(prefix="tnacli-runtime-")
        added = {str(file): f"tnacli_runtime/{name}" for file, name in collect(Path(self._collected.name)).items()}
        added[str(TNACLI.parent / "LICENSE")] = "tnacli_runtime/LICENSE"
        build_data["force_include"].update(added)
        if os.environ.get("TNA_AHEAD") == "1" and version != "editable":
            engine = Path(self._collected.name) / "native" / "engine.c"
            _of_tnacli().add_compiled(engine, Path(self._collected.name), "tnacli_runtime", build_data)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if TNACLI.exists():
            self._collected.cleanup()


def _of_tnacli() -> Any:
    """tnacli's own build hook, which has this one's file name."""
    spec = importlib.util.spec_from_file_location("hatch_build_of_tnacli", TNACLI.parent / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
