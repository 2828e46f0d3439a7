"""`tna import FILE.nir -o FILE.pt`: a checkpoint that evaluates as the graph does, and that ternarize and training take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tests.deploy.conftest import KINDS, Quickstart
from tests.deploy.conftest import quickstart as quickstart
from tests.importing.test_nir import HERE, written
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy.nir import nir_graph, nir_write
from tnacli.deploy.nir_steps import nir_logits
from tnacli.errors import NetworkError, UsageError
from tnacli.importing import checkpoint as importing
from tnacli.importing.checkpoint import checkpoint_of
from tnacli.importing.nir import Stated, read_graph
from tnacli.packed.engine import PackedSNN
from tnacli.snn.network import SpikingNetwork
from tnacli.training.checkpoint import Checkpoint, load_checkpoint, restore_network, save_checkpoint

T = 4


def restored(checkpoint: Checkpoint, folder: Path) -> SpikingNetwork:
    """The network as it comes back from a file."""
    save_checkpoint(folder / "net.pt", checkpoint)
    network = restore_network(load_checkpoint(folder / "net.pt"))
    assert isinstance(network, SpikingNetwork)
    return network


def full_precision(graph: Any, seed: int = 0) -> Any:
    """A graph of ours with hidden weights of which each is of another magnitude."""
    generator = np.random.default_rng(seed)
    for node in graph.nodes.values():
        # A factor stands for spikes that are a current as they are.
        if hasattr(node, "weight") and "tnacli_factor" not in node.metadata:
            node.weight = (node.weight * generator.uniform(0.5, 1.5, node.weight.shape)).astype(np.float32)
            node.metadata = {}
    return graph


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("kind", [*KINDS, {"layout": "4C3-9FC", "readout": "none"}], ids=str)
def test_graphs_in_full_precision_are_checkpoints_with_their_logits(
    kind: dict[str, Any], events: bool, tmp_path: Path
) -> None:
    network = make_network(**kind)
    graph = written(full_precision(nir_graph(make_packed(network, events=events))), tmp_path)
    data = "event_folder" if events else "folder"
    origin = HERE.model_copy(update={"data_set": data})
    graph.metadata["tnacli_origin"] = origin.model_dump_json()
    found = read_graph(graph, Stated(origin))
    assert found.full_precision is not None or len(network.spiking) == 1
    checkpoint, compared, there = checkpoint_of(found, str(tmp_path))
    assert (compared.agreeing, there) == (64, False)
    again, inputs = restored(checkpoint, tmp_path), make_inputs(network, 12, events=events)
    with torch.no_grad():
        torch.testing.assert_close(again(inputs), nir_logits(graph, inputs), rtol=1e-4, atol=1e-4)
    assert again.shapes == network.shapes


def test_our_own_export_comes_back_and_packs_as_it_was(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    """Ternary weights as latent ones of -1, 0 and +1: compressed once more, they are the same network."""
    assert tna("export", quickstart.file, "-o", tmp_path / "digits.nir").code == 0
    back = tmp_path / "digits.pt"
    said = tna("import", tmp_path / "digits.nir", "-o", back, "--json")
    assert (said.code, said.json["kind"], said.json["agreeing"], said.err) == (0, "checkpoint", 64, "")
    ours = tna("evaluate", quickstart.file, "--json").json
    measured = tna("evaluate", back, "--json").json
    assert measured["accuracy"] == ours["accuracy"]
    assert measured["firing_rate"] == pytest.approx(ours["firing_rate"], abs=1e-4)
    assert measured["weights"] == "fp32"
    done = tna("ternarize", back, "--epochs", 0, "--out", tmp_path / "runs", "--json")
    assert done.code == 0, done.err
    (last,) = tmp_path.glob("runs/**/last.pt")
    assert tna("export", last, "-o", tmp_path / "again.safetensors").code == 0
    from tnacli.packed.file import read_packed

    again = read_packed(tmp_path / "again.safetensors")
    for name, weights in list(quickstart.packed.weights.items())[1:]:
        np.testing.assert_array_equal(again.weights[name].ternary(), weights.ternary())
        np.testing.assert_allclose(again.weights[name].scale, weights.scale, rtol=1e-5)
    assert torch.equal(PackedSNN(again)(quickstart.inputs).argmax(1), quickstart.expected.argmax(1))


def test_training_begins_where_evaluation_is(
    quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norms hold the statistics of the data: by those of another batch, as training takes them, little changes."""
    graph = full_precision(nir_graph(quickstart.packed))

    def agreeing() -> float:
        network = restored(checkpoint_of(read_graph(graph, Stated(HERE)))[0], tmp_path)
        for layer in network.spiking.values():
            layer.dropout = 0.0
        with torch.no_grad():
            evaluated = network(quickstart.inputs).argmax(1)
            right = float((evaluated == quickstart.labels).float().mean())
            assert right > 0.5, "or predictions would say little"
            return float((evaluated == network.train()(quickstart.inputs).argmax(1)).float().mean())

    with_data = agreeing()
    monkeypatch.setattr(importing, "_dataset", lambda *given: None)
    assert with_data > max(0.8, agreeing() + 0.2)


RECIPE = """
name: further
seeds: [0]
data: {name: digits}
model: {layout: 16C3-AP2-32C3-AP2-64FC, timesteps: 4}
train: {epochs: 1, batch_size: 64, initial: net.pt}
runs:
  plain: {}
  ternary: {compression: {mode: ternary, start: 0}}
"""


def test_training_and_ternarize_take_it(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    nir_write(tmp_path / "net.nir", full_precision(nir_graph(quickstart.packed)))
    assert tna("import", tmp_path / "net.nir", "-o", tmp_path / "net.pt").code == 0
    shown = tna("inspect", tmp_path / "net.pt", "--json").json
    assert (shown["data_set"], shown["epochs"], shown["layout"]) == ("digits", 0, "16C3-AP2-32C3-AP2-64FC")
    (tmp_path / "further.yaml").write_text(RECIPE)
    before = tna("evaluate", tmp_path / "net.pt", "--json").json["accuracy"]
    done = tna("train", tmp_path / "further.yaml", "--out", tmp_path / "runs", "--json")
    assert done.code == 0, done.err
    results = {run["run"]: run for run in done.json["runs"]}
    assert results["plain"]["accuracy"]["base"] > before - 5
    assert results["plain"]["accuracy"]["base"] > 70
    words = ("--epochs", 2, "--threshold", "mean", "--no-twin", "--out", tmp_path / "runs", "--json")
    compressed = tna("ternarize", tmp_path / "net.pt", *words)
    assert compressed.code == 0, compressed.err
    (last,) = (tmp_path / "runs").glob("quickstart/t_snn-ternary*/last.pt")
    assert tna("export", last, "-o", tmp_path / "small.safetensors").code == 0


def chained(kind: str) -> tuple[Any, Callable[[Tensor], Tensor]]:
    """A full-precision network of digits in another library, and its exporter's graph."""
    torch.manual_seed(3)
    layers: list[nn.Module] = [
        nn.Conv2d(1, 6, 3, padding=1), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.Flatten(), nn.Linear(128, 20),
        nn.Linear(20, 10),
    ]  # fmt: skip
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data *= 4
    conv1, pool, conv2, flatten, fc1, readout = layers
    if kind == "spikingjelly":
        exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
        from spikingjelly.activation_based import functional, neuron

        net = nn.Sequential(conv1, neuron.LIFNode(decay_input=False), pool, conv2, neuron.LIFNode(decay_input=False),
                            flatten, fc1, neuron.LIFNode(decay_input=False), readout).eval()  # fmt: skip

        def forward(images: Tensor) -> Tensor:
            functional.reset_net(net)
            return torch.stack([net(images) for _ in range(T)]).sum(0)

        return exchange.export_to_nir(net, torch.zeros(1, 1, 8, 8)), forward
    snn = pytest.importorskip("snntorch")
    from snntorch import export_nir, utils

    shapes = iter([(6, 8, 8), (8, 4, 4), (20,)])

    def leaky() -> nn.Module:
        return snn.Leaky(beta=0.5 * torch.ones(shape := next(shapes)), threshold=torch.ones(shape), init_hidden=True,
                         reset_mechanism="zero")  # fmt: skip

    net = nn.Sequential(conv1, leaky(), pool, conv2, leaky(), flatten, fc1, leaky(), readout).eval()

    def steps(images: Tensor) -> Tensor:
        utils.reset(net)
        return torch.stack([net(images) for _ in range(T)]).sum(0)

    return export_nir.export_to_nir(net, torch.zeros(1, 1, 8, 8), ignore_dims=[0]), steps


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("library", ["spikingjelly", "snntorch"])
def test_networks_of_other_libraries_are_evaluated_ternarized_and_packed(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, library: str
) -> None:
    graph, forward = chained(library)
    file = tmp_path / "theirs.nir"
    nir_write(file, graph)
    words = ("import", file, "--made-by", library, "--timesteps", T, "--data", "digits")
    refused = tna(*words, "-o", tmp_path / "theirs.safetensors")
    assert refused.code == 8
    assert "in full precision" in refused.err
    assert "theirs.pt makes a checkpoint" in refused.err
    done = tna(*words, "-o", tmp_path / "theirs.pt", "--json")
    assert done.code == 0, done.err
    assert (done.json["kind"], done.json["weights"], done.json["agreeing"]) == ("checkpoint", 0, 64)
    network = restore_network(load_checkpoint(tmp_path / "theirs.pt"))
    with torch.no_grad():
        found, expected = network(quickstart.inputs), forward(quickstart.inputs)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert len(expected.argmax(1).unique()) > 3, "or predictions would say little"
    evaluated = tna("evaluate", tmp_path / "theirs.pt", "--json").json
    right = 100 * float((expected.argmax(1) == quickstart.labels).float().mean())
    assert evaluated["accuracy"] == pytest.approx(right)
    compressed = tna(
        "ternarize", tmp_path / "theirs.pt", "--epochs", 3, "--threshold", "mean", "--out", tmp_path / "runs", "--json"
    )
    assert compressed.code == 0, compressed.err
    (last,) = (tmp_path / "runs").glob("**/last.pt")
    assert tna("export", last, "-o", tmp_path / "small.safetensors").code == 0
    assert tna("evaluate", tmp_path / "small.safetensors", "--json").json["accuracy"] > right + 20


def test_without_a_name_the_weights_decide(tna: Tna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packed = make_packed(make_network("4C3-AP2-5C3-6FC", channels=1, size=(8, 8), classes=10))
    nir_write(tmp_path / "a.nir", nir_graph(packed))
    assert tna("import", "a.nir").code == 0
    graph = full_precision(nir_graph(packed))
    graph.metadata = {k: v for k, v in graph.metadata.items() if k == "tnacli_dt"}
    nir_write(tmp_path / "b.nir", graph)
    done = tna("import", "b.nir", "--timesteps", 3, "--data", "digits")
    assert done.code == 0, done.err
    assert "weights in full precision" in done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nir", "b.nir", "model.pt", "model.safetensors"]
    again = tna("import", "b.nir", "--timesteps", 3, "--data", "digits")
    assert (again.code, "--force" in again.err) == (2, True)
    assert tna("import", "b.nir", "--timesteps", 3, "-o", "c.pt").code == 2  # it does not say what data
    assert tna("import", "a.nir", "-o", "c.pt", "--encoding", "base3").code == 2


def test_data_that_is_not_there_is_said(tna: Tna, tmp_path: Path) -> None:
    packed = make_packed(make_network("4C3-5C3", channels=1, size=(28, 28), classes=10))
    graph = full_precision(nir_graph(packed))
    graph.metadata = {"tnacli_dt": graph.metadata["tnacli_dt"]}
    nir_write(tmp_path / "b.nir", graph)
    words = ("import", tmp_path / "b.nir", "--timesteps", 3, "--data", "fashion_mnist", "--data-root", tmp_path)
    done = tna(*words, "-o", tmp_path / "b.pt")
    assert done.code == 0
    assert "fashion_mnist is not there: batch norms have no statistics of it" in done.err


def test_what_no_checkpoint_says_is_refused() -> None:
    packed = make_packed(make_network(layout="3C3-AP2-4C3-5FC", size=(8, 8)))
    graph = full_precision(nir_graph(packed))
    graph.metadata["tnacli_origin"] = HERE.model_dump_json()
    found = read_graph(graph, Stated(HERE))
    with pytest.raises(UsageError, match="give --data with one of digits"):
        checkpoint_of(found)
    graph.metadata["tnacli_leak"] = 0.25
    graph.metadata["tnacli_origin"] = HERE.model_copy(update={"data_set": "folder"}).model_dump_json()
    with pytest.raises(NetworkError, match=r"readout leaks by 0\.25"):
        checkpoint_of(read_graph(graph, Stated(HERE)))


def changed(change: Callable[[Any], object]) -> Any:
    """A graph of ours in full precision, for one's own pictures, changed."""
    graph = full_precision(nir_graph(make_packed(make_network(layout="3C3-AP2-4C3-5FC", size=(8, 8)))))
    graph.metadata["tnacli_origin"] = HERE.model_copy(update={"data_set": "folder"}).model_dump_json()
    change(graph.nodes)
    return read_graph(graph, Stated(HERE))


def test_another_threshold_is_one_for_all_with_other_currents() -> None:
    def change(nodes: Any) -> None:
        nodes["conv2_neurons"].v_threshold = nodes["conv2_neurons"].v_threshold * 1.5

    checkpoint, compared, _ = checkpoint_of(changed(change))
    assert compared.agreeing >= 63
    assert checkpoint.settings.model.neuron.threshold == 1


def test_another_decay_is_refused() -> None:
    def change(nodes: Any) -> None:
        nodes["conv2_neurons"].tau = nodes["conv2_neurons"].tau * 2

    with pytest.raises(NetworkError, match=r"the decay of conv2 is 0\.75, that of the first neurons 0\.5"):
        checkpoint_of(changed(change))


def test_another_padding_is_refused() -> None:
    def change(nodes: Any) -> None:
        nodes["conv2"].padding = (0, 0)
        for name in ("tau", "r", "v_leak", "v_threshold", "v_reset"):  # of maps that are two smaller
            setattr(nodes["conv2_neurons"], name, getattr(nodes["conv2_neurons"], name)[:, :2, :2])
        nodes["fc1"].weight = nodes["fc1"].weight[:, :16]

    with pytest.raises(NetworkError, match="no layout has conv2 with groups, or with a padding"):
        checkpoint_of(changed(change))


def test_other_classes_than_the_datas_are_refused(tna: Tna, tmp_path: Path) -> None:
    graph = full_precision(nir_graph(make_packed(make_network("4C3-5FC", channels=1, size=(8, 8), classes=7))))
    graph.metadata = {"tnacli_dt": graph.metadata["tnacli_dt"]}
    nir_write(tmp_path / "net.nir", graph)
    done = tna("import", tmp_path / "net.nir", "--timesteps", 3, "--data", "digits", "-o", tmp_path / "net.pt")
    assert (done.code, "--data digits has 10 classes, and the network 7 outputs" in done.err) == (2, True)
    assert not (tmp_path / "net.pt").exists()


def test_normalisation_of_ones_own_is_refused(tna: Tna, quickstart: Quickstart, tmp_path: Path) -> None:
    graph, _ = chained("spikingjelly")
    nir_write(tmp_path / "net.nir", graph)
    words = ("import", tmp_path / "net.nir", "--made-by", "spikingjelly", "--timesteps", T, "--data", "digits")
    done = tna(*words, "--mean", "0.25", "--std", "0.5", "-o", tmp_path / "net.pt")
    assert (done.code, "such a network can be a packed file alone" in done.err) == (2, True)
    assert tna(*words, "--mean", "0", "--std", "1", "-o", tmp_path / "net.pt").code == 0
    settings = load_checkpoint(tmp_path / "net.pt").settings
    assert settings.data.normalise == "none"
