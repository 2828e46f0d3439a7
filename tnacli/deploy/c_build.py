"""Compiles an exported C network with the machine's own compiler: to check its predictions, and to measure its size."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tnacli.deploy.c import CSource, harness
from tnacli.deploy.c_stack import Stack, red_zone, stack_in
from tnacli.errors import FileFormatError, UsageError

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
PATIENCE_SECONDS = 300.0
"""How long the samples of a verification may run."""

_REPORT = "\nPlease report this, with the compiler's version."
_SECONDS = 4 * PATIENCE_SECONDS  # for one call of the compiler or of the program, stuck ones included


@dataclass(frozen=True)
class Footprint:
    """Bytes of the compiled network on the compiler's machine: `flash_bytes` code and constants, `static_bytes` buffers.

    `stack` is None if the compiler does not say.
    """

    flash_bytes: int
    static_bytes: int
    stack: Stack | None


def compiler() -> str | None:
    """The command of this machine's C compiler: $CC, with arguments if it has any, cc, gcc or clang; None if there is none."""
    return next(
        (command for command in (os.environ.get("CC"), "cc", "gcc", "clang") if command and _found(command)), None
    )


def _found(command: str) -> bool:
    words = _words(command)
    return bool(words) and shutil.which(words[0]) is not None


def _words(command: str) -> list[str]:
    """The program and its arguments; a path with spaces that leads to a program is taken as it is."""
    try:
        return [command] if shutil.which(command) else shlex.split(command)
    except ValueError:  # a quotation mark without its other one
        return [command]


def shown(command: str) -> str:
    """A compiler's command without the folder that it lies in."""
    program, *arguments = _words(command)
    return " ".join([Path(program).name, *arguments])


def build(source: CSource, folder: Path, *flags: str, program: str) -> Path:
    """Write `source` and its harness into `folder` and compile them with `program`; the executable comes back.

    Raises FileFormatError with the compiler's words if it does not compile.
    """
    write(source, folder)
    (folder / "harness.c").write_text(harness(source), encoding="ascii")
    executable = folder / "run"
    compile_files([folder / f"{source.prefix}.c", folder / "harness.c"], executable, *flags, program=program)
    return executable


def compile_files(files: Sequence[Path], executable: Path, *flags: str, program: str) -> None:
    """Compile C `files` into one program. Raises FileFormatError with the compiler's words if they do not compile."""
    _call([*_words(program), *STRICT, *flags, "-o", str(executable), *map(str, files)])


def write(source: CSource, folder: Path) -> None:
    """The two files of `source` in `folder`."""
    (folder / f"{source.prefix}.h").write_text(source.header, encoding="ascii")
    (folder / f"{source.prefix}.c").write_text(source.source, encoding="ascii")


def run(
    executable: Path, inputs: NDArray[np.float32] | NDArray[np.uint8], classes: int, *, unit: float | None = None
) -> NDArray[np.float32]:
    """Logits [N, classes] of inputs [N, ...]: float32, or uint8 pixels; whole numbers come back as floats, times their `unit`.

    Raises FileFormatError if the program fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        fed, given = Path(folder, "inputs"), Path(folder, "logits")
        fed.write_bytes(np.ascontiguousarray(inputs).tobytes())
        _call([str(executable), str(fed), str(given), *(["pixels"] if inputs.dtype == np.uint8 else [])])
        written = given.read_bytes()
        if unit is None:
            return np.frombuffer(written, np.float32).reshape(-1, classes)
        return (np.frombuffer(written, np.int32).reshape(-1, classes) * unit).astype(np.float32)


def logits(
    source: CSource, inputs: NDArray[np.float32] | NDArray[np.uint8], classes: int, *, program: str
) -> NDArray[np.float32]:
    """Logits [N, classes] of `inputs` [N, ...]: compile and run in one go, in a folder that is gone afterwards.

    Raises UsageError, after the first sample, if all of them would take more than `PATIENCE_SECONDS`.
    """
    with tempfile.TemporaryDirectory() as folder:
        executable = build(source, Path(folder), "-O2", program=program)
        started = time.perf_counter()
        first = run(executable, inputs[:1], classes, unit=source.unit)
        each = time.perf_counter() - started
        if each * len(inputs) > PATIENCE_SECONDS:
            raise UsageError(
                f"checking the C export takes about {each:.2g} s a sample, too long for {len(inputs)} samples; ask for fewer "
                f"with --samples {max(1, int(PATIENCE_SECONDS / each))}"
            )
        return np.concatenate([first, run(executable, inputs[1:], classes, unit=source.unit)])


def footprint(source: CSource, *, program: str) -> Footprint | None:
    """What the network alone takes when compiled by `program`, for size unless it names an optimisation; None without `size`."""
    tool = _size_tool(program)
    if tool is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(source, folder)
        compiled = folder / "network.o"
        words = _words(program)
        lean = ["-std=c99", "-fno-pie", "-fno-asynchronous-unwind-tables"]
        lean += [] if any(word.startswith("-O") for word in words) else ["-Os"]
        last = ["-c", "-o", str(compiled), str(folder / f"{source.prefix}.c")]
        _first_that_works(
            [*words, *lean, "-fstack-usage", "-fcallgraph-info=su", *last],
            [*words, *lean, "-fstack-usage", *last],  # clang, GCC before version 10
            [*words, *lean, *last],
        )
        text, data, bss = map(int, _call([tool, str(compiled)]).splitlines()[1].split()[:3])
        stack = stack_in(folder)
        if stack is not None:
            (folder / "nothing.c").write_bytes(b"")
            below = red_zone(_call([*words, "-dM", "-E", str(folder / "nothing.c")]))
            stack = replace(stack, size_bytes=stack.size_bytes + below)
        return Footprint(text + data, data + bss, stack)


def _first_that_works(*commands: list[str]) -> None:
    """Run `commands` until one succeeds. Raises what the last one does."""
    for command in commands[:-1]:
        with contextlib.suppress(FileFormatError):
            _call(command)
            return
    _call(commands[-1])


def target_footprint(source: CSource, program: str) -> Footprint:
    """`footprint` by the compiler of another machine, which the user has named.

    Raises UsageError if it cannot be run, does not compile the network, or has no tool `size`.
    """
    if not _found(program):
        raise UsageError(f"--target-cc {program!r}: there is no such program here")
    try:
        found = footprint(source, program=program)
    except FileFormatError as error:
        raise UsageError(
            f"--target-cc {program!r}: {str(error).removesuffix(_REPORT)}; are its arguments right?"
        ) from None
    if found is None:
        raise UsageError(f"--target-cc {program!r}: it has no tool `size` (binutils) to measure with")
    return found


def _size_tool(program: str) -> str | None:
    """The `size` that reads what the compiler `program` writes: its own, or else this machine's."""
    try:
        own = _call([*_words(program), "-print-prog-name=size"]).strip()
    except (FileFormatError, UsageError):
        own = ""
    return shutil.which(own) if own else shutil.which("size")


def _call(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"`{Path(command[0]).name}` did not finish within {_SECONDS / 60:.0f} minutes; ask for fewer samples with --samples"
        ) from None
    except OSError as error:
        raise UsageError(f"`{command[0]}` cannot be run: {error.strerror or error}; name a C compiler in CC") from None
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).splitlines()[:20])
        raise FileFormatError(
            f"the exported C network failed in `{Path(command[0]).name}` (exit {done.returncode}):\n{said}{_REPORT}"
        )
    return done.stdout
