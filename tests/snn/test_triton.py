"""The operator for CUDA without a GPU: in Triton's interpreter against the reference, and compiled ahead of time."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.triton_lif import Layer, why_not, why_not_here

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed")


def test_it_says_why_it_is_not_for_this_device() -> None:
    assert why_not_here(torch.device("cpu")) == "it is for CUDA, not cpu"
    assert why_not(torch.zeros(2, 3), Layer(Neuron(), 2, 1)) == "it is for CUDA, not cpu"


def passes(environment: dict[str, str]) -> None:
    """In a process of its own: Triton chooses its interpreter when kernels are defined."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "--import-mode=importlib", str(HERE / "interpreted_triton.py")],
        env=os.environ | environment, capture_output=True, text=True, check=False, cwd=HERE.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"[0-9]+ passed", done.stdout)


@needs_triton
@pytest.mark.slow
def test_in_the_interpreter_it_is_the_reference() -> None:
    passes({"TRITON_INTERPRET": "1"})


@needs_triton
@pytest.mark.slow
def test_two_processes_normalise_over_the_samples_of_both() -> None:
    """Spikes, gradients and running statistics are those of one process with all samples."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    places = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TRITON_INTERPRET": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.snn.synchronised_triton", str(rank)],
            env=os.environ | places | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE.parents[1],
        )
        for rank in range(2)
    ]  # fmt: skip
    # Both, before either is judged: the other would be left running.
    ended = [(*process.communicate(timeout=200), process.returncode) for process in processes]
    for out, err, status in ended:
        assert (status, out) == (0, "equal\n"), err[-3000:]


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_it_is_the_reference() -> None:
    passes({"TRITON_INTERPRET": "0"})


Launch = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""A kernel and what it is launched with."""


def launches(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], layer: Layer, *, dtype: torch.dtype, two: bool
) -> list[Launch]:
    """What the three operators would launch for branches of `shape` with batch norm."""
    from tnacli.snn import triton_operators as operators

    seen: list[Launch] = []

    def recording(kernel: Any) -> dict[Any, Callable[..., None]]:
        class Grids(dict[Any, Callable[..., None]]):
            def __missing__(self, grid: object) -> Callable[..., None]:
                return lambda *args, **options: seen.append((kernel, args, options))

        return Grids()

    monkeypatch.setattr(operators, "wrap_triton", recording)
    memory = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    x = torch.empty(shape, dtype=dtype, device="meta", memory_format=memory)
    table = torch.empty((4, shape[1]), device="meta")
    branches = [x, table, x, table] if two else [x, table]
    given = (branches, layer.counts, layer.factors)
    out = operators.lif_forward.function(*given)
    sums = operators.lif_sums.function(out, *given)
    operators.lif_gradient.function(out, branches, sums, *given[1:])
    assert len(seen) == 3
    return seen


def resources(launch: Launch, capability: int, folder: Path) -> tuple[int, int]:
    """Registers a thread, and bytes spilled, of a kernel compiled for a GPU of `capability`."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    if not ptxas.exists():
        pytest.skip("this Triton brings no ptxas")
    kernel, args, options = launch
    types = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", int: "i32", float: "fp32"}
    constant = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
    signature, constants, aligned = {}, {}, {}
    for index, (name, value) in enumerate(zip(kernel.arg_names, args, strict=True)):
        if name in constant:
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], aligned[(index,)] = types[value.dtype], [["tt.divisibility", 16]]
        else:
            signature[name] = types[type(value)]
    made = triton.compile(
        ASTSource(kernel, signature, constants, aligned), target=GPUTarget("cuda", capability, 32), options=options
    )
    assert "fma.rn.f32" not in made.asm["ptx"], "products and sums are to be rounded one by one"
    source = folder / "kernel.ptx"
    source.write_text(made.asm["ptx"])
    gpu = f"sm_{capability}{'a' if capability == 90 else ''}"
    done = subprocess.run(
        [str(ptxas), "-v", f"--gpu-name={gpu}", str(source), "-o", os.devnull],
        capture_output=True,
        text=True,
        check=True,
    )
    stores, loads = re.findall(r"([0-9]+) bytes spill", done.stderr)
    (registers,) = re.findall(r"Used ([0-9]+) registers", done.stderr)
    return int(registers), int(stores) + int(loads)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [75, 80, 90])
def test_compiled_ahead_of_time_nothing_spills(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registers that do not suffice would be kept in memory, which is what the operator is to spare."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    neuron, half = Neuron(), torch.float16 if capability < 80 else torch.bfloat16
    cases = {
        "a layer of CIFARNet": launches(
            monkeypatch, (1280, 256, 16, 16), Layer(neuron, 5, 256, 2), dtype=half, two=False
        ),
        "the first, fp32": launches(
            monkeypatch, (256, 128, 32, 32), Layer(neuron, 5, 256), dtype=torch.float32, two=False
        ),
        "a shortcut": launches(monkeypatch, (1280, 256, 16, 16), Layer(neuron, 5, 256), dtype=half, two=True),
        "fully connected": launches(
            monkeypatch, (1280, 1024), Layer(neuron, 5, 256, dropout=0.5), dtype=half, two=False
        ),
        "pool 8": launches(monkeypatch, (1280, 512, 8, 8), Layer(neuron, 5, 256, 8), dtype=half, two=True),
        "T 16": launches(monkeypatch, (4096, 256, 8, 8), Layer(neuron, 16, 256), dtype=half, two=False),
        "T 32": launches(monkeypatch, (2048, 256, 8, 8), Layer(neuron, 32, 64, 2), dtype=half, two=True),
    }
    found = {
        f"{case}, {launch[0].__name__}": resources(launch, capability, tmp_path)
        for case, all_ in cases.items()
        for launch in all_
    }
    print(
        "\n".join(
            f"sm_{capability} {name}: {registers} registers, {spilled} bytes spilled"
            for name, (registers, spilled) in found.items()
        )
    )
    assert len(found) == 21
    assert {name: spilled for name, (_, spilled) in found.items() if spilled} == {}
