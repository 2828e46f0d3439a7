"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from tnacli.errors import FileFormatError, StorageError


def is_archive(path: Path) -> bool:
    """Whether the file begins as a zip archive does, such as `torch.save` writes; nothing in it is read or trusted.

    Raises OSError.
    """
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def kind_of(head: bytes) -> str:
    """What a file is that begins with `head`, nine bytes or more if there are, for messages: "a packed file", say."""
    if not head:
        return "an empty file"
    if all(byte in _TEXT for byte in head):
        return "a text file, as recipes and exported C are"
    if head[:1] + head[2:3] == b"\x08\x12":  # of a model, its version and who wrote it
        return "an ONNX file, which `tna predict` takes if it is called .onnx"
    if head[8:9] == b"{":
        return "a packed file, or another safetensors file"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    return "of no kind that tnacli writes"


_TEXT = frozenset(b"\t\n\r" + bytes(range(0x20, 0x7F)))
_MAGIC = {
    b"PK\x03\x04": "a checkpoint, or another zip archive", b"\x89HDF\r\n\x1a\n": "an HDF5 file, as NIR is",
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image",
}  # fmt: skip


def absent(path: Path) -> str:
    """Why `path` is no file that can be read: "no such file", or what it is instead."""
    return "is a folder" if path.is_dir() else "not a regular file" if path.exists() else "no such file"


def network_file(path: Path) -> Path:
    """The file of a network at `path`: itself, or the newest checkpoint in it if it is the folder of a run.

    Raises FileFormatError if nothing is there, or a folder without a checkpoint; what a file is, is not looked at.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileFormatError(
            f"{path}: {absent(path)}; give a checkpoint (last.pt in the folder of a run), that folder, or a packed file "
            f"(`tna export CKPT -o FILE` makes one)"
        )
    for name in ("last.pt", "previous.pt"):
        if (path / name).is_file():
            return path / name
    inside = sorted(path.glob("*/last.pt"))
    several = f"; it holds the folders of {len(inside)} runs, {inside[0].parent} for one" if inside else ""
    raise FileFormatError(
        f"{path} is a folder without a checkpoint (last.pt){several}; give the folder of a run, a checkpoint or a packed file"
    )


def require_replaceable(path: Path) -> None:
    """Refuse what stands at `path` and is no regular file: a folder, a device, a pipe. Raises StorageError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise StorageError(f"{path}: could not be written: it is not a regular file; choose another name")


def remedy(error: OSError) -> str:
    """What may help where a file could not be written, after "; " or ". ": more space, a permission, or another place."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space or choose another place"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make that place writable or choose another"
    return "choose another place"


def write_atomically(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write `data` to `path`: aside, synced to the disk, then renamed over whatever was there.

    Whoever reads `path`, also after a crash or a power cut, finds the previous file or the new one, never a
    part. Missing folders are made. A link stays a link: the file that it points to is replaced.

    Raises StorageError if that fails, disk full included; the previous file is then as it was and nothing
    lies beside it. Raises it, too, if what is there is not a regular file.
    """
    require_replaceable(path)
    # Aside means in the same folder: a rename is atomic only within one file system.
    target = Path(os.path.realpath(path))
    aside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            # Some network and FAT file systems know no permissions; the data is what matters.
            with contextlib.suppress(PermissionError):
                aside.chmod(target.stat().st_mode & 0o777)
        os.replace(aside, target)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written: {error.strerror or error}. What was there before is unchanged. "
            f"{remedy(error).capitalize()}, then run the same command again."
        ) from None
    finally:
        # Gone already after a rename; left over after any failure, Ctrl-C included.
        with contextlib.suppress(OSError):
            aside.unlink()
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can sync a folder."""
    # By now the file is complete and in place, so failing here would report a loss that did not happen.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
