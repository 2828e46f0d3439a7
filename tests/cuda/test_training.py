"""Training on a CUDA device: what it computes is what a CPU computes, and a run that was stopped goes on bit for bit."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.reference import inputs, network
from benchmarks.training import trainer
from benchmarks.work import Work
from tests.conftest import tiny_tna_t_snn
from tests.training.test_distributed import check_equal, finish, start
from tests.training.test_loop import StopAfter
from tnacli.data.batches import Batch
from tnacli.deploy.from_checkpoint import input_of, origin_of
from tnacli.errors import Stopped
from tnacli.evaluation.accuracy import evaluate_network, measure
from tnacli.experiment import Experiment, Outcome
from tnacli.packed.engine import PackedSNN
from tnacli.packed.pack import pack_network, verify
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.snn.arithmetic import exact
from tnacli.snn.network import SpikingNetwork
from tnacli.training.checkpoint import load_checkpoint, restore_network
from tnacli.training.precision import arithmetic

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CASES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "tf32": {"train": {"precision": "tf32"}},
    "bf16": {"train": {"precision": "bf16"}},
    "fp16": {"train": {"precision": "fp16"}},
    "low memory": {"runtime": {"memory": "low"}},
    "dropout": {"model": {"dropout": 0.3}},
    "residual": {"model": {"layout": "6C3-R6x2-AP2-12FC", "dropout": 0.3}, "train": {"precision": "bf16"}},
    "no norm": {"model": {"norm": "none"}},
    "samples sent ahead": {},
    "distillation": {"objective": {"kind": "distill", "alpha": 1.0}, "compression": None},
}


def run(case: str) -> Run:
    given = tiny_tna_t_snn().model_dump()
    given["runtime"]["device"] = "cuda"
    for part, fields in CASES[case].items():
        given[part] = fields if fields is None or part == "objective" else {**given[part], **fields}
    return Run("tiny", case.replace(" ", "_"), 0, Settings.model_validate(given))


def tensors(outcome: Outcome) -> dict[str, Tensor]:
    return dict(load_checkpoint(outcome.checkpoint).tensors)


@pytest.mark.parametrize("case", CASES)
def test_resumed_equals_uninterrupted(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: stopped within full precision and again within ternary training."""
    if case == "samples sent ahead":
        monkeypatch.setattr("tnacli.data.batches._crowds", lambda inputs, device: True)
    whole = tensors(Experiment(tmp_path / "whole").execute(run(case)))
    for steps in (5, 6):
        with pytest.raises(Stopped):
            Experiment(tmp_path / "parts", stop=StopAfter(steps)).execute(run(case))
    parts = tensors(Experiment(tmp_path / "parts").execute(run(case)))
    assert parts.keys() == whole.keys()
    assert [name for name, tensor in whole.items() if not torch.equal(tensor, parts[name])] == []


@pytest.mark.parametrize("twin", [False, True])
def test_three_steps_are_those_of_the_cpu(twin: bool) -> None:
    """Of a network so small that no potential is within rounding of the threshold: one spike more would change all after it."""
    found: dict[str, list[Tensor]] = {}
    for device in ("cpu", "cuda"):
        work = Work(1 / 8, 8, device=device)
        model = Model(layout="8C3-AP2-8C3-AP2-16FC", timesteps=5, dropout=0.0)
        made = trainer(work, Settings(model=model, objective=Twin(alpha=1e-3)) if twin else Settings(model=model))
        images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        batch = Batch(images.to(device), torch.arange(8).to(device), 8)
        with arithmetic("fp32"):
            losses, gradients = [], []
            for _ in range(3):
                losses.append(made._step(batch).total.detach().cpu())
                grads = [p.grad.flatten().cpu() for p in made.objective.parameters() if p.grad is not None]
                gradients.append(torch.cat(grads))
        found[device] = [*losses, *gradients]
    differences = [float((a - b).norm() / a.norm()) for a, b in zip(found["cpu"], found["cuda"], strict=True)]
    print(twin, differences)
    assert max(differences) < 1e-4


@torch.no_grad()
def test_every_layer_fires_as_on_the_cpu_given_the_same_spikes() -> None:
    """At CIFARNet's depth a spike within rounding of the threshold changes all that follows, so each layer is given the CPU's."""
    work = Work(1 / 8, 32)
    images, _ = inputs(work)
    here = network(work, dropout=False).train()
    given: dict[str, list[Tensor]] = {}
    for name, layer in here.spiking.items():
        layer.register_forward_hook(
            lambda _, args, out, name=name: given.update({name: [args[0].clone(), out.clone()]})
        )
    here(images)
    there = copy.deepcopy(here).cuda()
    shares = {}
    for name, layer in there.spiking.items():
        spikes, expected = given[name]
        with exact():
            found = layer(spikes.cuda()).cpu()
        shares[name] = float((found != expected).float().mean())
    print(shares)
    assert max(shares.values()) < 1e-5


def test_a_packed_file_predicts_what_the_gpu_predicts(tmp_path: Path) -> None:
    outcome = Experiment(tmp_path).execute(run("bf16"))
    checkpoint = load_checkpoint(outcome.checkpoint)
    network = restore_network(checkpoint)
    assert isinstance(network, SpikingNetwork)
    inputs = torch.rand(512, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    packed = pack_network(
        copy.deepcopy(network),
        inputs=input_of(checkpoint),
        labels=checkpoint.metadata.classes,
        origin=origin_of(checkpoint),
    )
    batch = Batch(inputs, torch.randint(0, 10, (512,), generator=torch.Generator().manual_seed(1)), 512)
    network.cuda()
    with exact():
        print(verify(network, packed, inputs))
    there = evaluate_network(network, [Batch(inputs.cuda(), batch.labels.cuda(), 512)])
    here = measure(PackedSNN(packed), [batch])
    assert there.accuracy == here.accuracy
    assert there.loss == pytest.approx(here.loss, rel=1e-5)


def tna(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tnacli", *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_out_of_memory_says_what_would_fit(tmp_path: Path) -> None:
    sizes = (
        "data.train_samples=20000",
        "train.batch_size=20000",
        "model.width=1",
        "model.timesteps=8",
        "train.epochs=1",
    )
    sets = [word for size in sizes for word in ("--set", size)]
    where = ("--seed", 0, "--run", "baseline", "--device", "cuda", "--out", tmp_path)
    done = tna("train", "table1_cifar100", "--with", "smoke", *sets, *where)
    print(done.stderr)
    assert done.returncode == 5
    assert "train.batch_size" in done.stderr
    assert torch.cuda.get_device_name() in done.stderr


def test_the_command_line_trains_and_evaluates_there(tmp_path: Path) -> None:
    where = ("--seed", 0, "--run", "tna_t_snn", "--device", "cuda", "--out", tmp_path)
    done = tna("train", "quickstart", *where)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("quickstart/tna_t_snn*")
    on_gpu, on_cpu = (tna("evaluate", folder, "--device", device, "--json") for device in ("cuda", "cpu"))
    print(on_gpu.stdout)
    assert on_gpu.returncode == 0, on_gpu.stderr
    assert json.loads(on_gpu.stdout)["accuracy"] == json.loads(on_cpu.stdout)["accuracy"]


@pytest.mark.parametrize(
    "device",
    [
        "cuda:0",
        pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")),
    ],
)
def test_two_processes_compute_what_one_does(device: str, tmp_path: Path) -> None:
    """On one GPU, added up by gloo, or on one each by NCCL: buckets of gradients, and statistics of norm over both."""
    for name, processes in (("one", 1), ("two", 2)):
        code, _, err = finish(start(tmp_path, name, processes, "--device", device))
        assert code == 0, err
    check_equal(tmp_path, "one", "two")
