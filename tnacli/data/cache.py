"""Decoded samples kept on disk, so that images and recordings are decoded once.

An entry is one safetensors file that holds one uint8 array, its checksum, and what there was to remark when it
was decoded (events left out, transparent parts filled). Its name is a hash of everything that the array depends
on: each source file's path, size and time of change, the settings of the decoding, and the decoding's version. A
changed file or setting is simply another entry. The cache is an optimisation: if it cannot be read or written,
the program goes on without it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tnacli.errors import StorageError
from tnacli.places import make_folder
from tnacli.storage import write_atomically

logger = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]


class SourceFile(NamedTuple):
    """A file as it was when it was listed, with the time of its last change."""

    path: str
    size_bytes: int
    changed_ns: int


def entry_name(label: str, files: Iterable[SourceFile], settings: str) -> str:
    """The name of the entry for `files` decoded with `settings`, which name the decoding and its version."""
    digest = hashlib.sha256(settings.encode())
    for file in files:
        digest.update(f"\0{file.path}\0{file.size_bytes}\0{file.changed_ns}".encode(errors="surrogateescape"))
    return f"{label}-{digest.hexdigest()[:24]}.safetensors"


def cached(folder: Path | None, name: str, decode: Callable[[list[str]], Bytes]) -> Bytes:
    """The array of entry `name` in `folder`, or what `decode` returns, which then becomes the entry.

    What `decode` appends to the list that it is given is kept with the entry, and logged as a warning once in a
    process, whether the array was decoded or read. A damaged entry is logged and replaced. What `decode` raises
    is passed on, and no entry is left. Without a folder, or where it cannot be written to (logged), every call
    decodes.
    """
    if folder is None:
        return _decoded(decode)[0]
    path = folder / name
    if os.path.exists(path):  # False, too, where nobody may look
        try:
            array, remarks = _read(path)
            _say(remarks)
            return array
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s is damaged and is made again (%s)", path, error)
    array, remarks = _decoded(decode)
    try:
        # One field, since safetensors writes several in an order that changes.
        entry = json.dumps({"crc32": zlib.crc32(np.ascontiguousarray(array).data), "remarks": remarks})
        make_folder(folder)
        write_atomically(path, save({"samples": array}, metadata={"entry": entry}))
    except (StorageError, OSError) as error:
        logger.warning("decoded samples are not kept for the next time: %s", error)
    return array


def _decoded(decode: Callable[[list[str]], Bytes]) -> tuple[Bytes, list[str]]:
    remarks: list[str] = []
    array = decode(remarks)
    _say(remarks)
    return array, remarks


def _say(remarks: list[str]) -> None:
    for remark in remarks:
        _say_once(remark)


@functools.cache
def _say_once(remark: str) -> None:
    logger.warning("%s", remark)


def _read(path: Path) -> tuple[Bytes, list[str]]:
    with safe_open(path, framework="numpy") as file:
        array: Bytes = file.get_tensor("samples")
        entry = json.loads((file.metadata() or {})["entry"])
    if array.dtype != np.uint8 or zlib.crc32(array.data) != entry["crc32"]:
        raise ValueError("its checksum does not match")
    return array, [str(remark) for remark in entry["remarks"]]
