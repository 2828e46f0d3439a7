"""C files of this package, built once with the machine's own compiler and kept in the user's cache; `kernels.c` above all.

Eager PyTorch sweeps over a layer's activations some thirty times a training step for batch norm, neurons and pooling; the
kernels do it in four. A machine without a C compiler does without them and says so.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tnacli.places import cache_folder

_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = (
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
    "-std=c11",
)
_COMPILE_SECONDS = 60


class LayerFacts(ctypes.Structure):
    """`Layer` of kernels.c: the shape before pooling and the neuron's constants."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("T", "N", "H", "W", "C", "pool", "repeated", "half")),
        *((name, ctypes.c_float) for name in ("decay", "threshold", "window", "height")),
    ]  # fmt: skip


@dataclass(frozen=True)
class Native:
    """A library of compiled kernels, or why there is none."""

    library: ctypes.CDLL | None
    reason: str


@cache
def native() -> Native:
    """The kernels of training for this machine, compiled if need be (about a second, once)."""
    kernels = compiled(_SOURCE)
    if kernels.library is not None:
        _bind(kernels.library)
    return kernels


def compiled(source: Path, *flags: str) -> Native:
    """The C file `source` as a library, compiled for this machine with more `flags` if it is not in the cache."""
    if os.environ.get("TNA_NATIVE", "1") == "0":
        return Native(None, "switched off by TNA_NATIVE=0")
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return Native(None, "no C compiler found; training is slower without one (Debian: apt install gcc)")
    try:
        # OpenMP is PyTorch's own, already loaded under the same name; without it one thread does the work.
        for openmp in (("-fopenmp",), ()):
            path = _built(source, compiler, (*_FLAGS, *flags, *openmp))
            if path is not None:
                return Native(ctypes.CDLL(str(path)), f"compiled by {Path(compiler).name}")
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"compiled kernels cannot be used: {error}")
    return Native(None, f"{compiler} could not compile the kernels; training is slower without them")


def _built(source: Path, compiler: str, flags: tuple[str, ...]) -> Path | None:
    key = hashlib.sha256(
        source.read_bytes() + repr((flags, compiler, _processor(), torch.__version__)).encode()
    ).hexdigest()[:16]
    path = (cache_folder() or _private_folder()) / "kernels" / f"{key}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{key}.{os.getpid()}.so")
    try:
        done = subprocess.run(
            [compiler, *flags, "-o", str(aside), str(source), "-lm"],
            capture_output=True, timeout=_COMPILE_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            return None
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    return path


@cache
def _private_folder() -> Path:
    """Where there is no home folder: one below the temporary folder that only this user can write, or this process's own.

    What lies there is loaded and run, and anyone may make a folder of a name that can be guessed.
    """
    if hasattr(os, "getuid"):
        folder = Path(tempfile.gettempdir()) / f"tnacli-{os.getuid()}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        facts = folder.lstat()  # a link is refused: it may lead anywhere tomorrow
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and stat.S_IMODE(facts.st_mode) == 0o700:
            return folder
    own = Path(tempfile.mkdtemp(prefix="tnacli-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


def _processor() -> str:
    """What `-march=native` depends on."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.machine() + platform.processor()


def _bind(library: ctypes.CDLL) -> None:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.channel_moments.argtypes = [pointer, count, count, count, pointer, pointer, count]
    library.lif_forward.argtypes = [ctypes.POINTER(LayerFacts), *[pointer] * 5, count]
    library.lif_backward.argtypes = [ctypes.POINTER(LayerFacts), *[pointer] * 11, count]
    for function in (library.channel_moments, library.lif_forward, library.lif_backward):
        function.restype = ctypes.c_int


def address(tensor: Tensor | None) -> int | None:
    """Where the kernels find a tensor's numbers; it must stay alive while they run."""
    return None if tensor is None else tensor.data_ptr()


def check(failed: int) -> None:
    """Raise MemoryError if a kernel could not get its working memory."""
    if failed:
        raise MemoryError("out of memory in a compiled kernel")
