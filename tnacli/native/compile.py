"""C files of this package, built once with the machine's own compiler and kept in the user's cache. Loads no torch.

A wheel may bring a library that suits any processor of its kind, compiled where the wheel was made. A machine without a C
compiler does without the others and says so. Kernels are code: they are loaded only from where nobody but this user and root
can have put them, and from the package's own folder.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from tnacli.machine import cpuinfo
from tnacli.places import cache_folder, make_folder

_FLAGS = (
    "-O3",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
    "-std=c11",
)
# For this very processor, in the words of most compilers, in those of clang on arm64, and for any processor of its kind.
_TUNING = ("-march=native", "-mcpu=native", None)
_COMPILE_SECONDS = 60


@dataclass(frozen=True)
class Native:
    """A library of compiled kernels, or why there is none; `not_cached`: why it is kept elsewhere than in the cache."""

    library: ctypes.CDLL | None
    reason: str
    not_cached: str | None = None


def switched_off() -> bool:
    """Whether the user wants no compiled kernels."""
    return os.environ.get("TNA_NATIVE", "1") == "0"


def find_compiler() -> str | None:
    """The C compiler of this machine, $CC first."""
    command = _compiler_command()
    return None if command is None else command[0]


def _compiler_command() -> tuple[str, ...] | None:
    """The compiler and the arguments that $CC gives it, as in CC="ccache gcc"."""
    asked = os.environ.get("CC") or "cc"
    words = list[str]()
    with contextlib.suppress(ValueError):  # a quotation mark without its other one
        words = shlex.split(asked)
    for command in ([asked], words, ["gcc"], ["clang"]):  # a path may have spaces in it
        program = shutil.which(command[0]) if command else None
        if program is not None:
            return (program, *command[1:])
    return None


def compiled(source: Path, *flags: str, for_any: bool = False) -> Native:
    """The C file `source` as a library, compiled for this machine with more `flags` if it is not kept.

    With `for_any` the source itself chooses what suits the processor, and needs no OpenMP; what a wheel brought is used. The
    library is kept in the cache, and where that cannot be written, run from or trusted, in a private temporary folder.
    """
    if switched_off():
        return Native(None, "switched off by TNA_NATIVE=0")
    if for_any:
        with contextlib.suppress(OSError):  # no such file, or one that does not run here
            return Native(ctypes.CDLL(str(source.with_name(_shipped_name(source)))), "compiled ahead, in the wheel")
    compiler = _compiler_command()
    if compiler is None:
        return Native(None, "no C compiler found; training is slower without one (Debian: apt install gcc)")
    failed = list[str]()
    places: tuple[Callable[[], Path], ...] = (_cached_folder, _private_folder)
    # OpenMP is PyTorch's own, already loaded under the same name; without it one thread does the work.
    ways = ((None,), (None,)) if for_any else (("-fopenmp", None), _TUNING)
    for openmp, tuning, find in product(*ways, places):
        chosen = [flag for flag in (tuning, openmp) if flag is not None]
        said = f"compiled by {Path(compiler[0]).name}{'' if tuning or for_any else ', not for this very processor'}"
        try:
            folder = find()
            path = _built(source, compiler, (*_FLAGS, *flags, *chosen), folder)
            library = ctypes.CDLL(str(path))
        except (OSError, subprocess.SubprocessError) as error:
            failed.append(str(error))
            continue
        return Native(library, said) if find is _cached_folder else Native(library, f"{said}, in {folder}", failed[-1])
    return Native(None, f"compiled kernels cannot be used: {'; '.join(dict.fromkeys(failed[-len(places) :]))}")


def compile_ahead(source: Path, folder: Path) -> Path:
    """The library of `source`, which is for any processor of this machine's kind, for a wheel to bring in the source's folder.

    It is made in `folder`. Raises OSError or SubprocessError where it cannot be.
    """
    compiler = _compiler_command()
    if compiler is None:
        raise FileNotFoundError("no C compiler found")
    # macOS: which of its two processors, as builders of wheels say it.
    kinds = shlex.split(os.environ.get("ARCHFLAGS", "")) if sys.platform == "darwin" else []
    path = folder / _shipped_name(source)
    _compile(source, compiler, (*_FLAGS, *kinds), path)
    return path


def _shipped_name(source: Path) -> str:
    """What a wheel calls the library of `source`: another once a source is another."""
    return f"{source.stem}-{_digest(source)}{'.dll' if sys.platform == 'win32' else '.so'}"


def _digest(source: Path, *more: object) -> str:
    """Of the source, of what it may include, and of what `more` a library depends on."""
    headers = {path.name: path for folder in (Path(__file__).parent, source.parent) for path in folder.glob("*.h")}
    texts = b"".join(path.read_bytes() for path in (source, *(headers[name] for name in sorted(headers))))
    return hashlib.sha256(texts + repr(more).encode()).hexdigest()[:16]


def _built(source: Path, compiler: tuple[str, ...], flags: tuple[str, ...], folder: Path) -> Path:
    """The library in `folder`, made if it is not there. Raises OSError or SubprocessError where it cannot be."""
    path = folder / f"{_digest(source, flags, compiler, _processor())}.so"
    with contextlib.suppress(OSError):  # not there, or what another may have put there
        _require_own(path)
        return path
    handle, name = tempfile.mkstemp(".so", ".", folder)  # says why it cannot be, where the compiler would only fail
    os.close(handle)
    aside = Path(name)
    try:
        _compile(source, compiler, flags, aside)
        aside.chmod(0o700)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    return path


def _compile(source: Path, compiler: tuple[str, ...], flags: tuple[str, ...], path: Path) -> None:
    """Write the library `path`. Raises OSError or SubprocessError where it cannot be."""
    done = subprocess.run(
        [*compiler, *flags, "-o", str(path), str(source), "-lm"],
        capture_output=True, timeout=_COMPILE_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise OSError(f"{compiler[0]} could not compile {source.name}{_complaint(done.stderr)}")


def _complaint(stderr: bytes) -> str:
    """The first line of a compiler's words that tells an error, else the first of all; nothing of a silent one."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    first = next((line for line in lines if "error" in line), lines[0] if lines else "")
    return first and f": {first}"


def _cached_folder() -> Path:
    """Of kernels in the user's cache. Raises OSError where there is none, or not one that is this user's alone."""
    cached = cache_folder()
    if cached is None:
        raise FileNotFoundError("there is no home folder")
    cached = Path(os.path.realpath(cached))
    folder = cached / "kernels"
    make_folder(folder)
    for own in (cached, folder):
        _require_own(own)
    _require_fixed(folder)
    return folder


@cache
def _private_folder() -> Path:
    """One below the temporary folder that only this user can write, or this process's own. Raises OSError if neither.

    What lies there is loaded and run, and anyone may make a folder of a name that can be guessed.
    """
    if hasattr(os, "getuid"):
        folder = Path(os.path.realpath(tempfile.gettempdir())) / f"tnacli-{os.getuid()}"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            _require_own(folder)
            _require_fixed(folder)
            return folder
    own = Path(os.path.realpath(tempfile.mkdtemp(prefix="tnacli-")))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    _require_fixed(own)
    return own


def _require_own(path: Path) -> None:
    """Raise OSError unless `path` is there, no link, and nobody but this user and root can have written it, or can."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise PermissionError(f"{path} is a link")
    if not hasattr(os, "getuid"):
        return
    if status.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"{path} belongs to another user")
    if status.st_mode & 0o022:
        raise PermissionError(f"others can write to {path}")


def _require_fixed(folder: Path) -> None:
    """Raise PermissionError if others can put another folder in the place of `folder` or one above it."""
    open_to_others = None
    for above in folder.parents if hasattr(os, "getuid") else ():
        mode = above.stat().st_mode
        if not mode & 0o011:
            open_to_others = None  # none of them gets below this one
        elif mode & 0o022 and not mode & stat.S_ISVTX and open_to_others is None:
            open_to_others = above
    if open_to_others is not None:
        raise PermissionError(f"others can write to {open_to_others}")


def _processor() -> str:
    """What `-march=native` depends on."""
    return cpuinfo("flags") or cpuinfo("Features") or platform.machine() + platform.processor()


def check(failed: int) -> None:
    """Raise MemoryError if a kernel could not get its working memory."""
    if failed:
        raise MemoryError("out of memory in a compiled kernel")
