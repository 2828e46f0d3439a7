"""`python -m benchmarks.forms`: the quickstart's network in every form that it leaves in: size, time and energy of a digit.

The network is that of benchmarks/boards/digits.safetensors; a checkpoint of its kind and one in full precision are trained
for the rows that need one, half a minute. Each form is exported and verified as `tna export` does. --record keeps the results
in docs/forms.json and writes the tables of README.md and docs/deployment.md from them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

import tnacli
from benchmarks import board
from benchmarks.form_tables import FORMS, PAGES, RECORD, Form, Outcome, page
from benchmarks.machine import machine
from tnacli.data.batches import Batch
from tnacli.deploy import c_build
from tnacli.deploy.c import c_source
from tnacli.deploy.formats import Deployed, Wishes, deploy
from tnacli.deploy.nir import nir_read
from tnacli.deploy.nir_steps import nir_logits
from tnacli.deploy.onnx import INPUT
from tnacli.evaluation.activity import measure_activity
from tnacli.evaluation.energy import Activity
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import PackedNetwork
from tnacli.training.checkpoint import load_checkpoint, restore_network

DIGITS = Path(__file__).with_name("boards") / "digits.safetensors"


def energies(activity: Activity, form: Form) -> tuple[float, float]:
    """nJ of a sample, alone and with memory, where weights are read in as many bits as `form` has."""
    layers = [
        replace(
            layer,
            bits=replace(layer.bits, weights=form.outer_bits * layer.macs + form.hidden_bits * layer.additions),
        )
        for layer in activity.layers
    ]
    found = replace(activity, layers=tuple(layers), prices=form.prices)
    return found.energy_nj, found.energy_nj + found.memory_nj


def digits() -> tuple[PackedNetwork, Tensor, Tensor]:
    """The network, the 360 test digits as pixels [360, 1, 8, 8], and normalised."""
    packed, pixels = board.digits()
    given = torch.from_numpy(pixels)
    return packed, given, PackedSNN(packed).normalise(given).clone()


def activity_of(packed: PackedNetwork, inputs: Tensor) -> Activity:
    return measure_activity(packed, [Batch(inputs, torch.zeros(len(inputs)), len(inputs))])


def exported(form: str, packed: PackedNetwork, inputs: Tensor, folder: Path) -> tuple[Deployed, Path]:
    """`form`, one of onnx, nir or c, with its own options, in `folder`."""
    kind, _, option = form.partition(" ")
    to = folder / f"digits.{kind}" if kind != "c" else folder / "digits"
    return deploy(
        packed, kind, to, inputs, wishes=Wishes(integer=option == "integer", onnx_floats=option == "float")
    ), to


def measure_exported(form: str, packed: PackedNetwork, activity: Activity, *, timed: bool = True) -> Outcome:
    """`form`, one of onnx, nir or c; without times unless `timed`."""
    _, pixels, inputs = digits()
    with tempfile.TemporaryDirectory() as name:
        deployed, file = exported(form, packed, inputs, Path(name))
        single, batch = None, None
        if timed and form.startswith("c"):
            single = _c_ms(packed, pixels, integer="integer" in form)
        elif timed:
            single, batch = _times(_nir(file), inputs) if form == "nir" else _times(_onnx(file), inputs.numpy())
        flash, ram = deployed.memory_bytes.get("flash"), deployed.memory_bytes.get("ram")
        alone, with_memory = energies(activity, FORMS[form])
        return Outcome(form, alone, with_memory, deployed.size_bytes, single, batch, deployed.agreeing, flash, ram)


def _nir(file: Path) -> Callable[[Tensor], Any]:
    graph = nir_read(file)
    return lambda part: nir_logits(graph, part)


def _onnx(file: Path) -> Callable[[NDArray[Any]], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda part: session.run(None, {INPUT: part})


def _times(call: Callable[[Any], Any], inputs: Any) -> tuple[float, float]:
    """ms of a digit alone, the shortest of 100, and each in a batch of all, of 30."""
    return _shortest(lambda: call(inputs[:1]), 100), _shortest(lambda: call(inputs), 30) / len(inputs)


def _shortest(call: Callable[[], Any], times: int) -> float:
    call()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return 1000 * min(found)


def _c_ms(packed: PackedNetwork, pixels: Tensor, *, integer: bool) -> float:
    """ms of a digit in a program compiled with -O2, one after another."""
    program = c_build.compiler()
    assert program is not None
    with tempfile.TemporaryDirectory() as name:
        source = c_source(packed, "digits", integer=integer)
        executable = c_build.build(source, Path(name), "-O2", program=program)
        return _shortest(lambda: c_build.run(executable, pixels.numpy(), 10, unit=source.unit), 30) / len(pixels)


def measure_all() -> list[Outcome]:
    """Every form, in one thread, with times."""
    torch.set_num_threads(1)
    packed, _, inputs = digits()
    activity, found = activity_of(packed, inputs), {}
    found["packed"] = Outcome(
        "packed", *energies(activity, FORMS["packed"]), DIGITS.stat().st_size,
        *_times(PackedSNN(packed), inputs.numpy()), len(inputs),
    )  # fmt: skip
    for form in ("onnx", "onnx float", "nir", "c", "c integer"):
        found[form] = measure_exported(form, packed, activity)
    with tempfile.TemporaryDirectory() as name:
        trained = tnacli.train("quickstart", run=["tna", "tna_t_snn"], seed=0, out=name, quiet=True)
        files = {result.name: result.checkpoint for result in trained}
        network = restore_network(load_checkpoint(files["tna_t_snn"]))
        with torch.inference_mode():
            times = _times(network, inputs)
        sizes = {run: file.stat().st_size for run, file in files.items()}
        found["checkpoint"] = Outcome(
            "checkpoint", *energies(activity, FORMS["checkpoint"]), sizes["tna_t_snn"], *times
        )
        full = full_precision(files["tna"], inputs)
        found["fp32"] = Outcome("fp32", *energies(full, FORMS["fp32"]), sizes["tna"])
    found["ann"] = without_spikes(activity)
    return [found[form] for form in FORMS]


def full_precision(checkpoint: Path, inputs: Tensor) -> Activity:
    batch = Batch(inputs, torch.zeros(len(inputs)), len(inputs))
    return measure_activity(restore_network(load_checkpoint(checkpoint)), [batch])


def without_spikes(activity: Activity) -> Outcome:
    return Outcome("ann", activity.ann_energy_nj, activity.ann_energy_nj + activity.ann_memory_nj)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forms", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--record", action="store_true", help="keep the results in docs/forms.json and write the tables"
    )
    arguments = parser.parse_args()
    outcomes = measure_all()
    about = {**machine("cpu"), "compiler": compiler_version()}
    for outcome in outcomes:
        print(outcome)
    if arguments.record:
        record = {"machine": about, "outcomes": [asdict(outcome) for outcome in outcomes]}
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for file in PAGES:
            file.write_text(page(file.read_text(encoding="utf-8"), about, outcomes), encoding="utf-8")


def compiler_version() -> str:
    program = c_build.compiler()
    assert program is not None
    done = subprocess.run([*program.split(), "-dumpfullversion"], capture_output=True, text=True, check=False)
    return f"gcc {done.stdout.strip()}"


if __name__ == "__main__":
    main()
