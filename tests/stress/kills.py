"""Kill `tna train` with SIGKILL at random moments until it is done, and compare the result with an undisturbed run's.

    python -m tests.stress.kills 100            kill 100 times, over as many repetitions of the recipe as that takes

The recipe has every phase: full precision, compression, fine-tuning beside a twin, a teacher and its pupil, packed files.
Each attempt is a process of its own, forked from one that has loaded torch already, so that the kills land in the work
and not in imports; `--spawn` starts new interpreters instead.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

RECIPE = """\
name: stress
seeds: [0]
export: true
data: {name: digits, train_samples: 120, test_samples: 60}
model: {layout: 4C3-AP2-6C3-AP2-12FC, timesteps: 3}
train: {epochs: 4, batch_size: 32, precision: fp32}
runtime: {checkpoint_every: 1}
runs:
  tna_t_snn:
    objective: {kind: twin, alpha: 1e-3}
    compression: {mode: ternary, delta: 0.05}
  kd:
    objective: {kind: distill, alpha: 1e-3}
    compression: {mode: binary}
"""


@dataclass
class Tally:
    """What was killed where: the newest thing on disk when the process went, and how often it was gone already."""

    kills: int = 0
    finished: int = 0
    phases: Counter[str] = field(default_factory=Counter)


def arguments(recipe: Path, out: Path) -> list[str]:
    return ["train", str(recipe), "--out", str(out), "--device", "cpu", "--quiet"]


def forked(recipe: Path, out: Path) -> int:
    """Start `tna train` in a fork of this process; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    with contextlib.suppress(BaseException):
        from tnacli.cli.app import main

        with open(out.parent / "log.txt", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.argv = ["tna", *arguments(recipe, out)]
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    os._exit(code)


def spawned(recipe: Path, out: Path) -> int:
    """Start `tna train` in a new interpreter; its process id."""
    with open(out.parent / "log.txt", "a") as log:
        command = [sys.executable, "-m", "tnacli", *arguments(recipe, out)]
        return subprocess.Popen(command, stdout=log, stderr=log).pid


def load_everything(folder: Path) -> None:
    """Import what training imports, some of it only in its first step, so that forks have it already."""
    import torch

    from tnacli.experiment import Experiment
    from tnacli.recipe.parse.load import load, plan

    torch.set_num_threads(1)  # more would not survive a fork
    recipe = folder / "warm.yaml"
    recipe.write_text(RECIPE)
    experiment = Experiment(folder / "warm")
    for run in plan(load(str(recipe), overrides=["train.epochs=2"])):
        experiment.pack(experiment.execute(run))


Start = Callable[[Path, Path], int]


def uninterrupted(start: Start, recipe: Path, out: Path) -> float:
    """Run to the end; how many seconds that took."""
    began = time.monotonic()
    _, status = os.waitpid(start(recipe, out), 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise AssertionError(f"the undisturbed run failed: {(out.parent / 'log.txt').read_text()[-2000:]}")
    return time.monotonic() - began


def killed_once(start: Start, recipe: Path, out: Path, after: float) -> bool:
    """Start, kill after so many seconds; False if it had finished by then. Raises if it ended in any other way."""
    child = start(recipe, out)
    until = time.monotonic() + after
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                raise AssertionError(f"exit code {code} after a kill: {(out.parent / 'log.txt').read_text()[-2000:]}")
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def phase(out: Path) -> str:
    """Where the work stood when it was killed, by what lies on disk."""
    folders = sorted(path.parent for path in out.glob("*/*/lock"))
    if not folders:
        return "before the first folder"
    newest = max(folders, key=lambda path: max(file.stat().st_mtime for file in path.iterdir()))
    if list(out.glob("*/*/.*.part")):
        return "while a file was written"
    if list(out.glob("*/*/new.pt")):
        return "between two checkpoints' renames"
    if (newest / "packed.safetensors").exists():
        return "after an export"
    if (newest / "result.json").exists():
        return "between a result and its export"
    if not list(newest.glob("*.pt")):
        return "before the first checkpoint"
    epochs = (newest / "metrics.jsonl").read_text().count("\n") if (newest / "metrics.jsonl").exists() else 0
    return "in full-precision training" if epochs < 2 else "in compressed training"


def results(out: Path) -> dict[str, str]:
    """A digest of the weights of every run and the bytes of every packed file, by run."""
    from tnacli.training.checkpoint import load_checkpoint

    found = {}
    for path in sorted(out.glob("*/*/last.pt")):
        hasher = hashlib.sha256()
        for name, tensor in sorted(load_checkpoint(path).tensors.items()):
            hasher.update(name.encode() + tensor.contiguous().numpy().tobytes())
        found[path.parent.name] = hasher.hexdigest()
        packed = path.parent / "packed.safetensors"
        if packed.exists():
            found[f"{path.parent.name} packed"] = hashlib.sha256(packed.read_bytes()).hexdigest()
    return found


def leftovers(out: Path) -> list[Path]:
    """Files that nobody needs any more."""
    return [*out.glob("*/*/.*.part"), *out.glob("*/*/new.pt"), *out.glob("*/*/*.damaged")]


def stress(kills: int, folder: Path, seed: int, start: Start = forked) -> Tally:
    """Kill `kills` times; every repetition of the recipe must end with the results of the undisturbed one."""
    generator, tally = random.Random(seed), Tally()
    recipe = folder / "stress.yaml"
    recipe.write_text(RECIPE)
    first = folder / "undisturbed" / "runs"
    first.parent.mkdir()
    seconds = uninterrupted(start, recipe, first)
    expected = results(first)
    assert len(expected) == 5, expected  # three networks with the teacher, two packed files
    while tally.kills < kills:
        out = folder / f"repetition{tally.finished}" / "runs"
        out.parent.mkdir()
        # One that gets nowhere before it is killed each time would never end: now and then it is left alone.
        while tally.kills < kills and generator.random() < 0.95:
            if not killed_once(start, recipe, out, generator.uniform(0, 0.7 * seconds)):
                break
            tally.kills += 1
            tally.phases[phase(out)] += 1
        uninterrupted(start, recipe, out)
        assert results(out) == expected, f"other results after kills, repetition {tally.finished} of seed {seed}"
        assert not leftovers(out), leftovers(out)
        tally.finished += 1
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--spawn", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["TNA_CACHE"] = place + "/cache"
        if not wanted.spawn:
            load_everything(Path(place))
        done = stress(wanted.kills, Path(place), wanted.seed, spawned if wanted.spawn else forked)
    print(f"seed {wanted.seed}: {done.kills} kills, {done.finished} runs of the recipe, every result bit-identical")
    for where, times in done.phases.most_common():
        print(f"{times:5} {where}")
