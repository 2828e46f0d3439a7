"""The table of public models of other libraries: made as it says, and still true."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("only in a checkout", allow_module_level=True)

from benchmarks.zoo import COLUMNS, Samples, installed, refusal, row  # noqa: E402
from benchmarks.zoo_models import MODELS, NONE, ZooModel  # noqa: E402

SHAPES = {"fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32), "nmnist": (2, 34, 34)}
SMALL = [model for model in MODELS if model.training != NONE]


def page() -> dict[tuple[str, str], dict[str, str]]:
    """Each row of docs/zoo.md by library and model."""
    lines = re.findall(r"^\| (.+) \|$", (ROOT / "docs/zoo.md").read_text(encoding="utf-8"), flags=re.M)[2:]
    cells = [dict(zip(COLUMNS, (cell.strip() for cell in line.split(" | ")), strict=True)) for line in lines]
    return {(row["library"], row["model"].strip("`")): row for row in cells}


def drawn(model: ZooModel, count: int) -> torch.Tensor:
    frames = (model.timesteps,) if model.timesteps > 1 else ()
    channels, *sides = SHAPES[model.data]
    shape = (count, *frames, channels, *(sides if model.size is None else (model.size,) * 2))
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_the_page_has_all_models() -> None:
    assert list(page()) == [(model.library, model.name) for model in MODELS]


@pytest.mark.parametrize(
    "model",
    [pytest.param(model, marks=() if model in SMALL else pytest.mark.slow) for model in MODELS],
    ids=lambda model: f"{model.library} {model.name}",
)
def test_what_the_page_says_of_a_model_is_so(model: ZooModel) -> None:
    if not installed(model):
        pytest.skip(f"{model.library} is not installed")
    shown = page()[model.library, model.name]["packed file"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        reason = refusal(model, drawn(model, 2))
    said = "yes, " if model in SMALL else "can be; "
    assert shown.startswith(said) if reason is None else shown == f"no: {reason}"


def test_a_row_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("spikingjelly")
    (model,) = (one for one in MODELS if one.name == "lif_fc_mnist.SNN")
    inputs = drawn(model, 60)
    labels = inputs[:, :, 0, :5, :2].sum((1, 2, 3)).long() % 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = row(model, Samples((inputs, labels), (inputs[:20], labels[:20])), tmp_path)
    cells = dict(zip(COLUMNS, measured, strict=True))
    assert re.fullmatch(r"yes, [\d,]+ bytes", cells["packed file"])
    assert cells["C predicts alike"] == "20 of 20"
    assert (tmp_path / "model.c").is_file()
