"""Two processes under torchrun compute what one does; what goes wrong in one ends both."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.cli.conftest import environment
from tnacli.errors import UsageError
from tnacli.objectives.objective import Losses, TwinObjective
from tnacli.recipe.schema.objective import Twin
from tnacli.recipe.schema.recipe import Train
from tnacli.training import distributed
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.distributed import Ranks, own_gpu, ranks, require_shares

# Dropout, a summed matching loss, unlike siblings, hidden layers matched through learned maps, batches that two cannot share
# evenly, compression layer by layer with learned thresholds.
RECIPE = """\
name: two
seeds: [0]
data: {name: digits, train_samples: 120, test_samples: 61}
model: {layout: 4C3-AP2-6C3-AP2-12FC, timesteps: 3, dropout: 0.2}
train: {epochs: EPOCHS, batch_size: 33, precision: fp32}
runs:
  tna_t_snn:
    objective:
      {kind: twin, alpha: 1e-3, reduction: sum, siblings: [{width: 200%}, {spiking: false}], features: {alpha: 1.0}}
    compression: {mode: ternary, threshold: learned, start: 25%, gradual: {over: 50%}}
"""


def write_recipe(folder: Path, epochs: int) -> Path:
    recipe = folder / "two.yaml"
    recipe.write_text(RECIPE.replace("EPOCHS", str(epochs)))
    return recipe


def start(folder: Path, out: str, processes: int, *options: str, epochs: int = 4) -> subprocess.Popen[str]:
    recipe = write_recipe(folder, epochs)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "tnacli", "train", str(recipe), "--out", str(folder / out), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def metrics(folder: Path, out: str) -> list[dict[str, Any]]:
    (path,) = folder.glob(f"{out}/two/*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def checkpoint(folder: Path, out: str) -> Path:
    (path,) = folder.glob(f"{out}/two/*/last.pt")
    return path


def check_equal(folder: Path, one: str, other: str) -> None:
    """The same losses and weights to float rounding, and the same accuracies."""
    for ours, theirs in zip(metrics(folder, one), metrics(folder, other), strict=True):
        for key in ("train_loss", "train_parts", "train_accuracy", "loss", "accuracy", "firing_rate"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5), key
        assert ours["shares"] == theirs["shares"]
    ours, theirs = (load_checkpoint(checkpoint(folder, name)).tensors for name in (one, other))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_processes_compute_what_one_does_and_go_on_where_the_other_stopped(tmp_path: Path) -> None:
    code, out, err = finish(start(tmp_path, "one", 1))
    assert code == 0, err
    code, out, err = finish(start(tmp_path, "two", 2, "--json"))
    assert code == 0, err
    assert json.loads(out)["runs"][0]["trained"], "more than one document, or none"
    assert len(re.findall("epoch 1/4, loss", err)) == 1, "progress by more than one process"
    check_equal(tmp_path, "one", "two")

    # Stopped after one step in two processes, gone on in one; the other way round with both changed.
    for first, second in ((2, 1), (1, 2)):
        name = f"from{first}to{second}"
        code, _, err = finish(start(tmp_path, name, first, "--time-limit", "0"))
        assert "time limit reached; saved" in err
        assert code in (75, 1)  # torchrun has its own exit code
        assert load_checkpoint(checkpoint(tmp_path, name)).metadata.state.step == 1
        code, _, err = finish(start(tmp_path, name, second))
        assert code == 0, err
        assert "going on from epoch 1, step 1" in err
        check_equal(tmp_path, "one", name)


@pytest.mark.slow
def test_two_machines_meet_and_compute_what_one_does(tmp_path: Path) -> None:
    """Two launchers with a process each, as on two machines, that find each other by torchrun's rendezvous."""
    code, _, err = finish(start(tmp_path, "one", 1, epochs=2))
    assert code == 0, err
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    meet = [
        "--nnodes",
        "2",
        "--nproc-per-node",
        "1",
        "--rdzv-backend",
        "c10d",
        "--rdzv-id",
        "1",
        "--rdzv-endpoint",
        place,
    ]
    command = ["-m", "tnacli", "train", str(tmp_path / "two.yaml"), "--out", str(tmp_path / "two")]
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *meet, "--local-addr", "127.0.0.1", *command],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )
        for _ in range(2)
    ]  # fmt: skip
    for code, _, err in map(finish, machines):
        assert code == 0, err
    check_equal(tmp_path, "one", "two")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"WORLD_SIZE": "2"}, r"WORLD_SIZE=2, .* but RANK is not set\. Start them with torchrun, or unset WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "RANK": "first"}, "RANK is 'first', not a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2, and there are only 0 to 1"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1', not a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', not a whole number"),
    ],
)
def test_half_an_environment_of_torchruns_is_a_mistake_that_is_explained(
    given: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert ranks() == Ranks()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        ranks()


def test_on_the_command_line_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tnacli", "train", str(write_recipe(tmp_path, 1))],
        env=environment(WORLD_SIZE="2"), capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "RANK is not set" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("gpus", "local", "here", "own"),
    [(0, 0, "2", None), (1, 0, "2", None), (1, 1, "2", None), (2, 1, "2", "cuda:1"), (4, 2, "4", "cuda:2")],
)
def test_each_process_has_a_gpu_of_its_own_or_none_has(
    gpus: int, local: int, here: str, own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    found = own_gpu(Ranks(local, 4, local))
    assert found == (None if own is None else torch.device(own))


@pytest.mark.parametrize("gpu", [None, torch.device("cuda:1")])
def test_the_gpu_is_set_before_nccl_connects(gpu: torch.device | None, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[object, ...]] = []
    monkeypatch.setattr(distributed.dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(distributed.atexit, "register", lambda function: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(("set", device)))
    monkeypatch.setattr(
        distributed.dist, "init_process_group", lambda how, **more: done.append((how, more.get("device_id")))
    )
    distributed._join.__wrapped__(gpu)
    assert done == ([("gloo", None)] if gpu is None else [("set", gpu), ("cpu:gloo,cuda:nccl", gpu)])


ENDS = """
import atexit, os, sys, types, weakref
from tnacli.cli import app
class Kept:
    pass
held = sys.modules["held"] = types.ModuleType("held")  # outside every cycle: nobody looks for those at the end
held._kept = Kept()
held.watch = weakref.ref(held._kept, lambda gone, write=os.write: write(1, b"taken down\\n"))
del held
atexit.register(print, "left", flush=True)
sys.argv = ["tna", *sys.argv[1:]]
if "bug" in sys.argv:
    app.app = lambda: 1 / 0
app.main()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["train", "no_such_recipe"], 3), (["bug"], 1)])
@pytest.mark.parametrize("world", [1, 2])
def test_one_of_several_ends_without_taking_python_down(arguments: list[str], code: int, world: int) -> None:
    """What must be done at an end is done, and its output and code are the same; its threads are left as they are."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS, *arguments], env={**environment(), "WORLD_SIZE": str(world), "RANK": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("tna ") == (code == 0)
    assert done.stderr.count("ZeroDivisionError") == (code == 1)
    assert "left\n" in done.stdout
    assert ("taken down" in done.stdout) == (world == 1)


SCRIPT = """
import atexit, sys
from pathlib import Path

def look():
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert threads, "nothing was looked at"
    print(*(name for name in threads if "gloo" in name), file=sys.stderr)

atexit.register(look)  # first, so called last
from tnacli.experiment import Experiment
from tnacli.recipe.parse.load import load, plan
kept = Experiment(Path(sys.argv[2]))
print(*(kept.execute(run).trained for run in plan(load(sys.argv[1]))))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system lists no threads")
def test_a_script_of_several_processes_ends_without_the_threads_that_connect_them(tmp_path: Path) -> None:
    """One that is still there when Python is taken down aborts the process, now and then."""
    recipe = write_recipe(tmp_path, epochs=2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    places = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(recipe), str(tmp_path / "runs")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(**places, RANK=str(rank), LOCAL_RANK=str(rank)),
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [finish(process) for process in processes] == [(0, "True\n", "\n")] * 2


@pytest.mark.slow
def test_a_finished_run_never_reports_failure(tmp_path: Path) -> None:
    for number in range(3):
        code, _, err = finish(start(tmp_path, f"runs{number}", 2, "--set", "compression=null", epochs=1))
        assert code == 0, err


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other_with_a_message(tmp_path: Path) -> None:
    process = start(tmp_path, "runs", 2, "--set", "runtime.checkpoint_every=1", epochs=100_000)
    until = time.monotonic() + 90
    while not list(tmp_path.glob("runs/*/*/last.pt")):
        assert time.monotonic() < until, "training has not begun"
        time.sleep(0.05)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(children) == 2
    began = time.monotonic()
    os.kill(int(children[1]), signal.SIGKILL)
    code, _, err = finish(process)
    assert code != 0
    assert time.monotonic() - began < 60
    assert re.search(r"stopped: (.*lost the others|SIGTERM received)", err), err
    load_checkpoint(checkpoint(tmp_path, "runs"))


@pytest.mark.slow
def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    code, out, err = finish(start(tmp_path, "runs", 2, "--set", "train.batch_size=3"))
    assert (code, out) == (1, "")
    assert "train.batch_size 3 is too small for 2 processes" in err
    assert "Traceback" not in err.partition("torch/distributed")[0]


class _Columns(torch.nn.Module):
    """A network whose logits are some of its inputs."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, self.columns]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.sampled_from(["sum", "batch_mean", "mean"]),
    st.integers(0, 9),
)
def test_the_losses_of_all_shares_add_up_to_the_batch(counts: list[int], reduction: Any, seed: int) -> None:
    """Gradients too: each share's is that of its own samples in the whole batch's loss."""
    networks = {"base": _Columns(slice(0, 3)), "sibling1": _Columns(slice(3, 6))}
    objective = TwinObjective(networks, Train(), Twin(alpha=0.3, reduction=reduction))
    generator = torch.Generator().manual_seed(seed)
    total = sum(counts)
    logits = torch.randn(total, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (total,), generator=generator)

    def losses(rows: slice) -> Losses:
        found: Losses = objective(logits[rows], labels[rows], len(labels[rows]) / total)
        return found

    whole = losses(slice(None))
    ends = [sum(counts[:n]) for n in range(len(counts) + 1)]
    shares = [losses(slice(begin, end)) for begin, end in itertools.pairwise(ends)]
    assert math.isclose(
        sum(float(share.total.detach()) for share in shares), float(whole.total.detach()), rel_tol=1e-12
    )
    for name, part in whole.parts.items():
        assert math.isclose(
            sum(float(share.parts[name].detach()) for share in shares), float(part.detach()), rel_tol=1e-12
        )
    (expected,) = torch.autograd.grad(whole.total, logits)
    (found,) = torch.autograd.grad(torch.stack([share.total for share in shares]).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_without_torchrun_there_is_one_process() -> None:
    assert ranks() == Ranks(0, 1, 0)
    assert ranks().any(True, False) == (True, False)
    assert ranks().broadcast(lambda: 3) == ranks().in_turn(lambda: 3) == 3


def test_too_few_samples_for_so_many_processes() -> None:
    require_shares(Ranks(), 1, test=1)
    with pytest.raises(UsageError, match=r"raise train\.batch_size to 8"):
        require_shares(Ranks(1, 4), 7)
    with pytest.raises(UsageError, match="3 test samples are too few for 4"):
        require_shares(Ranks(1, 4), 8, test=3)


def test_gradients_lie_in_the_buckets_that_are_added_up(tmp_path: Path) -> None:
    """One room for all of a bucket: no copies, and none of their own."""
    distributed.dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        network: Any = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        made = distributed.wrapped(network, Ranks(0, 2), torch.device("cpu"))
        for _ in range(2):  # the first pass finds out in which order gradients come
            made(torch.ones(2, 3)).sum().backward()
        assert len({parameter.grad.untyped_storage().data_ptr() for parameter in network.parameters()}) == 1
    finally:
        distributed._leave()


NORM = """
from pathlib import Path
import sys, torch, torch.distributed as dist
from torch import nn
from tnacli.snn.synchronised import SynchronisedBatchNorm
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
for make, shape in ((nn.BatchNorm2d, (9, 5, 3, 4)), (nn.BatchNorm1d, (9, 5))):
    torch.manual_seed(0)
    plain, synced = make(5).double(), make(5).double()
    with torch.no_grad():
        plain.weight.uniform_(0.5, 2); plain.bias.uniform_(-1, 1)
    synced.load_state_dict(plain.state_dict())
    synced = SynchronisedBatchNorm.instead_of(synced)
    x, outward = torch.randn(2, *shape, dtype=torch.float64) * 3 + 7
    whole, mine = x.clone().requires_grad_(), x[rank::world].clone().requires_grad_()
    for _ in range(2):
        expected, found = plain(whole), synced(mine)
    expected.backward(outward); found.backward(outward[rank::world])
    for parameter in synced.parameters():
        dist.all_reduce(parameter.grad)
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)
    close(found, expected[rank::world]); close(mine.grad, whole.grad[rank::world])
    close(synced.weight.grad, plain.weight.grad); close(synced.bias.grad, plain.bias.grad)
    assert synced.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        close(synced.state_dict()[name], value)
    plain.eval(); synced.eval()
    close(synced(mine), plain(whole)[rank::world])
dist.destroy_process_group()
# A file each: what two processes print into one pipe may come out interleaved.
Path(__file__).with_name(f"equal{rank}").touch()
"""


@pytest.mark.slow
def test_synchronised_batch_norm_equals_pytorchs_over_the_whole_batch(tmp_path: Path) -> None:
    """Nine samples in two shares of five and four; forward, backward, statistics and evaluation."""
    script = tmp_path / "norm.py"
    script.write_text(NORM)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", script],
        capture_output=True, text=True, env=environment(), timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("equal*")) == ["equal0", "equal1"]
