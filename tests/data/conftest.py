"""Data sets in miniature, written in the real formats, and the real ones where they are at hand."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's data or cache, or finds the working folder's data."""
    monkeypatch.delenv("TNA_DATA", raising=False)
    monkeypatch.setenv("TNA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def _real(sets: Sequence[str], places: Sequence[str], factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("TNA_TEST_DATA")
    if named and all((Path(named) / place).is_dir() for place in places):
        return Path(named)
    if not (SHARED / "unpack").is_file():
        pytest.skip(f"real data needed: neither $TNA_TEST_DATA nor {SHARED} holds {', '.join(sets)}")
    folder = factory.mktemp("real")
    subprocess.run(["bash", str(SHARED / "unpack"), str(folder), *sets], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real Fashion-MNIST and a subset of the real N-MNIST."""
    return _real(["fashion_mnist", "nmnist"], ["FashionMNIST", "NMNIST"], tmp_path_factory)


@pytest.fixture(scope="session")
def real_cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real CIFAR-10 in class folders."""
    return _real(["cifar10"], ["cifar10"], tmp_path_factory)


@pytest.fixture(scope="session")
def real_cifar100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real CIFAR-100 in class folders."""
    return _real(["cifar100"], ["cifar100"], tmp_path_factory)


@pytest.fixture(scope="session")
def real_dvs128(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with real recordings of a DVS128, seven objects, {train,test}/<object>/."""
    return _real(["dvs128_objects"], ["DVS128Objects"], tmp_path_factory)


@pytest.fixture
def write_images() -> Callable[..., Path]:
    """Write random images as PNG class folders; every image is another, and the same in every run."""

    def write(
        place: Path,
        classes: Sequence[str],
        *,
        train: int = 3,
        test: int = 2,
        size: tuple[int, int] = (8, 8),
        mode: str = "RGB",
    ) -> Path:
        rng = np.random.default_rng(0)
        for split, count in (("train", train), ("test", test)):
            for name in classes:
                folder = place / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    shape = size if mode == "L" else (*size, 3)
                    pixels = rng.integers(0, 256, shape).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number:04}.png")
        return place

    return write


AEDAT2_HEADER = (
    b"#!AER-DAT2.0\r\n"
    b"# This is a raw AE data file - do not edit\r\n"
    b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
    b"# Timestamps tick is 1 us\r\n"
    b"# created Sat May 09 14:26:52 CST 2015\r\n"
)


@pytest.fixture
def write_aedat2() -> Callable[..., Path]:
    """Write AEDAT 2.0 as jAER does: a text header, then big-endian address and time of each event."""

    def write(path: Path, address: Sequence[int], time: Sequence[int], header: bytes = AEDAT2_HEADER) -> Path:
        words = np.empty((len(address), 2), ">u4")
        words[:, 0] = np.asarray(address, np.uint32)
        words[:, 1] = np.asarray(time, np.int64).astype(np.uint32)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(header + words.tobytes())
        return path

    return write


@pytest.fixture
def write_cifar10dvs(write_aedat2: Callable[..., Path]) -> Callable[..., Path]:
    """Write recordings of CIFAR10-DVS under their published names, the given numbers of every class."""
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def write(place: Path, numbers: Sequence[int], events: int = 60) -> Path:
        for label, name in enumerate(classes):
            for number in numbers:
                rng = np.random.default_rng(1000 * label + number)
                address = rng.integers(0, 1 << 15, events)
                time = np.sort(rng.integers(0, 1_300_000, events))
                write_aedat2(place / name / f"cifar10_{name}_{number}.aedat", address, time)
        return place

    return write


@pytest.fixture
def write_nmnist() -> Callable[..., Path]:
    """Write the events (x, y, t in µs, p) of an N-MNIST recording: 5 bytes each, x, y, then polarity and 23 bits of time."""

    def write(path: Path, events: Iterable[tuple[int, int, int, int]]) -> Path:
        rows = np.array(
            [[x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255] for x, y, t, p in events],
            np.uint8,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rows.tobytes())
        return path

    return write


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve a folder on this machine, byte ranges included; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = (folder / self.path.lstrip("/")).read_bytes()
                start = 0
                if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                    start = int(found[1])
                if start >= len(content) > 0:
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:])

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
