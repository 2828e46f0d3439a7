"""`tna import`: our own NIR files come back as they were; those of other libraries' exporters predict as the libraries do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tnacli
from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tests.deploy.conftest import KINDS
from tests.importing.test_from_module import T, X, chain
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy.nir import nir_graph, nir_read, nir_write
from tnacli.errors import FileFormatError, NetworkError, UsageError
from tnacli.importing.nir import Compared, Stated, packed_of, read_graph
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import read_packed
from tnacli.packed.network import PackedNetwork
from tnacli.packed.spec import Origin

nir = pytest.importorskip("nir", reason="needs the extra nir")

HERE = Origin(data_set="unknown", recipe="import", run="net", seed=0, identity="")


def written(graph: Any, folder: Path) -> Any:
    """`graph` as it comes back from a file."""
    nir_write(folder / "net.nir", graph)
    return nir_read(folder / "net.nir")


def packed_from(graph: Any, stated: Stated) -> tuple[PackedNetwork, Compared]:
    return packed_of(read_graph(graph, stated), "ternary2")


def imported(graph: Any, folder: Path, **stated: Any) -> PackedNetwork:
    packed, compared = packed_from(written(graph, folder), Stated(HERE, **stated))
    assert (compared.samples, compared.agreeing, compared.silent) == (64, 64, ())
    return packed


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize(
    "kind", [*KINDS, {"decay": 0.0}, {"layout": "4C3-R4-AP2-R6x2/2-11FC", "size": (12, 12), "decay": 0.3}], ids=str
)
def test_our_own_files_come_back_as_they_were(kind: dict[str, Any], events: bool, tmp_path: Path) -> None:
    network = make_network(**kind)
    packed = make_packed(network, events=events)
    again = imported(nir_graph(packed), tmp_path)
    assert again.about == packed.about
    for name, weights in list(packed.weights.items())[1:]:
        np.testing.assert_array_equal(again.weights[name].stored, weights.stored)
        np.testing.assert_allclose(again.weights[name].scale, weights.scale, rtol=2**-22)
    inputs = make_inputs(network, 12, events=events)
    torch.testing.assert_close(PackedSNN(again)(inputs), PackedSNN(packed)(inputs), rtol=1e-5, atol=1e-5)


def ternary(parts: list[nn.Module]) -> nn.Sequential:
    net = tnacli.ternarize(nn.Sequential(*parts)).eval()
    return tnacli.restore(net, keep_ternary=True)


Exported = tuple[Any, Callable[[Tensor], Tensor]]
"""A library's own graph of a network, and the network's logits."""


def snntorch() -> Exported:
    snn = pytest.importorskip("snntorch")
    from snntorch import export_nir, utils

    shapes = iter([(6, 8, 8), (8, 2, 2), (12,)])  # its exporter gives neurons without their own shape none

    def neurons() -> nn.Module:
        ones = torch.ones(next(shapes))
        return snn.Leaky(beta=0.75 * ones, threshold=0.5 * ones, init_hidden=True, reset_mechanism="zero")

    net = ternary(chain(neurons))

    def forward(images: Tensor) -> Tensor:
        utils.reset(net)
        return torch.stack([net(images) for _ in range(T)]).sum(0)

    graph = export_nir.export_to_nir(net, X[:1], ignore_dims=[0])
    return graph, forward


def spikingjelly(kind: str = "LIFNode", **settings: Any) -> Exported:
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    from spikingjelly.activation_based import functional, neuron

    net = ternary(chain(lambda: getattr(neuron, kind)(**settings)))

    def forward(images: Tensor) -> Tensor:
        functional.reset_net(net)
        return torch.stack([net(images) for _ in range(T)]).sum(0)

    return exchange.export_to_nir(net, X[:1]), forward


def sinabs(kind: str = "LIFSqueeze", **settings: Any) -> Exported:
    library = pytest.importorskip("sinabs")
    import sinabs.activation as sa
    import sinabs.layers as sl
    from sinabs.nir import to_nir

    wanted = {"spike_fn": sa.SingleSpike, "reset_fn": sa.MembraneReset(), "num_timesteps": T}
    shapes = iter([(6, 8, 8), (8, 2, 2), (12,)])

    def neurons() -> nn.Module:  # nir.write refuses numbers without an axis
        given = {name: torch.full(shape, value) for shape in [next(shapes)] for name, value in settings.items()}
        return getattr(sl, kind)(**wanted, **given)

    net = ternary(chain(neurons, pool=sl.SumPool2d(2)))

    def forward(images: Tensor) -> Tensor:
        library.reset_states(net)
        return net(images.repeat_interleave(T, 0)).unflatten(0, (-1, T)).sum(1)

    forward(X[:1])
    graph = to_nir(net, X[:1].repeat_interleave(T, 0))
    graph.infer_types()  # or nir.write refuses it
    return graph, forward


def norse() -> Exported:
    """Its exporter knows neither pooling nor flattening."""
    library = pytest.importorskip("norse").torch
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.module.leaky_integrator_box import LIBoxCell, LIBoxParameters
    from norse.torch.module.lif_box import LIFBoxCell
    from norse.torch.utils.export_nir import to_nir

    def numbers(size: int) -> dict[str, Tensor]:  # nir.write refuses those without an axis
        return {"tau_mem_inv": torch.full((size,), 300.0), "v_leak": torch.zeros(size)}

    torch.manual_seed(1)
    weights = ternary([nn.Linear(128, 16), nn.Linear(16, 12), nn.Linear(12, 5)])
    parts: list[nn.Module] = []
    for part, size in zip(weights, (16, 12, 5), strict=True):
        parts += [part, LIFBoxCell(LIFBoxParameters(**numbers(size), v_th=torch.full((size,), 0.1)))]
    net = library.SequentialState(*parts[:-1], LIBoxCell(LIBoxParameters(**numbers(5))))

    def forward(images: Tensor) -> Tensor:
        state, total = None, torch.zeros(len(images), 5)
        for _ in range(T):
            out, state = net(images.flatten(1), state)
            total = total + out
        return total

    return to_nir(net, X[:1].flatten(1)), forward


EXPORTERS: list[tuple[Callable[..., Exported], dict[str, Any], float]] = [
    (snntorch, {}, 0.75),
    (spikingjelly, {}, 0.5),
    (spikingjelly, {"decay_input": False, "tau": 4.0}, 0.75),
    (spikingjelly, {"kind": "IFNode"}, 1.0),
    (spikingjelly, {"kind": "ParametricLIFNode", "init_tau": 4.0, "v_threshold": 0.5}, 0.75),
    (sinabs, {"tau_mem": 3.0, "spike_threshold": 1.0}, 0.7165),
    (sinabs, {"kind": "IAFSqueeze"}, 1.0),
    (norse, {}, 0.7),
]


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize(("make", "settings", "decay"), EXPORTERS, ids=lambda part: getattr(part, "__name__", None))
def test_graphs_of_other_exporters_predict_as_their_networks(
    make: Callable[..., Exported], settings: dict[str, Any], decay: float, tmp_path: Path
) -> None:
    with torch.no_grad():
        graph, forward = make(**settings)
        expected = forward(X)
    taken = {"channels": 2, "size": (8, 8)}
    packed = imported(graph, tmp_path, made_by=make.__name__, timesteps=T, taken=taken)
    torch.testing.assert_close(PackedSNN(packed)(X), expected, rtol=1e-4, atol=1e-4)
    assert packed.about.neuron.decay == pytest.approx(decay, abs=1e-4)
    assert len(expected.unique(dim=0)) > 10, "or logits would say little"


def graph_with(**nodes: Any) -> Any:
    """Our own graph of a small network, some of its nodes replaced."""
    graph = nir_graph(make_packed(make_network(layout="3C3-AP2-4C3-5FC", size=(8, 8))))
    graph.nodes.update(nodes)
    return graph


def neurons(shape: tuple[int, ...], **values: float) -> dict[str, Any]:
    wanted = {"tau": 2e-4, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **values}
    return {name: np.full(shape, value) for name, value in wanted.items()}


def convolution(**how: Any) -> Any:
    wanted = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "bias": np.zeros(4), **how}
    return nir.Conv2d(input_shape=(4, 4), weight=wanted.pop("weight", np.ones((4, 3, 3, 3))), **wanted)


C2 = (4, 4, 4)
CANNOT: list[tuple[str, Callable[[], dict[str, Any]]]] = [
    (r"conv2_neurons \(CubaLIF\) has synaptic", lambda: {"conv2_neurons": nir.CubaLIF(
        tau_syn=np.ones(C2), tau_mem=np.ones(C2), r=np.ones(C2), v_leak=np.zeros(C2), v_threshold=np.ones(C2))}),
    (r"conv2_neurons \(LIF\) has a resting", lambda: {"conv2_neurons": nir.LIF(**neurons(C2, v_reset=0.5))}),
    (r"conv2_neurons \(LIF\) has a resting", lambda: {"conv2_neurons": nir.LIF(**neurons(C2, v_leak=0.5))}),
    (r"conv2_neurons \(LIF\) has a decay of -9", lambda: {"conv2_neurons": nir.LIF(**neurons(C2, tau=1e-5))}),
    (r"conv2_neurons \(LIF\) has its threshold differs", lambda: {"conv2_neurons": nir.LIF(
        **{**neurons(C2), "v_threshold": np.arange(1.0, 65.0).reshape(C2)})}),
    (r"conv2 \(Conv2d\) has padding \(3, 3\)", lambda: {"conv2": convolution(padding=3)}),
    (r"conv2 \(Conv2d\) has weights for 9 feature maps", lambda: {"conv2": convolution(groups=3)}),
    (r"weights of conv2 \(Conv2d\) are in full precision", lambda: {"conv2": convolution(
        weight=np.arange(108.0).reshape(4, 3, 3, 3))}),
    (r"conv1_pool \(SumPool2d\) has pooling of 3x3", lambda: {"conv1_pool": nir.SumPool2d(
        kernel_size=np.array([3, 3]), stride=np.array([2, 2]), padding=np.array([0, 0]))}),
    (r"conv2_neurons \(Threshold\) has a meaning", lambda: {"conv2_neurons": nir.Threshold(np.ones(C2))}),
]  # fmt: skip


@pytest.mark.parametrize(("message", "nodes"), CANNOT, ids=[message for message, _ in CANNOT])
def test_the_first_node_that_cannot_be_said_is_named(message: str, nodes: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(NetworkError, match=message):
        packed_from(graph_with(**nodes()), Stated(HERE))


def test_neurons_of_a_layer_may_have_constants_of_their_own() -> None:
    packed, compared = packed_from(graph_with(conv2_neurons=nir.LIF(**neurons(C2, tau=5e-4))), Stated(HERE))
    assert compared.agreeing >= 63
    first, second, *_ = packed.about.layers
    assert first.neuron is None
    assert second.neuron is not None
    assert second.neuron.decay == pytest.approx(0.8)


ODD_METADATA = (
    "[1]", "{", "null", "3", "[" * 100_000, '{"kind": "images"}', b"\xff", -1, 10**9, float("nan"), True, np.zeros(3),
)  # fmt: skip


@pytest.mark.parametrize("key", ["input", "origin", "labels", "timesteps", "dt", "leak"])
def test_metadata_that_no_export_wrote_are_refused_by_name(key: str) -> None:
    for value in ODD_METADATA:
        graph = graph_with()
        graph.metadata[f"tnacli_{key}"] = value
        if (key, value if isinstance(value, int) else 0) == ("dt", 10**9):
            continue  # seconds: far too long, and refused by the neurons that follow
        with pytest.raises((FileFormatError, UsageError)) as caught:
            packed_from(graph, Stated(HERE))
        said = str(caught.value)
        assert f"tnacli_{key}" in said or (key == "labels" and "labels for 5 outputs" in said)


@pytest.mark.parametrize(
    ("name", "key"), [("conv2", "tnacli_scale"), ("fc1", "tnacli_scale"), ("conv2", "tnacli_factor")]
)
@pytest.mark.parametrize("value", ["x", b"\xff", float("nan"), np.zeros((2, 3)), np.array([])], ids=repr)
def test_odd_metadata_of_a_node_are_refused_by_name(name: str, key: str, value: object) -> None:
    graph = graph_with()
    graph.nodes[name].metadata[key] = value
    with pytest.raises(NetworkError, match=rf"{name} \(\w+\) has metadata {key}, which is to be"):
        packed_from(graph, Stated(HERE))


@pytest.mark.parametrize(("name", "field", "values"), [
    ("conv2", "weight", [np.zeros(3), np.ones((4, 3)), np.full((4, 3, 3, 3), np.nan), np.array(["a"], object)]),
    ("conv2", "bias", [np.zeros(3), 0.0, np.full(4, np.inf)]),
    ("conv2", "stride", [0, -1, 1.5, np.zeros((1, 2), int), np.ones(3, int)]),
    ("conv2", "padding", [-1, np.nan, np.zeros((1, 1, 1, 1))]),
    ("conv2", "groups", [0, np.array([1, 1])]),
    ("conv1_pool", "kernel_size", [0, 1.5, np.ones(3)]),
    ("conv2_neurons", "tau", [0.0, -1.0, np.ones(3), np.full((4, 4, 4), np.nan)]),
    ("conv2_neurons", "v_threshold", [0.0, np.ones((2, 4, 4, 4))]),
    ("conv2_neurons", "v_reset", [np.zeros(3), np.nan]),
    ("fc1", "weight", [np.ones((4, 3, 3, 3)), np.ones((0, 16))]),
])  # fmt: skip
def test_fields_that_nir_has_otherwise_are_refused_by_name(name: str, field: str, values: list[object]) -> None:
    for value in values:
        graph = graph_with()
        setattr(graph.nodes[name], field, value)
        with pytest.raises(NetworkError, match=rf"{name} \(\w+\) has {field} "):
            packed_from(graph, Stated(HERE))


def test_recurrent_weights_are_refused() -> None:
    graph = graph_with()
    graph.edges.append(("conv2_neurons", "conv2"))
    with pytest.raises(NetworkError, match="has a cycle"):
        packed_from(graph, Stated(HERE))


def test_what_it_has_to_be_told() -> None:
    graph = graph_with()
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"labels": ("a",)}, "1 labels for 5 outputs"),
        ({"taken": {"channels": 7}}, "mean and std|the graph takes"),
        ({"taken": {"size": (9, 9)}}, "the graph takes"),
        ({"made_by": "keras"}, "--made-by is one of spikingjelly"),
    )
    for stated, message in wrong:
        with pytest.raises(UsageError, match=message):
            packed_from(graph, Stated(HERE, **stated))
    graph.metadata = {}
    with pytest.raises(UsageError, match="--timesteps"):
        packed_from(graph, Stated(HERE))


def test_a_potential_at_the_threshold_spikes_where_the_library_says_so() -> None:
    """NIR's definition asks for more than the threshold, our files and SpikingJelly for as much."""
    graph = graph_with()
    ours, _ = packed_from(graph, Stated(HERE))
    theirs, _ = packed_from(graph, Stated(HERE, made_by="snntorch"))
    assert ours.about.neuron.threshold == np.float32(ours.about.neuron.threshold)
    assert theirs.about.neuron.threshold == np.nextafter(np.float32(ours.about.neuron.threshold), np.float32(2))


def test_the_command(tna: Tna, tmp_path: Path) -> None:
    packed = make_packed(make_network())
    nir_write(tmp_path / "net.nir", nir_graph(packed))
    out = tmp_path / "net.safetensors"
    said = tna("import", tmp_path / "net.nir", "-o", out, "--json").json
    assert (said["samples"], said["agreeing"], said["silent"]) == (64, 64, [])
    assert read_packed(out).about == packed.about
    again = tna("import", tmp_path / "net.nir", "-o", out)
    assert (again.code, "--force" in again.err) == (2, True)
    shown = tna("import", tmp_path / "net.nir", "-o", out, "--force", "--encoding", "base3")
    assert "64 of 64 random inputs predicted as by the file's nodes" in shown.out
    assert read_packed(out).about.layers[1].encoding == "ternary5"
    for words in (["--mean", "0.5"], ["--data", "nothing"], ["--mean", "a", "--std", "b"]):
        assert tna("import", tmp_path / "net.nir", "-o", tmp_path / "other", *words).code == 2
    assert tna("import", tmp_path / "nothing.nir", "-o", tmp_path / "other").code == 8
    graph = nir_graph(packed)
    graph.metadata["tnacli_input"] = "[1]"
    nir_write(tmp_path / "list.nir", graph)
    listed = tna("import", tmp_path / "list.nir", "-o", tmp_path / "other")
    assert (listed.code, "list.nir: the graph's metadata: tnacli_input" in listed.err) == (8, True)
    assert not (tmp_path / "other").exists()
