"""Training steps to be timed: forward, cross-entropy, backward, Adam, on one batch of random images with fixed labels.

tnacli's are the training loop's own step. The peers get the same weights to start from, the same fused Adam and the same
autocast; `default_step` is a peer as its documentation sets it up.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import platform
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.layerwise import Layerwise
from benchmarks.peers import PEERS, spikingjelly
from benchmarks.reference import inputs, model_of, network
from benchmarks.work import CLASSES, IMAGE, SkippedError, Step, Work
from tnacli.build import build_objective
from tnacli.data.batches import Batch, Batches
from tnacli.data.learned_from import LearnedFrom
from tnacli.data.samples import Dataset, Samples
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.data import Augmentation
from tnacli.recipe.schema.objective import Twin
from tnacli.recipe.schema.recipe import Runtime, Settings
from tnacli.runs.metadata import BegunRun, Versions
from tnacli.snn.arithmetic import fp32_as
from tnacli.snn.network import SpikingNetwork
from tnacli.training.distributed import Ranks
from tnacli.training.execution import Execution, compile_regions, side_by_side
from tnacli.training.loop import Splits, Trainer
from tnacli.training.precision import arithmetic, autocast
from tnacli.training.stop import StopRequest
from tnacli.version import __version__

_SAMPLES = 2048  # enough that the data pipeline reads from memory, not from the processor's caches


def batches(work: Work) -> Batches:
    """Random pixels in CIFAR-100's shape, with its augmentation, in batches as `tna train` makes them."""
    facts = DATASETS["cifar100"]
    generator = np.random.default_rng(0)
    length = max(_SAMPLES, 2 * work.batch)
    pixels = generator.integers(0, 256, (length, *IMAGE), dtype=np.uint8)
    samples = Samples(pixels, generator.integers(0, CLASSES, length))
    dataset = Dataset(
        name="cifar100", kind="images", classes=tuple(map(str, range(CLASSES))), train=samples, validation=None, test=samples,
        mean=facts.mean, std=facts.std, augmentation=Augmentation(crop_padding=facts.crop_padding, flip=facts.flip),
        source="generated", fingerprint="",
    )  # fmt: skip
    return Batches(samples, dataset, work.batch, work.device, training=True)


def trainer(work: Work, settings: Settings) -> Trainer:
    """The training loop of a run with these settings, before its first step."""
    objective = build_objective(settings, channels=IMAGE[0], size=IMAGE[1:], classes=CLASSES, seed=0)
    data = batches(work)
    execution = Execution(torch.device(work.device), "bf16" if work.precision == "bf16" else "fp32", Ranks())
    made = Trainer(
        objective, _begun(settings), Splits(data, data), execution=execution, save=lambda checkpoint: "",
        emit=lambda event: None, stop=StopRequest(),
    )  # fmt: skip
    made.objective.train()
    return made


def _begun(settings: Settings) -> BegunRun:
    """A run on those random pixels."""
    facts = DATASETS["cifar100"]
    data = LearnedFrom(name="cifar100", source="generated", fingerprint="", samples={}, digests={}, files=None)
    versions = Versions(tnacli=__version__, torch=torch.__version__, python=platform.python_version())
    return BegunRun(
        recipe="benchmark", run="benchmark", identity="", altered=(), initial=None, data=data, kind="images",
        classes=tuple(map(str, range(CLASSES))), channels=IMAGE[0], size=IMAGE[1:], mean=facts.mean, std=facts.std,
        versions=versions, kernels="mixed", seed=0, settings=settings,
    )  # fmt: skip


def _ours(
    work: Work,
    settings: Settings | None = None,
    *,
    compiled: bool = True,
    low_memory: bool = False,
    regions: bool = False,
) -> Step:
    made = trainer(work, settings or Settings(model=model_of(work)))
    for part in made.objective.networks.values():
        assert isinstance(part, SpikingNetwork)
        if low_memory:
            part.keep_small()
        for layer in part.spiking.values():
            layer.compiled = layer.compiled and compiled
    if regions:
        _with_regions(made)
    beside = contextlib.ExitStack()  # until the process ends, which is this contender's own
    beside.enter_context(side_by_side(made.objective, made.settings, Execution(made.device, made.precision, Ranks())))
    atexit.register(beside.close)
    images, labels = (x.to(work.device) for x in inputs(work))
    batch = Batch(images, labels, work.batch)

    def step() -> None:
        with arithmetic(made.precision, deterministic=made.settings.runtime.deterministic):
            made._step(batch)  # not a public name, but the very step that is to be timed

    return step


def _with_regions(made: Trainer) -> None:
    def failed(message: str) -> None:
        raise SkippedError(message)

    wanted = made.settings.runtime.model_copy(update={"compile": "on"})
    settings = made.settings.model_copy(update={"runtime": wanted})
    regions, reason = compile_regions(made.objective, settings, made.device, made.splits.train, tell=failed)
    if regions is None:
        raise SkippedError(reason)


def tnacli(work: Work) -> Step:
    """The training loop's step, solo."""
    return _ours(work)


def tnacli_plain(work: Work) -> Step:
    """The same without compiled kernels."""
    return _ours(work, compiled=False)


def tnacli_fastest(work: Work) -> Step:
    """The same with the algorithms that cuDNN finds to be fastest (`runtime.deterministic: false`)."""
    return _ours(work, Settings(model=model_of(work), runtime=Runtime(deterministic=False)))


def tnacli_regions(work: Work) -> Step:
    """The same with what `torch.compile` makes of batch norm, neurons and pooling in their place (`runtime.compile: on`)."""
    return _ours(work, regions=True)


def tnacli_twin(work: Work) -> Step:
    """A TNA step: base and twin, Eq. 5."""
    return _ours(work, Settings(model=model_of(work), objective=Twin(alpha=1e-3)))


def tnacli_sent_ahead(work: Work) -> Step:
    """The step on new batches, augmented, of samples that are not kept on the GPU and are sent one batch ahead; on CUDA only."""
    with mock.patch("tnacli.data.batches._crowds", return_value=True):
        made = trainer(work, Settings(model=model_of(work)))
    stream = _forever(made.splits.train)

    def step() -> None:
        with arithmetic(made.precision):
            made._step(next(stream))

    return step


def tnacli_low_memory(work: Work) -> Step:
    """The step with the low-memory option."""
    return _ours(work, low_memory=True)


def data_pipeline(work: Work) -> Step:
    """One batch read, augmented and normalised."""
    stream = _forever(batches(work))
    return lambda: next(stream)


def _forever(data: Batches) -> Iterator[Batch]:
    return (batch for epoch in count() for batch in data.epoch(epoch))


def _step(module: nn.Module, images: Tensor, labels: Tensor, work: Work, *, fused: bool = True) -> Step:
    adam = torch.optim.Adam(module.parameters(), lr=0.01, fused=fused or None)

    def step() -> None:
        with fp32_as("ieee"):
            with autocast(torch.device(work.device), "bf16" if work.precision == "bf16" else "fp32"):
                loss = F.cross_entropy(module(images), labels)
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()

    return step


def peer_step(
    name: str, *, channels_last: bool = False, compiled: bool = False, in_triton: bool = False
) -> Callable[[Work], Step]:
    """The step of a peer, with channels last in memory or compiled as a whole by `torch.compile` if so wished.

    With `in_triton`, SpikingJelly's neurons hold their potentials in the network's precision, which is its own way to have its
    Triton kernels in bf16: under autocast alone it computes neurons in plain PyTorch. On CUDA only.
    """

    def build(work: Work) -> Step:
        about = PEERS[name]
        module: nn.Module = Layerwise(model_of(work), about.neurons, time_axis=about.time_axis).copy_from(
            network(work, seen=0)
        )
        module = module.to(work.device).train()
        images, labels = (x.to(work.device) for x in inputs(work))
        if channels_last:
            module = module.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        if in_triton:
            precision: Any = importlib.import_module("spikingjelly.activation_based.precision")
            wanted = precision.PrecisionConfig(neuron_storage=work.precision)
            module = precision.prepare_model_for_precision(module, work.device, wanted).model
        if compiled:
            module.compile()
        return _step(module, images, labels, work)

    return build


def spikingjelly_default(work: Work) -> Step:
    """SpikingJelly as its tutorials set it up: its own layers, the image repeated over time, plain Adam, fp32."""
    layer: Any = importlib.import_module("spikingjelly.activation_based.layer")
    functional: Any = importlib.import_module("spikingjelly.activation_based.functional")
    model = model_of(work)
    parts: list[nn.Module] = []
    for shape in layer_shapes(model.layout, width=work.width, channels=IMAGE[0], size=IMAGE[1:], classes=CLASSES)[:-1]:
        out, fan_in = shape.weight[:2]
        if shape.kind == "conv":
            parts += [layer.Conv2d(fan_in, out, 3, padding=1, bias=False), layer.BatchNorm2d(out)]
        else:
            parts += [] if any(isinstance(part, layer.Flatten) for part in parts) else [layer.Flatten()]
            parts += [layer.Linear(fan_in, out, bias=False), layer.BatchNorm1d(out)]
        parts.append(spikingjelly(model))
        parts += [layer.Dropout(model.dropout)] if shape.kind == "fc" else []
        parts += [layer.AvgPool2d(shape.pool)] if shape.pool > 1 else []
    hidden = nn.Sequential(*parts, layer.Linear(out, CLASSES)).to(work.device).train()
    functional.set_step_mode(hidden, "m")
    images, labels = (x.to(work.device) for x in inputs(work))

    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = hidden

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.hidden(x.unsqueeze(0).repeat(work.timesteps, 1, 1, 1, 1)).sum(0)
            return logits

    return _step(Summed(), images, labels, Work(work.width, work.batch, "fp32", work.device), fused=False)


def limit(work: Work) -> Step:
    """The network's convolutions and matrix products alone, forward and backward: no neurons, norms, pooling or Adam."""
    dtype = torch.bfloat16 if work.precision == "bf16" else torch.float32
    shapes = layer_shapes(model_of(work).layout, width=work.width, channels=IMAGE[0], size=IMAGE[1:], classes=CLASSES)
    calls = []
    size: tuple[int, ...] = IMAGE[1:]
    for number, shape in enumerate(shapes):
        count = work.batch if number == 0 else work.batch * work.timesteps
        out, fan_in = shape.weight[:2]
        layout = torch.channels_last if shape.kind == "conv" else torch.contiguous_format
        if shape.kind == "conv":
            module: nn.Module = nn.Conv2d(fan_in, out, 3, padding=1, bias=False)
            x = torch.rand(count, fan_in, *size, device=work.device)
            size = tuple(side // shape.pool for side in size)
        else:
            module = nn.Linear(fan_in, out, bias=False)
            x = torch.rand(count, fan_in, device=work.device)
        module = module.to(work.device, dtype).to(memory_format=layout)
        x = (x < 0.15).to(dtype).contiguous(memory_format=layout).requires_grad_(number > 0)
        calls.append((module, x, torch.randn_like(module(x).detach())))

    def step() -> None:
        with fp32_as("ieee"):
            for module, x, outward in calls:
                wanted = [x, *module.parameters()] if x.requires_grad else list(module.parameters())
                torch.autograd.grad(module(x), wanted, outward)

    return step


CONTENDERS: dict[str, Callable[[Work], Step]] = {
    "tnacli": tnacli,
    "tnacli, plain PyTorch layers": tnacli_plain,
    "tnacli, not deterministic": tnacli_fastest,
    "tnacli, compiled regions": tnacli_regions,
    "tnacli, low memory": tnacli_low_memory,
    "tnacli, samples sent ahead": tnacli_sent_ahead,
    "tnacli, TNA": tnacli_twin,
    "data pipeline": data_pipeline,
    "convolutions and matrix products alone": limit,
    "plain PyTorch loop": peer_step("plain PyTorch loop", channels_last=True),
    "SpikingJelly": peer_step("SpikingJelly"),
    "SpikingJelly, channels last": peer_step("SpikingJelly", channels_last=True),
    "SpikingJelly, ATan": peer_step("SpikingJelly, ATan"),
    "SpikingJelly, ATan in Triton": peer_step("SpikingJelly, ATan", in_triton=True),
    "SpikingJelly, torch.compile": peer_step("SpikingJelly", compiled=True),
    "SpikingJelly, default settings": spikingjelly_default,
    "snnTorch": peer_step("snnTorch", channels_last=True),
    "sinabs": peer_step("sinabs", channels_last=True),
    "norse": peer_step("norse", channels_last=True),
}
