"""Images and recordings that nobody has labelled, read one by one as a data set would read them. Loads no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tnacli.data import image_files
from tnacli.data.cache import Bytes
from tnacli.data.folders import entries, readable
from tnacli.data.frames import to_frames
from tnacli.data.recordings import RECORDING_SUFFIXES, read_recording
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS
from tnacli.storage import absent


@dataclass(frozen=True)
class Wanted:
    """What a network is fed with: images [channels, *size], or `timesteps` event frames [2, *size] made as `binning` says.

    `sensor` is the (height, width) of the camera, None for what a recording says; `data_set` names the set that it was
    trained on, whose customs apply.
    """

    kind: str
    channels: int
    size: tuple[int, int]
    timesteps: int
    data_set: str = "folder"
    binning: str = "count"
    sensor: tuple[int, int] | None = None

    @property
    def suffixes(self) -> frozenset[str]:
        """The endings of the files that are looked for in folders."""
        return image_files.IMAGE_SUFFIXES if self.kind == "images" else RECORDING_SUFFIXES

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return *(() if self.kind == "images" else (self.timesteps,)), self.channels, *self.size

    def read(self, path: Path) -> tuple[Bytes, tuple[str, ...]]:
        """The sample in `path`, uint8 [channels, H, W] or [timesteps, 2, H, W], and what was done to it for that.

        Raises DataError that names the file if it is missing, damaged, or no such sample.
        """
        if not path.is_file():
            what = "the files in it" if path.is_dir() else "images, recordings, or folders that hold them"
            raise DataError(f"{readable(str(path))}: {absent(path)}. Give {what}.")
        return self._image(str(path)) if self.kind == "images" else self._frames(str(path))

    def _image(self, path: str) -> tuple[Bytes, tuple[str, ...]]:
        if os.path.splitext(path)[1].lower() in RECORDING_SUFFIXES:
            raise DataError(f"{readable(path)} is a recording of events, and the network takes images.")
        with image_files.opened(path) as image:
            return image_files.pixels(path, image, self.channels, self.size)

    def _frames(self, path: str) -> tuple[Bytes, tuple[str, ...]]:
        if os.path.splitext(path)[1].lower() not in RECORDING_SUFFIXES:
            raise DataError(
                f"{readable(path)} is no recording: the network takes events, from {', '.join(sorted(RECORDING_SUFFIXES))}."
            )
        spec = DATASETS[self.data_set] if self.data_set in DATASETS else DATASETS["event_folder"]
        events, camera, outside = read_recording(path, self.sensor or spec.camera, on_its_side=spec.on_its_side)
        if self.size[0] > camera[0] or self.size[1] > camera[1]:
            raise DataError(
                f"{readable(path)} is of a camera of {camera[0]}x{camera[1]} pixels, and the network takes frames of "
                f"{self.size[0]}x{self.size[1]}: events can only be brought closer together."
            )
        done = [
            f"{self.timesteps} frames of {'equal numbers of events' if self.binning == 'count' else 'equal length'}"
        ]
        if self.size != camera:
            done.append(f"{camera[0]}x{camera[1]} brought to {self.size[0]}x{self.size[1]}")
        if outside:
            done.append("events outside the camera left out")
        frames = to_frames(events, sensor=camera, timesteps=self.timesteps, size=self.size, binning=self.binning)
        return frames, tuple(done)

    def batch(self, paths: Sequence[Path]) -> tuple[Bytes, list[tuple[str, ...]]]:
        """The samples in `paths`, [n, ...], and what was done to each."""
        read = [self.read(path) for path in paths]
        return np.stack([sample for sample, _ in read]), [done for _, done in read]


def sample_files(places: Sequence[Path], suffixes: frozenset[str]) -> tuple[list[Path], list[Path]]:
    """The files among `places`, and those with `suffixes` in the folders among them and below, by name; and those passed over.

    Raises DataError for a folder that holds none.
    """
    found: list[Path] = []
    passed_over: list[Path] = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        inside: list[Path] = []
        _walk(place, suffixes, inside, passed_over)
        if not inside:
            raise DataError(
                f"{readable(str(place))} holds no files that the network takes, neither do folders in it: "
                f"{', '.join(sorted(suffixes))}."
            )
        found += inside
    return found, passed_over


def _walk(folder: Path, suffixes: frozenset[str], found: list[Path], passed_over: list[Path]) -> None:
    for entry in entries(folder):
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):  # a link to a folder could lead back here
            _walk(path, suffixes, found, passed_over)
        elif entry.is_file() and path.suffix.lower() in suffixes:
            found.append(path)
        else:
            passed_over.append(path)
