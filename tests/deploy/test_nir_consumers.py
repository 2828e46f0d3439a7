"""The exported NIR file as other libraries' own importers read it; docs/deployment.md has the table of what follows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.deploy.conftest import Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy.nir import nir_graph, nir_write
from tnacli.deploy.nir_steps import DT
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import PackedNetwork

nir = pytest.importorskip("nir", reason="needs the extra nir")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deployment.md"

Import = Callable[[Path], Any]
"""A library's own importer: from a file to a module that takes (input, state) and returns (output, state)."""


def spikingjelly(file: Path) -> Any:
    importer = pytest.importorskip("spikingjelly.activation_based.nir_exchange.from_nir", reason="not installed")
    return importer.import_from_nir(file)


def snntorch(file: Path) -> Any:
    importer = pytest.importorskip("snntorch.import_nir", reason="not installed")
    return importer.import_from_nir(nir.read(file))


def norse(file: Path) -> Any:
    importer = pytest.importorskip("norse.torch.utils.import_nir", reason="not installed")
    return importer.from_nir(nir.read(file), dt=DT)


def sinabs(file: Path) -> Any:
    importer = pytest.importorskip("sinabs.nir", reason="not installed")
    return importer.from_nir(nir.read(file), batch_size=1)


@torch.no_grad()
def read_out(imported: Any, file: Path, x: Tensor) -> Tensor:
    """What the file's metadata asks of a consumer."""
    about = nir.read(file).metadata
    for module in imported.modules():
        if hasattr(module, "reset_mem"):  # snnTorch keeps potentials in its modules
            module.reset_mem()
    state, potential, logits = None, torch.zeros(()), torch.zeros(())
    for _ in range(int(about["tnacli_timesteps"])):
        output, state = imported(x, state)
        potential = float(about["tnacli_leak"]) * potential + output
        logits = logits + potential
    return logits


def logits_of(importer: Import, packed: PackedNetwork, inputs: Tensor, file: Path, *, batch: bool) -> Tensor:
    nir_write(file, nir_graph(packed))
    imported = importer(file)
    if batch:
        return read_out(imported, file, inputs)
    return torch.stack([read_out(imported, file, sample) for sample in inputs])


# snnTorch and norse flatten from the first axis of all: they take a sample at a time, without an axis of samples.
FAITHFUL = [(spikingjelly, True), (snntorch, False), (norse, False)]


@pytest.mark.parametrize(("importer", "batch"), FAITHFUL, ids=lambda given: getattr(given, "__name__", ""))
def test_every_digit_is_predicted_alike(importer: Import, batch: bool, quickstart: Quickstart, tmp_path: Path) -> None:
    found = logits_of(importer, quickstart.packed, quickstart.inputs, tmp_path / "net.nir", batch=batch)
    assert torch.equal(found.argmax(1), quickstart.expected.argmax(1))
    torch.testing.assert_close(found, quickstart.expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not DEPLOYMENT.exists(), reason="only in a checkout")
def test_the_documented_lines_give_the_logits(
    quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("spikingjelly", reason="not installed")
    (lines,) = re.findall(
        r"```python\n([^`]*import_from_nir.*?)```", DEPLOYMENT.read_text(encoding="utf-8"), flags=re.S
    )
    nir_write(tmp_path / "digits.nir", nir_graph(quickstart.packed))
    monkeypatch.chdir(tmp_path)
    names = {"x": quickstart.inputs}
    exec(lines, names)
    torch.testing.assert_close(names["logits"], quickstart.expected, rtol=1e-5, atol=1e-5)


NETWORKS: dict[str, dict[str, Any]] = {
    "decay": {"decay": 0.25},
    "pool": {"layout": "6C3-AP4-9C3-AP2-17FC", "size": (18, 17)},
    "GAP": {"layout": "3C3-AP2-4C3-GAP", "size": (8, 8)},
    "sum": {"readout": "sum"},
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("importer", "batch"), FAITHFUL, ids=lambda given: getattr(given, "__name__", ""))
def test_networks_of_every_kind_are_read_alike(importer: Import, batch: bool, kind: str, tmp_path: Path) -> None:
    network = make_network(**NETWORKS[kind])
    packed, inputs = make_packed(network), make_inputs(network, 8)
    expected = PackedSNN(packed)(inputs)
    assert len(expected.unique(dim=0)) > 3
    found = logits_of(importer, packed, inputs, tmp_path / "net.nir", batch=batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


SHORTCUTS: dict[str, Any] = {"layout": "4C3-R4-AP2-R6x2/2-11FC", "size": (12, 12)}


@pytest.mark.parametrize(("importer", "batch"), FAITHFUL[:2], ids=["spikingjelly", "snntorch"])
def test_shortcuts_are_read_alike(importer: Import, batch: bool, tmp_path: Path) -> None:
    network = make_network(**SHORTCUTS)
    packed, inputs = make_packed(network), make_inputs(network, 8)
    found = logits_of(importer, packed, inputs, tmp_path / "net.nir", batch=batch)
    torch.testing.assert_close(found, PackedSNN(packed)(inputs), rtol=1e-5, atol=1e-5)


def test_norse_does_not_follow_shortcuts(tmp_path: Path) -> None:
    """What comes out is that of the first layers, without an error: the documents warn of it."""
    network = make_network(**SHORTCUTS)
    found = logits_of(norse, make_packed(network), make_inputs(network, 2), tmp_path / "net.nir", batch=False)
    assert found.shape != (2, 5)


@pytest.mark.parametrize(("importer", "batch"), [FAITHFUL[0], FAITHFUL[2]], ids=["spikingjelly", "norse"])
def test_neurons_without_decay_are_read_alike(importer: Import, batch: bool, tmp_path: Path) -> None:
    network = make_network(layout="4C3-3C3-5FC", decay=1.0)
    packed, inputs = make_packed(network), make_inputs(network, 8)
    found = logits_of(importer, packed, inputs, tmp_path / "net.nir", batch=batch)
    torch.testing.assert_close(found, PackedSNN(packed)(inputs), rtol=1e-5, atol=1e-5)


def test_snntorch_refuses_neurons_without_decay(tmp_path: Path) -> None:
    """It would give them a decay of 0.9."""
    packed = make_packed(make_network(layout="3C3-5FC", decay=1.0))
    nir_write(tmp_path / "net.nir", nir_graph(packed))
    with pytest.raises(AssertionError, match="r != 1"):
        snntorch(tmp_path / "net.nir")


def test_spikingjelly_refuses_a_decay_of_0(tmp_path: Path) -> None:
    packed = make_packed(make_network(layout="3C3-5FC", decay=0.0))
    nir_write(tmp_path / "net.nir", nir_graph(packed))
    with pytest.raises(ValueError, match="greater than 1"):
        spikingjelly(tmp_path / "net.nir")


def test_norse_has_to_be_given_the_timestep() -> None:
    """Its own is ten times NIR's, and it warns of nothing: the documents say so."""
    importer = pytest.importorskip("norse.torch.utils.import_nir", reason="not installed")
    assert inspect.signature(importer.from_nir).parameters["dt"].default == 0.001 != DT


def test_sinabs_refuses_maps_of_neurons(tmp_path: Path) -> None:
    packed = make_packed(make_network(layout="3C3-5FC"))
    nir_write(tmp_path / "net.nir", nir_graph(packed))
    with pytest.raises(ValueError, match="ambiguous"):
        sinabs(tmp_path / "net.nir")


def test_sinabs_reads_rows_of_neurons_and_is_not_faithful(tmp_path: Path) -> None:
    """It takes tau in steps, not in seconds, so that nothing of a potential is kept, and takes the current whole."""
    network = make_network(layout="9FC-8FC-7FC")
    packed, inputs = make_packed(network), make_inputs(network, 8)
    nir_write(tmp_path / "net.nir", nir_graph(packed))
    imported = sinabs(tmp_path / "net.nir")
    found = torch.stack([read_out(imported, tmp_path / "net.nir", sample[None])[0] for sample in inputs])
    assert not torch.allclose(found, PackedSNN(packed)(inputs), rtol=0.1, atol=0.1)
