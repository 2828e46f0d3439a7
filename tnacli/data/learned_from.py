"""What is stored of the data that a run learned from, and its comparison with the files there now. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tnacli.data.files import GLANCE, changes

UNKNOWN = ""
"""The fingerprint of what a network learned from that was trained elsewhere."""


class LearnedFrom(BaseModel):
    """The data that a run learned from, as its result, its checkpoints and its `run.json` have it.

    `fingerprint` covers class names and all samples, `digests` the samples of each split, `samples` counts them. `files` are
    those of `files_there` when the samples were read, or were last found to be the same; None if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    name: str
    source: str
    fingerprint: str
    samples: dict[str, Annotated[int, Field(ge=0)]]
    digests: dict[str, str]
    files: dict[str, Annotated[str, Field(pattern=GLANCE)]] | None

    def changed(self, now: Mapping[str, str]) -> str | None:
        """How the files `now` are others than those learned from, for people; empty if they are the same, None if unknown."""
        return None if self.files is None else changes(self.files, now)
