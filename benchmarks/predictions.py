"""`python -m benchmarks.predictions CKPT`: how many predictions of a trained network depend on who computes them.

A ternary checkpoint of a CIFARNet is packed and evaluated on its own test samples, and so are its weights as floats by each
library that is installed. All of them sum exactly; what can differ is how batch norm is rounded, and with it single spikes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.layerwise import Layerwise
from benchmarks.peers import PEERS
from tnacli.deploy.from_checkpoint import checkpoint_batches
from tnacli.evaluation.data import Selection
from tnacli.exporting import export_checkpoint
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import read_packed
from tnacli.snn.network import SpikingNetwork
from tnacli.training.checkpoint import load_checkpoint, restore_network


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predictions", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--samples", type=int, help="test samples; all by default")
    asked = parser.parse_args()
    checkpoint = load_checkpoint(asked.checkpoint)
    network = restore_network(checkpoint, source=str(asked.checkpoint)).eval()
    assert isinstance(network, SpikingNetwork)
    batches = checkpoint_batches(checkpoint, Selection(samples=asked.samples))
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "tnacli, checkpoint": network,
        "tnacli, packed": _packed(asked.checkpoint),
        **_peers(network, (checkpoint.metadata.channels, *checkpoint.metadata.size)),
    }
    logits: dict[str, list[Tensor]] = {name: [] for name in ways}
    labels = []
    with torch.inference_mode():
        for batch in batches.epoch(0):
            labels.append(batch.labels)
            for name, run in ways.items():
                logits[name].append(run(batch.inputs).float())
    Console().print(_table({name: torch.cat(parts) for name, parts in logits.items()}, torch.cat(labels)))


def _packed(source: Path) -> PackedSNN:
    aside = source.with_name(f".{source.stem}.predictions.safetensors")
    try:
        export_checkpoint(source, aside, samples=0)
        return PackedSNN(read_packed(aside))
    finally:
        aside.unlink(missing_ok=True)


def _peers(network: SpikingNetwork, image: tuple[int, int, int]) -> dict[str, Callable[[Tensor], Tensor]]:
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, about in PEERS.items():
        try:
            module = Layerwise(
                network.model, about.neurons, time_axis=about.time_axis, image=image, classes=network.classes
            )
        except ImportError:
            continue
        found[name] = module.copy_from(network).eval()
    return found


def _table(logits: dict[str, Tensor], labels: Tensor) -> Table:
    ours = logits["tnacli, packed"]
    table = Table("", "same predictions", "largest difference of logits", "accuracy %")
    for name, theirs in logits.items():
        same = int((theirs.argmax(1) == ours.argmax(1)).sum())
        accuracy = 100 * float((theirs.argmax(1) == labels).double().mean())
        difference = float((theirs - ours).abs().max())
        table.add_row(name, f"{same} of {len(labels)}", f"{difference:.1e}", f"{accuracy:.2f}")
    return table


if __name__ == "__main__":
    main()
