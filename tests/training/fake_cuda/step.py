"""Training steps of full-size networks on a fake device "cuda": `python step.py`, as test_fake_cuda.py starts it.

FakeTensorMode carries tensors that have a shape, a type and a device but no numbers through forward, backward and optimiser.
What is counted are operators dispatched and storages alive: no allocator, no cuDNN workspace, no real kernel. Prints a JSON
object: of each case the kernels launched, peak bytes, bytes touched, copies between host and device and waits for the device.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import sys
import traceback
import weakref
from typing import Any, Literal
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tnacli.build import build_network, build_objective
from tnacli.data.batches import Batches
from tnacli.data.learned_from import LearnedFrom
from tnacli.data.samples import Dataset, Samples
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.data import Augmentation, Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill, Solo, Twin
from tnacli.recipe.schema.recipe import Runtime, Settings, Train
from tnacli.runs.metadata import BegunRun, Versions
from tnacli.training.distributed import Ranks
from tnacli.training.epoch_sums import EpochSums
from tnacli.training.execution import Execution, prepare
from tnacli.training.loop import Splits, Trainer
from tnacli.training.stop import StopRequest
from tnacli.training.trained import first_not_finite, kept_tensors

CUDA = torch.device("cuda", 0)
NO_KERNEL = ("detach", "empty", "view", "expand", "as_strided", "alias", "lift_fresh", "is_pinned")
OURS = {"norm_table": 1, "lif_forward": 1, "lif_sums": 3, "lif_gradient": 1, "batch_moments": 3}
"""Kernels of our operators: of the sums one of Triton's, a sum over programs and a cast; of the moments three."""

SIBLINGS = [{"width": 0.5}, {"spiking": False}]


def kernels(func: Any) -> int:
    """How many kernels an operator launches: none if it only makes a view, or room."""
    name = str(func)
    if name.startswith("tnacli."):
        return OURS[name.split(".")[1]]
    returns = func._schema.returns
    view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    return int(not view and name.startswith("aten") and not any(word in name for word in NO_KERNEL))


class Numbers(TorchDispatchMode):
    """Some number for whoever asks a tensor for its, where there are none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return _one(args[0].dtype)
        if func is torch.ops.aten.record_stream.default:  # it has no fake form, and nothing to give
            return None
        return func(*args, **(kwargs or {}))


def _one(dtype: torch.dtype) -> float:
    return True if dtype == torch.bool else 0.5 if dtype.is_floating_point else 1


class Order(TorchDispatchMode):
    """Copies from the CPU to cuda, by stream, and what is told to streams, in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._usual = torch.cuda.current_stream()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made, kwargs = func(*args, **(kwargs or {})), kwargs or {}
        if func is torch.ops.aten.record_stream.default:
            self.seen.append(f"used by {self._name(args[1])}")
        elif "copy" in str(func) and args[0].device.type == "cpu" and made.device.type == "cuda":
            how = "not waited for" if kwargs.get("non_blocking") else "waited for"
            self.seen.append(f"copy {how} on {self._name(torch.cuda.current_stream())}")
        return made

    def waits(self, stream: torch.cuda.Stream, other: torch.cuda.Stream) -> None:
        """In place of `Stream.wait_stream`."""
        self.seen.append(f"{self._name(stream)} waits for {self._name(other)}")

    def _name(self, stream: Any) -> str:
        return "the usual stream" if stream.stream_id == self._usual.stream_id else "another"


class Watch(TorchDispatchMode):
    """Kernels, bytes touched, bytes held, copies across and waits, of tensors on cuda."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: collections.Counter[str] = collections.Counter()
        self.copies: list[str] = []
        self.waits: list[str] = []
        self.live: dict[int, int] = {}
        self.now = self.peak = self.touched = self.pinned = 0

    def _free(self, key: int) -> None:
        self.now -= self.live.pop(key, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        made = func(*args, **kwargs)
        out = [o for o in tree_leaves(made) if isinstance(o, torch.Tensor)]
        name, devices = str(func), {t.device.type for t in given + out}
        if "cuda" in devices and "_local_scalar" in name:
            self.waits.append(f"{name} at {place()}")
        elif "cuda" in devices and len(devices) > 1 and "copy" in name:
            waiting = args[2:3] != (True,) and not kwargs.get("non_blocking")
            self.copies.append(f"{name}{'' if waiting else ', not waited for'} at {place()}")
        self.pinned += bool(kwargs.get("pin_memory"))
        if "cuda" in devices and (count := kernels(func)):
            self.kernels[name] += count
            self.touched += sum(t.numel() * t.element_size() for t in given + out)
        there = {t.untyped_storage()._cdata for t in given}  # a view of a weight is no room of its own
        for tensor in out:
            storage = tensor.untyped_storage()
            if tensor.device.type == "cuda" and storage._cdata not in self.live.keys() | there:
                self.live[storage._cdata] = size = (storage.nbytes() + 511) // 512 * 512
                weakref.finalize(storage, self._free, storage._cdata)
                self.now += size
                self.peak = max(self.peak, self.now)
        return made


def place() -> str:
    """The line of the package that is being executed."""
    ours = [f for f in traceback.extract_stack() if f"{os.sep}tnacli{os.sep}" in f.filename]
    return f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else "?"


def data(samples: int, events: bool) -> Dataset:
    shape = (samples, 5, 2, 32, 32) if events else (samples, 3, 32, 32)
    split = Samples(np.zeros(shape, np.uint8), np.zeros(samples, np.int64))
    augmentation = (
        Augmentation(crop_padding=0, flip=0.0, rotation=30.0, shear=30.0)
        if events
        else Augmentation(crop_padding=4, flip=0.5)
    )
    mean, std = (None, None) if events else ((0.5,) * 3, (0.2,) * 3)
    classes = tuple(map(str, range(100)))
    kind: Literal["images", "events"] = "events" if events else "images"
    return Dataset("cifar100", kind, classes, split, None, split, mean, std, augmentation, "generated", "x")


def trainer(
    objective: str = "solo", *, precision: str = "fp32", memory: str = "normal", ternary: bool = False, events: bool = False,
    **model: Any,
) -> Trainer:  # fmt: skip
    chosen: Any = {
        "solo": Solo(), "twin": Twin(alpha=1e-3), "KD": Distill(alpha=1e-3, cross_entropy=False), "KD+CE": Distill(alpha=1e-3),
        "siblings": Twin.model_validate({"alpha": 1e-3, "siblings": SIBLINGS, "features": {"alpha": 1.0}}),
    }[objective]  # fmt: skip
    compression = Ternary.model_validate({"start": 0}) if ternary else None
    settings = Settings(
        data=Data(name="cifar100"), model=Model(**model), objective=chosen, compression=compression,
        train=Train.model_validate({"precision": precision, "epochs": 2}),
        runtime=Runtime.model_validate({"memory": memory, "device": "cuda"}),
    )  # fmt: skip
    sets = data(2 * 256, events)
    facts: dict[str, Any] = {"channels": sets.channels, "size": sets.size, "classes": 100, "seed": 0}
    teacher = build_network(settings.model, **facts).to(CUDA).eval() if objective.startswith("KD") else None
    trained = build_objective(settings, **facts, teacher=teacher)
    prepare(trained, settings)
    splits = Splits(
        Batches(sets.train, sets, 256, CUDA, training=True), Batches(sets.test, sets, 256, CUDA, training=False)
    )
    begun = BegunRun(
        recipe="fake", run="step", identity="0" * 10, altered=(), initial=None, kind=sets.kind, classes=sets.classes,
        data=LearnedFrom(name="cifar100", source="generated", fingerprint="x", samples={}, digests={}, files=None),
        channels=sets.channels, size=sets.size, mean=sets.mean, std=sets.std, kernels="compiled", seed=0, settings=settings,
        versions=Versions(tnacli="x", torch=torch.__version__, python="x"),
    )  # fmt: skip
    return Trainer(
        trained, begun, splits, execution=Execution(CUDA, precision, Ranks()),  # type: ignore[arg-type]
        save=lambda checkpoint: "x", emit=lambda event: None, stop=StopRequest(),
    )  # fmt: skip


def facts_of(made: Trainer, seen: Watch) -> dict[str, Any]:
    """Weights, a teacher's too, and Adam's moments, which were there before, included in the peak."""
    there = 12 * sum(p.numel() for p in made.objective.parameters())
    there += sum(p.nbytes for teacher in getattr(made.objective, "_teacher", ()) for p in teacher.parameters())
    return {
        "kernels": sum(seen.kernels.values()), "peak_gb": (seen.peak + there) / 1e9, "touched_gb": seen.touched / 1e9,
        "copies": seen.copies, "waits": seen.waits, "operators": dict(seen.kernels.most_common()),
    }  # fmt: skip


def step(**settings: Any) -> dict[str, Any]:
    """The second step of an epoch: what is done once an epoch is done by then."""
    with FakeTensorMode(allow_non_fake_inputs=True), Numbers():
        made = trainer(**settings)
        made._compress_what_is_due()
        made.objective.train()
        batches, sums = made.splits.train.epoch(0), EpochSums(CUDA)

        def take() -> None:
            batch = next(batches)
            sums.add(made._step(batch), batch.labels, batch.total)

        take()
        with Watch() as seen:
            take()
        return facts_of(made, seen)


def evaluation() -> dict[str, Any]:
    with FakeTensorMode(allow_non_fake_inputs=True), Numbers():
        made = trainer(precision="bf16")
        made.base.eval()
        batches = made.splits.test.epoch(0)
        with torch.inference_mode(), Watch() as seen:
            made.base(next(batches).inputs)
        return facts_of(made, seen)


def restoring() -> dict[str, Any]:
    """A checkpoint of one trainer taken up by another: everything is where it was, and steps go on."""
    with FakeTensorMode(allow_non_fake_inputs=True), Numbers():
        made = trainer("twin", ternary=True)
        made._compress_what_is_due()
        made._step(next(made.splits.train.epoch(0)))
        with Watch() as seen:
            assert first_not_finite(kept_tensors(made.objective, made._adam, made._best)) is None
            checkpoint = made.checkpoint()
        saved = {"tensors": len(checkpoint.tensors), "copies": seen.copies, "waits": seen.waits, "pinned": seen.pinned}
        assert {tensor.device.type for tensor in checkpoint.tensors.values()} == {"cpu"}
        again = trainer("twin", ternary=True)
        again.restore(checkpoint)
        held = [*again.objective.parameters(), *again.objective.buffers()]
        held += [value for state in again._adam.state.values() for value in state.values()]
        assert {tensor.device.type for tensor in held} == {"cuda"}
        batch = next(again.splits.train.epoch(0, 1))
        with Watch() as seen:
            again._step(batch)
        return facts_of(again, seen) | {"moments": len(again._adam.state), "saved": saved}


def uploading() -> dict[str, Any]:
    """An epoch of three batches of samples that do not fit, and a step of it."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        Numbers(),
        mock.patch("torch.cuda.mem_get_info", return_value=(0, 0)),
    ):
        made = trainer("twin", precision="bf16")
        sets = data(3 * 256, events=False)
        batches = Batches(sets.train, sets, 256, CUDA, training=True).epoch(0)
        made._step(next(batches))
        with Watch() as seen:
            made._step(next(batches))
        with Order() as order, mock.patch("torch.cuda.Stream.wait_stream", lambda *two: order.waits(*two)):
            for batch in Batches(sets.train, sets, 256, CUDA, training=False).epoch(0):
                order.seen.append(f"a batch on {batch.inputs.device.type}, {batch.labels.device.type}")
        return {"copies": seen.copies, "waits": seen.waits, "pinned": seen.pinned, "order": order.seen}


def beginning() -> list[str]:
    """What an epoch of samples that fit copies to the device, over all of its steps."""
    with FakeTensorMode(allow_non_fake_inputs=True), Numbers():
        sets = data(3 * 256, events=False)
        batches = Batches(sets.train, sets, 256, CUDA, training=True)
        with Watch() as seen:
            assert len(list(batches.epoch(0))) == 3
        return seen.copies


STEPS: dict[str, dict[str, Any]] = {
    "baseline, fp32": {"objective": "solo"},
    "baseline, bf16": {"objective": "solo", "precision": "bf16"},
    "twin, fp32": {"objective": "twin"},
    "twin, bf16": {"objective": "twin", "precision": "bf16"},
    "twin, fp16": {"objective": "twin", "precision": "fp16"},
    "twin, bf16, low memory": {"objective": "twin", "precision": "bf16", "memory": "low"},
    "twin, bf16, ternary": {"objective": "twin", "precision": "bf16", "ternary": True},
    "two siblings, features, bf16": {"objective": "siblings", "precision": "bf16"},
    "distillation alone, bf16": {"objective": "KD", "precision": "bf16"},
    "distillation and cross-entropy, bf16": {"objective": "KD+CE", "precision": "bf16"},
    "ResNet-18, bf16": {"precision": "bf16", "layout": "resnet18"},
    "MLP, events, bf16": {"precision": "bf16", "layout": "mlp", "events": True},
    "VGG-11, events, bf16": {"precision": "bf16", "layout": "vgg11", "events": True},
}
"""What `trainer` makes for the step of each case."""

CASES = {
    **{case: functools.partial(step, **settings) for case, settings in STEPS.items()},
    "evaluation of one batch": evaluation,
    "restored, twin, ternary": restoring,
}


def planted() -> str:
    """What becomes of a step that mixes devices: the watch must not pass it over."""
    from tnacli.data import batches

    right = batches.as_input
    batches.as_input = lambda x, mean, std, kind: x.to(torch.float32) - torch.zeros(3, 1, 1)  # type: ignore[assignment]
    try:
        step()
    except RuntimeError as error:
        return str(error)
    finally:
        batches.as_input = right
    return ""


def applied(self: nn.Module, function: Any, recurse: bool = True) -> nn.Module:
    """`Module._apply` without swapping tensors in place, which fake ones do not take."""
    for child in self.children():
        child._apply(function)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                moved = function(parameter)
            if moved is not parameter:
                self._parameters[name] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = function(buffer)
    return self


if __name__ == "__main__":
    torch.set_num_threads(1)
    nn.Module._apply = applied  # type: ignore[method-assign]
    torch.cuda.mem_get_info = lambda device=None: (78 * 2**30, 80 * 2**30)
    FakeTensorMode.avoid_device_init = True  # type: ignore[method-assign, assignment]
    found = {}
    for name, run in CASES.items():
        try:
            found[name] = run()
        except Exception:
            found[name] = {"failed": traceback.format_exc()[-1500:]}
    print(json.dumps({"cases": found, "planted": planted(), "uploading": uploading(), "beginning": beginning()}))
    sys.stdout.flush()
    os._exit(0)  # before CUDA's own clean-up, which there is no driver for
