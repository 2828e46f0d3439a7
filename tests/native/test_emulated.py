"""The engine on other processors, emulated, one with its bytes the other way round: the bits of NumPy on this one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from tnacli.native.compile import _FLAGS
from tnacli.native.ordered import ordered_sums
from tnacli.packed.codec import Rows
from tnacli.packed.plain import Neurons, PlainSums, padded

PROCESSORS = {
    "arm64": ("aarch64-linux-gnu-gcc", "qemu-aarch64", "<"),
    "powerpc": ("powerpc-linux-gnu-gcc", "qemu-ppc", ">"),
}
HERE = Path(__file__).parent
ENGINE = HERE.parents[1] / "tnacli" / "native"


class Program(NamedTuple):
    """What runs a layer that it is fed with, and the order of its bytes."""

    command: tuple[str, str]
    order: Literal["<", ">"]


@pytest.fixture(scope="module", params=PROCESSORS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    compiler, emulator, order = PROCESSORS[request.param]
    if shutil.which(compiler) is None or shutil.which(emulator) is None:
        pytest.skip(f"needs {compiler} and {emulator} (.ci/run installs Debian's)")
    path = tmp_path_factory.mktemp(request.param) / "harness"
    flags = ["-O2", "-std=c11", "-ffp-contract=off", "-static", "-Wall", "-Werror", f"-I{ENGINE}"]
    subprocess.run([compiler, *flags, "-o", str(path), str(HERE / "harness.c")], check=True, timeout=120)
    return Program((emulator, str(path)), "<" if order == "<" else ">")


@pytest.mark.parametrize(
    ("out", "into", "kernel", "size", "stride", "counts_to", "zeros"),
    [
        (7, 5, 3, (6, 5), 1, 1, 0.7),
        (5, 70, 3, (9, 11), 1, 4, 0.7),
        (3, 9, 5, (7, 7), 2, 64, 0.1),
        (9, 300, 1, (4, 3), 1, 16, 0.3),
    ],
)
def test_the_same_bits(
    program: Program, out: int, into: int, kernel: int, size: tuple[int, int], stride: int, counts_to: int, zeros: float
) -> None:
    rng = np.random.default_rng(0)
    shape, pad, timesteps, images = (out, into, kernel, kernel), kernel // 2, 3, 2
    weight = (rng.choice([-1, 1], shape) * (rng.random(shape) >= zeros)).astype(np.int8)
    counts = rng.integers(0, counts_to + 1, (into, timesteps, images, *size), dtype=np.uint8)
    rows = Rows.of(weight)
    scale, shift = rng.random(out, np.float32) * np.float32(0.3), rng.standard_normal(out, np.float32)
    x, weights = rng.standard_normal((images, into, *size), np.float32), rng.standard_normal(shape, np.float32)
    neurons = Neurons(0.7, 0.9, 1.1, -0.5, 3) if stride > 1 else Neurons(0.7, 0.9)
    dense, planes = int(zeros < 0.3), 24  # more than any sum here takes
    around, outer = padded(counts, pad), [(side - 1) // stride + 1 for side in size]
    numbers = [
        timesteps,
        images,
        *around.shape[3:],
        into,
        out,
        kernel,
        stride,
        *outer,
        counts_to,
        counts_to,
        dense,
        planes,
        neurons.most,
    ]
    framed = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    given: list[NDArray[Any]] = [
        np.array(numbers, np.int64),
        np.array(neurons[:4], np.float32),
        rows.bytes,
        around,
        scale,
        shift,
        framed,
        weights,
    ]
    done = subprocess.run(
        program.command, input=written(given, program.order), capture_output=True, check=True, timeout=120
    )  # fmt: skip
    plain = PlainSums(rows, counts_to, stride)
    fired = plain.spikes(counts, scale, shift, neurons)
    expected: list[NDArray[Any]] = [
        plain.currents(counts, scale, shift),
        fired,
        fired,
        ordered_sums(x, weights, stride),
    ]
    assert 0.02 < (fired > 0).mean() < 0.98
    assert done.stdout == written(expected, program.order)


def written(arrays: list[NDArray[Any]], order: Literal["<", ">"]) -> bytes:
    return b"".join(array.astype(array.dtype.newbyteorder(order)).tobytes() for array in arrays)


@pytest.mark.parametrize("source", ["snn/kernels.c", "snn/sparse.c", "snn/gated.c", "native/engine.c"])
def test_every_kernel_compiles_for_arm64(source: str, tmp_path: Path) -> None:
    compiler = PROCESSORS["arm64"][0]
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler} (.ci/run installs Debian's)")
    flags = [*_FLAGS, "-fopenmp", "-Wall", "-Werror"]
    target = tmp_path / "kernels.so"
    subprocess.run([compiler, *flags, "-o", str(target), str(ENGINE.parent / source), "-lm"], check=True, timeout=120)
    assert target.stat().st_size > 1000
