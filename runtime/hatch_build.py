"""What the build of `tnacli-runtime` adds: the files that it shares with tnacli, their licence and their version.

A source distribution holds them already, so nothing is added where it is built from one.
"""

from __future__ import annotations

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

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if TNACLI.exists():
            self._collected.cleanup()
