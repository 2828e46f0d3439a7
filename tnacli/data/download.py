"""Fetching published archives and unpacking them.

A file is downloaded beside its final name, and gets that name only once its MD5 is the published one. What an
interrupted download left is used: the next one asks for the rest.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tnacli.data.source import OnProgress
from tnacli.errors import DataError, StorageError
from tnacli.storage import remedy
from tnacli.version import __version__

_BLOCK = 1 << 20
_PATIENCE_S = 60


@dataclass(frozen=True)
class Archive:
    """A published file: its name, its addresses in the order to try them, and its MD5 in hexadecimal."""

    name: str
    urls: tuple[str, ...]
    md5: str


def fetch(archive: Archive, folder: Path, on_progress: OnProgress) -> Path:
    """The path of `archive` in `folder`, downloaded unless it is there already with the right MD5.

    Raises DataError if no address has it or what came is not it, and StorageError if it cannot be written.
    """
    target = folder / archive.name
    if target.is_file() and _md5(target) == archive.md5:
        return target
    part = target.with_name(f"{archive.name}.part")
    problems = []
    for url in archive.urls:
        # Twice: what an earlier run left may be damaged or of another file, and then all is fetched anew.
        for attempt in ("going on", "anew"):
            going_on = part.exists()
            try:
                _download(url, part, f"downloading {archive.name}", on_progress)
            except (OSError, http.client.HTTPException, _RefusedError) as error:
                problems.append(f"  {url}: {getattr(error, 'reason', None) or error}")
                break
            with _writing(target):
                if _md5(part) == archive.md5:
                    os.replace(part, target)
                    return target
                part.unlink()
            if attempt == "anew" or not going_on:
                problems.append(f"  {url}: what came is not the published file: its MD5 differs")
                break
    raise DataError(
        "\n".join([f"{archive.name} could not be downloaded:", *problems])
        + "\nRun the same command again to go on where it stopped, or fetch the file in a browser and put it "
        f"at {target}."
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the zip, tar or gz file `archive` into `folder`: first aside, then moved into place.

    Raises DataError, having put nothing in place, if the archive is damaged or holds a name that would lead
    out of `folder`, or anything but files and folders; StorageError if it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as aside:
            for name, content in _members(archive):
                path = Path(aside) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    shutil.copyfileobj(content, file, _BLOCK)
            for path in sorted(Path(aside).rglob("*")):
                if path.is_file():
                    final = folder / path.relative_to(aside)
                    final.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(path, final)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is damaged ({error}). Remove it and download it again.") from error
    except OSError as error:
        raise StorageError(
            f"{folder}: could not be written: {error.strerror or error}. {remedy(error).capitalize()} (--data-root), then run "
            "the same command again."
        ) from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell trouble with the disk from trouble with the network, which are both OSErrors."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written: {error.strerror or error}. {remedy(error).capitalize()} (--data-root); the same "
            "command goes on where it stopped."
        ) from error


class _RefusedError(Exception):
    """A server answered, but not with the file."""


def _download(url: str, part: Path, what: str, on_progress: OnProgress) -> None:
    """Bring `part` to the whole of `url`, asking only for what is missing where the server can do that."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"tnacli/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_PATIENCE_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:
            raise
        return  # There is nothing after `have`: the part is whole, or of another file. Its MD5 will tell.
    with answer:
        if answer.status not in (200, 206):
            # figshare's firewall answers 202 and nothing to what it takes for a robot.
            raise _RefusedError(f"the server answered {answer.status} without the file, as to a robot")
        going_on = answer.status == 206
        if going_on and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            raise _RefusedError("the server answered with another part of the file than the one asked for")
        have = have if going_on else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        with _writing(part):
            part.parent.mkdir(parents=True, exist_ok=True)
            file = part.open("ab" if going_on else "wb")
        with file:
            while block := answer.read(_BLOCK):
                with _writing(part):
                    file.write(block)
                    file.flush()
                have += len(block)
                on_progress(what, have, max(total, have))
    if total and have < total:
        raise _RefusedError(f"the connection ended after {have:,} of {total:,} bytes")


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Name and content of every file in `archive`; the name is relative and stays below where it is put."""
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                if not entry.is_dir():
                    with zipped.open(entry) as content:
                        yield _safe(entry.filename, archive), content
    elif archive.name.endswith((".tar", ".tar.gz", ".tgz")):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isdir():
                    continue
                content_or_none = tar.extractfile(member) if member.isreg() else None
                if content_or_none is None:
                    raise DataError(f"{archive} holds {member.name!r}, which is no plain file; nothing was unpacked.")
                with content_or_none:
                    yield _safe(member.name, archive), content_or_none
    else:
        with gzip.open(archive) as unzipped:
            yield PurePosixPath(archive.name.removesuffix(".gz")), cast(IO[bytes], unzipped)


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        raise DataError(
            f"{archive} holds {name!r}, which leads out of its folder; nothing was unpacked. Do not use it."
        )
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
