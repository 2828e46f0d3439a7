"""What `tna doctor` looks at: whether this machine can train, how well, and what to do where it cannot.

Loading this module loads no torch; looking does.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tnacli.version import __version__

_LITTLE_SPACE_BYTES = 2e9

EXTRAS = {
    "plots": (("matplotlib",), "pictures of reports and activity"),
    "tensorboard": (("tensorboard",), "logs for TensorBoard"),
    "nir": (("nir",), "export to NIR"),
    "onnx": (("onnx", "onnxruntime"), "export to ONNX"),
    "aedat4": (("aedat",), "recordings in .aedat4 files"),
}
"""What the package's optional dependencies bring, and what for."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. A `problem` prevents work, a `warning` makes it slower or narrower; both come with a `fix`."""

    name: str
    status: Literal["ok", "warning", "problem"]
    found: str
    fix: str | None = None


def examine(out: Path, data_root: str | None = None) -> list[Finding]:
    """Everything about this machine that matters: `out` is where runs go, `data_root` where data sets lie.

    Nothing is raised: what cannot even be looked at is a problem with its reason.
    """
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("tnacli", _versions), ("torch", _torch), ("torchvision", _torchvision), ("tonic", _tonic), ("extras", _extras),
        ("devices", _devices), ("compiled kernels", _kernels), ("triton", _triton),
        ("data sets", lambda: _data(data_root)),
        ("runs folder", lambda: _place("runs folder", out, "choose another place with --out")),
        ("cache folder", _cache),
    ]  # fmt: skip
    found: list[Finding] = []
    for name, look in looks:
        try:
            found.extend(look())
        except Exception as error:  # a broken installation fails in any way it likes
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            found.append(Finding(name, "problem", f"cannot be used: {what}", _REINSTALL))
    return found


_REINSTALL = "install it anew in a fresh virtual environment: pip install --force-reinstall tnacli torch torchvision"


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    text = f"{__version__}, Python {python}, {platform.system()} {platform.machine()}"
    yield Finding("tnacli", "ok", text)


def _torch() -> Iterator[Finding]:
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield Finding("torch", "ok", f"{torch.__version__}, {built}, {torch.get_num_threads()} threads")


def _torchvision() -> Iterator[Finding]:
    torch, vision = (importlib.metadata.version(name) for name in ("torch", "torchvision"))
    wanted = _torch_wanted(importlib.metadata.requires("torchvision") or [])
    fix = f"install the torchvision that belongs to torch {_public(torch)}: pip install --upgrade torch torchvision"
    if wanted is not None and wanted != _public(torch):
        yield Finding("torchvision", "problem", f"{vision}, made for torch {wanted}, not {torch}", fix)
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        first = str(error).splitlines()[0]
        yield Finding("torchvision", "problem", f"{vision} does not work with torch {torch}: {first}", fix)
        return
    yield Finding("torchvision", "ok", f"{vision}, fits torch {torch}")


def _torch_wanted(requirements: list[str]) -> str | None:
    """The torch version that a package's requirements pin, if they do."""
    for requirement in requirements:
        if found := re.fullmatch(r"torch ?\(?==([0-9.]+)\)?", requirement.split(";")[0].strip()):
            return found[1]
    return None


def _public(version: str) -> str:
    return version.partition("+")[0]


def _tonic() -> Iterator[Finding]:
    yield Finding("tonic", "ok", importlib.metadata.version("tonic"))


def _extras() -> Iterator[Finding]:
    for extra, (packages, purpose) in EXTRAS.items():
        there, missing = [], []
        for package in packages:
            try:
                there.append(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                missing.append(package)
        if missing:
            found = f"{', '.join(missing)} not installed: no {purpose}"
            yield Finding(f"extra {extra}", "warning", found, f"pip install 'tnacli[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", f"{', '.join(there)}: {purpose}")


def _devices() -> Iterator[Finding]:
    import torch

    from tnacli.training.device import why_not_built_for
    from tnacli.training.precision import resolve_precision

    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    for name in names:
        device = torch.device(name)
        if device.type == "cuda" and (why_not := why_not_built_for(device)) is not None:
            fix = "install a PyTorch that is built for it (https://pytorch.org/get-started), or train with --device cpu"
            # cuda:0 is what device auto takes; without another one work goes on.
            yield Finding(f"device {name}", "warning" if device.index else "problem", why_not, fix)
            continue
        title = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
        chosen, why = resolve_precision("auto", device)
        yield Finding(f"device {name}", "ok", f"{title}precision auto means {chosen}: {why}")
    if torch.version.cuda and not torch.cuda.is_available():
        fix = "check `nvidia-smi` and the driver's version; without an NVIDIA GPU all is well"
        yield Finding("device cuda", "warning", "torch is built for CUDA, and finds no GPU", fix)


def _kernels() -> Iterator[Finding]:
    from tnacli.snn.native import find_compiler, native, switched_off

    kernels, compiler = native(), find_compiler()
    place = "set TNA_CACHE to a folder that you alone can write to, and whose file system lets programs run"
    if kernels.not_cached is not None:
        yield Finding("compiled kernels", "warning", f"{kernels.reason}: {kernels.not_cached}", place)
    elif kernels.library is not None:
        yield Finding("compiled kernels", "ok", kernels.reason)
    elif switched_off():
        yield Finding("compiled kernels", "warning", kernels.reason, "unset TNA_NATIVE")
    elif compiler is None:
        yield Finding("compiled kernels", "warning", kernels.reason, "install a C compiler (Debian: apt install gcc)")
    else:
        yield Finding("compiled kernels", "warning", kernels.reason, f"check that {compiler} can compile, or {place}")


def _triton() -> Iterator[Finding]:
    import torch

    from tnacli.snn.triton_lif import why_not_here

    for index in range(torch.cuda.device_count()):
        name = f"triton cuda:{index}"
        if (why_not := why_not_here(torch.device("cuda", index))) is None:
            yield Finding(name, "ok", "layers of spiking neurons are computed by one operator")
        else:
            yield Finding(name, "warning", why_not, "install what is missing, for faster training in less memory")


def _data(root: str | None) -> Iterator[Finding]:
    from tnacli.data.status import status
    from tnacli.recipe.datasets import DATASETS, OWN

    for name in DATASETS:
        if name in OWN:
            continue
        seen = status(name, root)
        if seen.problem is not None:
            yield Finding(f"data {name}", "warning", seen.problem, seen.how_to_get)
        elif seen.found is None:
            looked = ", ".join(seen.looked)
            yield Finding(f"data {name}", "warning", f"not found; looked in {looked}", seen.how_to_get)
        else:
            where = f" in {seen.path}" if seen.path else ""
            yield Finding(
                f"data {name}", "ok", f"{seen.found}{where}: {seen.train} training and {seen.test} test samples"
            )


def _cache() -> Iterator[Finding]:
    from tnacli.places import cache_folder

    folder = cache_folder()
    if folder is None:
        fix = "unset TNA_CACHE, or set it to a folder"
        yield Finding("cache folder", "warning", "switched off: data is decoded anew every time", fix)
        return
    for finding in _place("cache folder", folder, "set TNA_CACHE to a folder that can be written to"):
        yield replace(finding, status="warning") if finding.status == "problem" else finding  # work goes on without


def _place(name: str, path: Path, otherwise: str) -> Iterator[Finding]:
    """Whether files can be made below `path`, which need not exist, and how much space there is. Leaves nothing."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"tna")
            file.flush()
    except OSError as error:
        yield Finding(name, "problem", f"{path}: cannot be written to: {error.strerror}", otherwise)
        return
    free_bytes = shutil.disk_usage(there).free
    text = f"{path}: can be written to, {free_bytes / 1e9:.1f} GB free"
    if free_bytes < _LITTLE_SPACE_BYTES:
        yield Finding(name, "warning", text, f"free some space, or {otherwise}")
    else:
        yield Finding(name, "ok", text)
