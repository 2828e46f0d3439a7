"""Numbers that came from outside, written down a second time from their sources: what no computation of ours can check."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import pytest

from tnacli.evaluation.energy import SATURATED, Prices
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.parse.find import list_recipes
from tnacli.recipe.parse.load import load
from tnacli.recipe.schema.compression import MEAN_SHARE, Ternary
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.recipe.schema.objective import DEFAULT_TEMPERATURE, Distill, Twin
from tnacli.recipe.schema.recipe import Settings, Train
from tnacli.report.published import kd_differences, table3
from tnacli.training.fine_tune import COMPRESSION_POINT
from tnacli.training.schedule import compression_epoch

COLUMNS = ("cifar10", "cifar100", "fashion_mnist", "cifar10dvs")

# Deckers et al. 2024, Tables 1 and 2: accuracy in % by data set, in the order of COLUMNS.
TABLE_1 = {
    "baseline": (93.57, 72.6, 94.90, 71.7),
    "tna": (94.39, 75.0, 95.31, 73.4),
}
TABLE_2 = TABLE_1 | {
    "b_snn": (92.31, 69.85, 94.80, 70.6),
    "t_snn": (92.95, 70.52, 94.95, 71.3),
    "tna_t_snn": (93.23, 72.03, 95.24, 72.2),
}
ALPHA = (1e-3, 1e-3, 1e-4, 1e-4)
SWEEP = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

# The same, Table 3. T = timesteps; a blank is not given.
TABLE_3 = """\
data,weights,method,network,T,accuracy
cifar10,full,IM-Loss (Guo 2022a),CIFARNet,4,92.20
cifar10,full,DSR,ResNet-18,20,95.40
cifar10,full,IM-Loss (Guo 2022a),ResNet-19,6,95.49
cifar10,full,TNA SNN,CIFARNet,5,94.39
cifar10,ternary,GAND-Nets,ResNet14-64,12,87.42
cifar10,ternary,TW-SNN (Nguyen 2022),VGG-16,250,89.71
cifar10,ternary,Asymmetric ResNeXt (Wu 2023),ResNeXt,16,90.00
cifar10,ternary,ReRam (Lin & Yuan 2020),SResNet,700,92.1
cifar10,ternary,TNA T-SNN,CIFARNet,5,93.23
cifar100,full,IM-Loss (Guo 2022a),VGG-16,5,70.18
cifar100,full,DSR,ResNet-18,20,78.50
cifar100,full,TNA SNN,CIFARNet,5,75.0
cifar100,binary,B-SNN (Lu & Sengupta 2020),VGG-16,>200,63.07
cifar100,ternary,GAND-Nets,ResNet18-64,12,63.42
cifar100,binary,ALBSNN (Pei 2023),CIFARNet,1,69.55
cifar100,binary,NUTS-BSNN (Dinh 2023),CNN1,14,70.31
cifar100,ternary,TNA T-SNN,CIFARNet,5,72.03
fashion_mnist,full,PLIF (Fang 2021),CNN2,8,94.65
fashion_mnist,full,TCJA-SNN (Zhu 2024),CNN2,8,94.8
fashion_mnist,full,TNA SNN,CIFARNet,5,95.31
fashion_mnist,binary,BS4NN (Kheradpisheh 2022),MLP,256,87.5
fashion_mnist,binary,NUTS-BSNN (Dinh 2023),CNN3,14,93.25
fashion_mnist,ternary,TNA T-SNN,CIFARNet,5,95.23
cifar10dvs,full,RecDis-SNN (Guo 2022b),CIFARNet,,67.30
cifar10dvs,full,IM-Loss (Guo 2022a),ResNet-19,10,72.60
cifar10dvs,full,DSR,VGGSNN,20,77.27
cifar10dvs,full,TET (Deng 2022),VGGSNN,10,77.33
cifar10dvs,full,TNA SNN,CIFARNet,5,73.4
cifar10dvs,binary,ALBSNN (Pei 2023),CIFARNet,1,68.98
cifar10dvs,ternary,TNA T-SNN,CIFARNet,5,72.2
"""

# From other papers: CIFAR-10, CIFAR-100, CIFAR10-DVS.
ELSEWHERE = {
    ("STBP (Wu 2019)", "full"): (89.83, None, None),
    ("NeuNorm (Wu 2019)", "full"): (90.53, None, None),
    ("TSSL-BP", "full"): (91.41, None, None),
    ("QCFS (conversion)", "full"): (94.73, None, None),
    ("tdBN", "full"): (92.92, 70.86, None),
    ("TET", "full"): (94.44, 74.47, None),
    ("OTTT", "full"): (93.73, 71.11, None),
    ("NDOT", "full"): (94.90, 76.61, 77.50),
    ("TSNN, prototype", "ternary"): (89.07, 65.24, None),
    ("TSNN, optimised", "ternary"): (89.91, 65.75, None),
    ("TWBA-Nets 2019", "ternary"): (88.19, None, None),
    ("Ensemble view 2025", "full"): (None, None, 83.20),
    ("MINT", "2-bit"): (90.6, None, None),
    ("CBP", "binary"): (91.51, 66.53, 74.70),
    ("Q-SNN 2024", "binary"): (93.20, 73.48, 79.10),
    ("BSO 2025", "binary"): (93.45, 72.34, 80.60),
    ("T-BSO 2025", "binary"): (94.86, 73.82, 81.00),
}


@pytest.mark.parametrize(("number", "table"), [(1, TABLE_1), (2, TABLE_2)])
@pytest.mark.parametrize("column", range(4), ids=COLUMNS)
def test_recipes_hold_the_papers_accuracies(number: int, table: dict[str, tuple[float, ...]], column: int) -> None:
    recipe = load(f"table{number}_{COLUMNS[column]}").recipe
    assert recipe.reproduces.accuracy == {name: row[column] for name, row in table.items()}
    assert {settings.data.name for settings in recipe.runs.values()} == {COLUMNS[column]}


@pytest.mark.parametrize("column", range(4), ids=COLUMNS)
def test_alphas_are_the_papers(column: int) -> None:
    assert DATASETS[COLUMNS[column]].paper_alpha == ALPHA[column]
    for number in (1, 2):
        runs = load(f"table{number}_{COLUMNS[column]}").recipe.runs
        twins = {name: run.objective.alpha for name, run in runs.items() if isinstance(run.objective, Twin)}
        assert twins == {name: ALPHA[column] for name in runs if name.startswith("tna")}


def test_alphas_of_the_figures_are_the_papers() -> None:
    """Figure 2 and 3a sweep alpha; Figure 3b has TNA at 1e-4 and KD + CE at its best, 1e-5."""
    for recipe, kind in (("fig2_cifar100_alpha", Twin), ("fig3a_cifar100_kd_alpha", Distill)):
        objectives = [run.objective for run in load(recipe).recipe.runs.values()]
        assert all(isinstance(objective, kind) for objective in objectives)
        assert tuple(objective.alpha for objective in objectives if isinstance(objective, Twin | Distill)) == SWEEP
    runs = load("fig3b_cifar100_kd").recipe.runs
    assert isinstance(runs["tna"].objective, Twin)
    assert isinstance(runs["kd_ce"].objective, Distill)
    assert isinstance(runs["kd"].objective, Distill)
    assert (runs["tna"].objective.alpha, runs["kd_ce"].objective.alpha) == (1e-4, 1e-5)
    assert (runs["kd_ce"].objective.cross_entropy, runs["kd"].objective.cross_entropy) == (True, False)


def test_table_3_is_the_papers() -> None:
    expected = [
        (row["data"], row["weights"], row["method"], row["network"], row["T"], float(row["accuracy"]))
        for row in csv.DictReader(io.StringIO(TABLE_3))
    ]
    assert len(expected) == 30
    found = [
        (row.data, row.weights, row.method, row.network, str(row.timesteps or ""), row.accuracy)
        for row in table3()
        if row.from_paper
    ]
    assert found == expected


def test_rows_from_elsewhere_are_as_printed_there() -> None:
    sets = ("cifar10", "cifar100", "cifar10dvs")
    expected = [
        (data, weights, value)
        for (_, weights), values in ELSEWHERE.items()
        for data, value in zip(sets, values, strict=True)
        if value is not None
    ]
    assert sorted((row.data, row.weights, row.accuracy) for row in table3() if not row.from_paper) == sorted(expected)


def test_differences_of_figure_3b_are_the_papers() -> None:
    """Section 5.3.3 states three; two more follow from them by sums."""
    stated = {("TNA", "KD"): 3.93, ("TNA", "KD + CE"): 1.70, ("KD + CE", "baseline"): 0.73}
    found = {(d.first, d.second): d.points for d in kd_differences()}
    assert {pair: found[pair] for pair in stated} == stated
    assert found["TNA", "baseline"] == pytest.approx(1.70 + 0.73)
    assert found["baseline", "KD"] == pytest.approx(3.93 - 1.70 - 0.73)
    assert len(found) == 5


def test_defaults_are_the_papers_settings() -> None:
    """Sections 3 and 4: T = 5, Adam at 0.01, batches of 256, 250 epochs, gamma 0.928, compression after 150, Delta 0.1."""
    model, train, neuron = Model(), Train(), Neuron()
    assert (model.timesteps, model.layout, model.width, model.dropout) == (5, "cifarnet", 1.0, 0.2)
    assert (train.epochs, train.batch_size, train.learning_rate, train.schedule.gamma) == (250, 256, 0.01, 0.928)
    assert (neuron.surrogate_height, neuron.surrogate_window) == (0.5, 0.5)
    assert Ternary().delta == 0.1
    assert compression_epoch(Settings(compression=Ternary())) == 150
    assert COMPRESSION_POINT == 150 / 250


def test_a_teacher_is_not_its_pupil() -> None:
    """Ours, not the paper's, and relied upon by every distillation: the teacher has a seed that no run of a recipe has."""
    offset = Distill(alpha=1.0).teacher_seed
    seeds = {seed for entry in list_recipes() for seed in load(entry.name).recipe.seeds}
    assert offset == 1000
    assert not seeds & {seed + offset for seed in seeds}


@dataclass(frozen=True)
class Facts:
    """What the authors of a data set say of it; statistics of pixels in [0, 1]."""

    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    changed_by: tuple[float, ...] = (0, 0, 0, 0)  # padding, flip, rotation, shear


CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616), "changed_by": (4, 0.5, 0, 0)}
FACTS = {
    "cifar10": Facts((3, 32, 32), 10, 50_000, 10_000, **CIFAR),  # type: ignore[arg-type]
    "cifar100": Facts((3, 32, 32), 100, 50_000, 10_000, **CIFAR),  # type: ignore[arg-type]
    # Measured over the 60,000 training images: 0.28604 and 0.35302.
    "fashion_mnist": Facts((1, 28, 28), 10, 60_000, 10_000, (0.2860,), (0.3530,), (4, 0.5, 0, 0)),
    "cifar10dvs": Facts((2, 48, 48), 10, 9_000, 1_000, changed_by=(0, 0, 30.0, 30.0)),
    "nmnist": Facts((2, 34, 34), 10, 60_000, 10_000),
}


@pytest.mark.parametrize("name", FACTS)
def test_facts_of_data_sets_are_those_of_their_authors(name: str) -> None:
    known, expected = DATASETS[name], FACTS[name]
    assert known.size is not None
    assert (known.channels, *known.size) == expected.shape
    assert (known.classes, known.train, known.test) == (expected.classes, expected.train, expected.test)
    assert (known.mean, known.std) == (expected.mean, expected.std)
    assert (known.crop_padding, known.flip, known.rotation, known.shear) == expected.changed_by


def test_cameras_are_as_large_as_their_makers_say() -> None:
    assert DATASETS["cifar10dvs"].sensor == (128, 128, 2)  # DVS128
    assert DATASETS["nmnist"].sensor == (34, 34, 2)  # Orchard et al. 2015


def test_energies_are_horowitzs() -> None:
    """ISSCC 2014, figure 1.1.9, 45 nm at 0.9 V, 32-bit floats: 3.7 pJ to multiply and 0.9 pJ to add, 4.6 for both.

    64 bits from a cache of 8 KB are 10 pJ.
    """
    assert (Prices().mac_pj, Prices().addition_pj, Prices().memory_pj) == (4.6, 0.9, 10.0)
    assert SATURATED == 0.99


def test_constants_of_methods_are_their_authors() -> None:
    assert MEAN_SHARE == 0.7  # Li and Liu 2016, Eq. 6
    assert DEFAULT_TEMPERATURE == 4.0  # within what Hinton, Vinyals and Dean 2015 use (2.5 to 20)
