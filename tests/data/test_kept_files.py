"""The packed files beside the ledger of this project have the accuracy that it states, on the data that it was measured on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tests.documents import ROOT

KEPT = ROOT / "docs" / "results" / "packed"
pytestmark = pytest.mark.skipif(not KEPT.exists(), reason="only in a checkout")


def holds(tna: Tna, name: str, *options: str) -> None:
    stated = tna("inspect", KEPT / name, "--json").json
    found = tna("evaluate", KEPT / name, *options, "--json").json
    assert (found["accuracy"], found["samples"]) == (pytest.approx(stated["accuracy"]), stated["test_samples"] or 360)


@pytest.mark.parametrize("run", ["t_snn", "tna_t_snn"])
def test_on_the_embedded_digits(tna: Tna, run: str) -> None:
    holds(tna, f"digits_twin-{run}-seed0.tna")


@pytest.mark.slow
def test_on_real_cifar10(tna: Tna, real_cifar10: Path) -> None:
    """The whole test set."""
    holds(tna, "claims_cifar10-tna_t_snn-seed0.tna", "--data-root", str(real_cifar10))
