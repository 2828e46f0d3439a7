"""Known GPUs, what a run would take on each, and what would fit where it does not: estimates.

Figures of the cards are those of NVIDIA's data sheets (V100 SXM2, A100 SXM, H100 SXM, H200 SXM, GeForce RTX 4090; tensor cores
without sparsity, sums in fp32). Steps were measured on an H200 alone (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from tnacli.recipe.costs import Sample, sample_of, steps_of_epoch, training_samples
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.gpu_costs import GPUStep, gpu_step
from tnacli.recipe.schema.recipe import Settings

SUSTAINED = 0.55
"""The share of a data sheet's rate of arithmetic that a step is assumed to reach; of the memory's rate, all."""
HOST_SECONDS_PER_LAYER = 1.3e-3
"""What Python takes to launch a layer's kernels in a step, on a server's processor: small layers wait for that."""
CONTEXT_BYTES = 10**9
SPARE = 1.1
"""Assumed beside the tensors of a step: CUDA's own memory, and what the allocator cannot use of the rest."""
_RESIDENT_SHARE = 4
"""Samples stay on a GPU if they take less than one part in this many of its memory (`tnacli.data.batches`)."""


@dataclass(frozen=True)
class Card:
    """A GPU: its memory, the rate of that in bytes a second, and operations a second by `train.precision`."""

    name: str
    memory_bytes: int
    bytes_per_second: float
    flop_per_second: Mapping[str, float]

    def precision(self, wanted: str) -> str | None:
        """The arithmetic that `train.precision` means on it; None where it has none of that name."""
        if wanted == "auto":
            return "bf16" if "bf16" in self.flop_per_second else "fp32"
        return wanted if wanted in self.flop_per_second else None


def _ampere(fp32: float, tf32: float, half: float) -> dict[str, float]:
    return {"fp32": fp32 * 1e12, "tf32": tf32 * 1e12, "bf16": half * 1e12, "fp16": half * 1e12}


_V100 = {"fp32": 15.7e12, "fp16": 125e12}
CARDS = (
    Card("V100 16 GB", 16 * 2**30, 0.9e12, _V100),
    Card("V100 32 GB", 32 * 2**30, 0.9e12, _V100),
    Card("RTX 4090", 24 * 2**30, 1.008e12, _ampere(82.6, 82.6, 165.2)),
    Card("A100 40 GB", 40 * 2**30, 1.555e12, _ampere(19.5, 156, 312)),
    Card("A100 80 GB", 80 * 2**30, 2.039e12, _ampere(19.5, 156, 312)),
    Card("H100", 80 * 2**30, 3.35e12, _ampere(67, 494.7, 989.4)),
    Card("H200", 141 * 10**9, 4.8e12, _ampere(67, 494.7, 989.4)),
)


@dataclass(frozen=True)
class OnCard:
    """A run on a card: bytes that it needs and hours that it takes, evaluation left out; None where that is not known.

    `remedies` say what would fit, where it does not; `unavailable` why the card cannot train it as it is.
    """

    card: str
    memory_bytes: int
    needed_bytes: int | None = None
    hours: float | None = None
    remedies: tuple[str, ...] = ()
    unavailable: str | None = None

    @property
    def fits(self) -> bool:
        return self.needed_bytes is not None and self.needed_bytes <= self.memory_bytes


def on_cards(settings: Settings, seen: Sample | None = None) -> tuple[OnCard, ...]:
    """A run of `settings` on every known card; none where what it takes cannot be told. `seen` as of `costs`."""
    sample = sample_of(settings, seen)
    return tuple(found for card in CARDS if (found := _on(card, settings, sample)) is not None)


def _on(card: Card, settings: Settings, sample: Sample | None) -> OnCard | None:
    precision = card.precision(settings.train.precision)
    if precision is None:
        named = settings.train.precision
        return OnCard(card.name, card.memory_bytes, unavailable=f"has no {named}: train.precision=fp16")
    settings = _changed(settings, "train", precision=precision)
    step, steps = gpu_step(settings, sample), steps_of_epoch(settings, sample)
    if step is None:
        return None
    hours = None if steps is None else seconds_of(step, card, precision) * steps * settings.train.epochs / 3600
    found = OnCard(card.name, card.memory_bytes, needed_bytes(settings, card.memory_bytes, sample), hours)
    return found if found.fits else replace(found, remedies=tuple(remedies(settings, card.memory_bytes, sample)))


def seconds_of(step: GPUStep, card: Card, precision: str) -> float:
    """A step on `card`: as long as its arithmetic and its memory traffic take, one after the other, or the host's launches."""
    device = step.flop / (SUSTAINED * card.flop_per_second[precision]) + step.touched_bytes / card.bytes_per_second
    return max(device, HOST_SECONDS_PER_LAYER * step.layers)


def needed_bytes(
    settings: Settings, memory_bytes: int, sample: Sample | None = None, *, processes: int = 1
) -> int | None:
    """Bytes that a run needs on a GPU with so much memory: its tensors, and what is assumed beside them; None if not known.

    Samples that stay on it count where their number is known; each process has all. `processes` is how many GPUs share a batch.
    """
    step = gpu_step(settings, sample, processes=processes)
    if step is None:
        return None
    sizes = _samples_bytes(settings, sample or sample_of(settings))
    resident = sum(size for size in sizes if size * _RESIDENT_SHARE <= memory_bytes)
    return round(SPARE * step.peak_bytes) + CONTEXT_BYTES + resident


def _samples_bytes(settings: Settings, sample: Sample | None) -> tuple[int, ...]:
    """Bytes of the samples to train on, held out, and to test on."""
    if sample is None:
        return ()
    data = settings.data
    held_out, train = data.validation_samples, training_samples(settings, sample)
    test = data.test_samples or DATASETS[data.name].test or sample.test
    each = (settings.model.timesteps if sample.frames else 1) * sample.channels * prod(sample.size)
    return tuple(count * each for count in ((train or held_out) - held_out, held_out, test or 0))


def remedies(
    settings: Settings, memory_bytes: int, sample: Sample | None = None, *, processes: int = 1
) -> Iterator[str]:
    """What would fit into so many bytes, by `needed_bytes`: less memory for the same result, other results, more GPUs."""

    def fitting(changed: Settings, among: int = processes) -> str | None:
        needed = needed_bytes(changed, memory_bytes, sample, processes=among)
        return None if needed is None or needed > memory_bytes else f"{needed / 1e9:.1f} GB"

    low = _changed(settings, "runtime", memory="low")
    if settings.runtime.memory != "low" and (size := fitting(low)):
        yield f"runtime.memory=low ({size}, the same result)"
    batch = settings.train.batch_size
    more = next((n for n in (2, 4, 8) if n > processes and batch >= 2 * n and fitting(settings, n)), None)
    if more is not None:
        yield f"{more} GPUs, torchrun --nproc-per-node {more} ({fitting(settings, more)} each, the same result)"
    if settings.train.precision == "fp32" and (size := fitting(_changed(settings, "train", precision="fp16"))):
        yield f"train.precision=fp16, or bf16 where the GPU has it ({size})"
    while batch > 2 * processes:
        batch //= 2
        if size := fitting(_changed(settings, "train", batch_size=batch)):
            yield f"train.batch_size={batch} ({size})"
            return
        if (size := fitting(_changed(low, "train", batch_size=batch))) and settings.runtime.memory != "low":
            yield f"train.batch_size={batch} with runtime.memory=low ({size})"
            return


def _changed(settings: Settings, section: str, **values: object) -> Settings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})
