"""`python -m benchmarks.zoo`: which public models of other libraries become packed files, and what stands in the way of the rest.

Each model of `benchmarks.zoo_models` is made by its library's own code. Where a packed file can say it, it is trained on a slice
of its data, ternarized, fine-tuned, packed by `tnacli.from_module`, and written as C, which is compiled and run on all test
samples: the predictions must be the network's own. All models take most of an hour on two cores; data as in recipes ($TNA_DATA).

What was measured is kept in docs/zoo.json, model by model, and the table of docs/zoo.md written from it; so a run that was
interrupted goes on where it was.

    python -m benchmarks.zoo                               all that is not there yet
    python -m benchmarks.zoo --again                       everything
    python -m benchmarks.zoo --match parametric --again    only some
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tnacli
from benchmarks.document import ROOT, table
from benchmarks.zoo_models import MODELS, NONE, Forward, ZooModel
from tnacli.data.load import load
from tnacli.errors import NetworkError, TnaError
from tnacli.importing.from_module import described
from tnacli.pixels import as_input
from tnacli.recipe.schema.data import Data

BATCH, RATE = 25, 1e-3
LOOKED_AT = 2
"""On how many samples a model is looked at."""
COLUMNS = (
    "library",
    "model",
    "data",
    "trained on",
    "weights",
    "full precision %",
    "ternary %",
    "packed file",
    "C predicts alike",
)
RECORD, PAGE = ROOT / "docs" / "zoo.json", ROOT / "docs" / "zoo.md"
_TABLE = re.compile(r"(?<=<!-- made by: python -m benchmarks.zoo -->\n).*?(?=<!-- end -->)", flags=re.S)


@dataclass(frozen=True)
class Samples:
    """float32 samples as `from_module` takes them, normalised, and their labels, for training and testing."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def samples_for(model: ZooModel) -> Samples:
    """Real samples of the model's data set, at least enough to look at it. Raises DataError if it is missing."""
    train, test = (max(10, count) for count in (model.training.train, model.training.test))
    found = load(Data(name=model.data, train_samples=train, test_samples=test, normalise="none"), model.timesteps)
    parts = []
    for split in (found.train, found.test):
        inputs = as_input(torch.from_numpy(split.inputs), None, None, found.kind)
        if found.kind == "images" and model.timesteps > 1:  # Poisson-coded: a spike with the pixel as its probability
            generator = torch.Generator().manual_seed(0)
            shape = (len(inputs), model.timesteps, *inputs.shape[1:])
            inputs = (torch.rand(shape, generator=generator) < inputs.unsqueeze(1)).float()
        if model.size is not None:
            inputs = F.interpolate(inputs[:LOOKED_AT], size=(model.size, model.size))
        parts.append((inputs, torch.from_numpy(split.labels)))
    return Samples(*parts)


def hidden_layers(net: nn.Module, spiking_output: bool) -> list[str]:
    """What is made ternary: all convolutions and linear layers but the first, and but the last where its currents are logits."""
    names = [name for name, part in net.named_modules() if isinstance(part, nn.modules.conv._ConvNd | nn.Linear)]
    return names[1:] if spiking_output else names[1:-1]


def ternarized(net: nn.Module, model: ZooModel) -> int:
    """Make its hidden layers ternary, and say how many there are."""
    hidden = hidden_layers(net, model.spiking_output)
    if hidden:
        tnacli.ternarize(net, layers=hidden, skip_first_and_last=False)
    return len(hidden)


def refusal(model: ZooModel, samples: Tensor) -> str | None:
    """The first thing about the untrained model that no packed file can say; None if there is none."""
    net, forward = model.make()
    ternarized(net, model)
    try:
        described(net, samples, forward=forward)
    except NetworkError as error:
        return str(error)
    return None


def trained(net: nn.Module, forward: Forward, data: tuple[Tensor, Tensor], epochs: int) -> None:
    """Train `net` on cross-entropy with Adam."""
    inputs, labels = data
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    net.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(labels)), BATCH):
            loss = F.cross_entropy(forward(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()


@torch.no_grad()
def predicted(net: nn.Module, forward: Forward, inputs: Tensor) -> Tensor:
    """The class of each sample."""
    net.eval()
    return torch.cat([forward(part).argmax(1) for part in torch.split(inputs, BATCH)])


def row(model: ZooModel, samples: Samples, folder: Path) -> list[str]:
    """The model's row of the table: what came out, or why it does not pass."""
    data = model.data if model.size is None else f"{model.data}, {model.size}x{model.size}"
    begun, training = [model.library, f"`{model.name}`", data], model.training
    reason = refusal(model, samples.test[0][:LOOKED_AT])
    if reason is not None:
        return [*begun, "", "", "", "", f"no: {reason}", ""]
    if training == NONE:
        return [*begun, "", "", "", "", "can be; not trained, not measured", ""]
    begun.append(f"{training.train}, {training.epochs} + {training.ternary_epochs} epochs")
    torch.manual_seed(0)
    net, forward = model.make()
    (inputs, labels), rates = samples.test, []
    trained(net, forward, samples.train, training.epochs)
    rates.append(float((predicted(net, forward, inputs) == labels).float().mean()))
    layers = ternarized(net, model)
    trained(net, forward, samples.train, training.ternary_epochs)
    own = predicted(net, forward, inputs)
    rates.append(float((own == labels).float().mean()))
    try:
        packed = tnacli.from_module(net, inputs, forward=forward)
        (file,) = packed.save(folder / "model.safetensors")
        packed.save(folder / "model", form="c")
    except TnaError as error:
        return [*begun, f"{layers} ternary", *(f"{100 * rate:.1f}" for rate in rates), f"no: {error}", ""]
    alike = int((packed(inputs, normalised=True).argmax(1) == own).sum())
    return [
        *begun, f"{layers} ternary", *(f"{100 * rate:.1f}" for rate in rates), f"yes, {file.stat().st_size:,} bytes",
        f"{alike} of {len(own)}",
    ]  # fmt: skip


def installed(model: ZooModel) -> bool:
    return importlib.util.find_spec(model.library.lower()) is not None


def record(models: Sequence[ZooModel], *, again: bool) -> None:
    """Measure `models`, each of them kept in docs/zoo.json at once, and write the table; only those that are not there yet,
    unless they are to be measured `again`."""
    kept: dict[str, list[str]] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            if not installed(model):
                print(f"{model.key}: not measured, {model.library} is not installed", file=sys.stderr)
            elif again or model.key not in kept:
                kept[model.key] = row(model, samples_for(model), Path(folder))
                _write(kept)
                print(f"{model.key}: {kept[model.key][-2]}", file=sys.stderr, flush=True)
    _write(kept)


def _write(kept: dict[str, list[str]]) -> None:
    rows = {model.key: kept[model.key] for model in MODELS if model.key in kept}
    RECORD.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    text = table(COLUMNS, list(rows.values())) + "\n"
    PAGE.write_text(_TABLE.sub(lambda _: text, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--match", default="", metavar="TEXT", help="only models whose library or name holds TEXT")
    parser.add_argument("--again", action="store_true", help="measure also those that docs/zoo.json has")
    arguments = parser.parse_args()
    chosen = [model for model in MODELS if arguments.match.lower() in model.key.lower()]
    record(chosen, again=arguments.again)


if __name__ == "__main__":
    main()
