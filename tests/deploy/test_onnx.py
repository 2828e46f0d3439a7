"""The exported ONNX graph in ONNX Runtime: the packed engine's logits, hidden layers in integers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Tna
from tests.deploy.conftest import KINDS, Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy import formats
from tnacli.deploy.onnx import INPUT, OnnxNetwork, onnx_bytes, onnx_logits
from tnacli.errors import FileFormatError
from tnacli.packed.engine import PackedSNN

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.get("layout", "plain"))
def test_logits_are_the_engines(kind: dict[str, Any], events: bool) -> None:
    network = make_network(**kind)
    packed = make_packed(network, events=events)
    inputs = make_inputs(network, 12, events=events)
    expected = PackedSNN(packed)(inputs).numpy()
    assert np.unique(expected, axis=0).shape[0] > 6
    found = onnx_logits(onnx_bytes(packed), inputs.numpy(), at_once=5)
    # Spikes are the same: one that is not would change logits by a whole weight. The runtime may fuse the last steps.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_every_digit_is_predicted_as_by_the_packed_file(quickstart: Quickstart) -> None:
    found = onnx_logits(onnx_bytes(quickstart.packed), quickstart.inputs.numpy(), at_once=360)
    assert found.shape == (360, 10)
    assert np.array_equal(found.argmax(1), quickstart.expected.argmax(1).numpy())


def test_hidden_layers_are_integers_and_the_batch_is_free(quickstart: Quickstart) -> None:
    model = onnx.load_from_string(onnx_bytes(quickstart.packed))
    operators = Counter(node.op_type for node in model.graph.node)
    # One float convolution for the image, which is the same at every timestep; the rest T = 4 times.
    assert (operators["Conv"], operators["ConvInteger"], operators["MatMulInteger"], operators["MatMul"]) == (
        1,
        4,
        4,
        4,
    )
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    facts = {item.key: item.value for item in model.metadata_props}
    assert json.loads(facts["tnacli.labels"]) == list(quickstart.packed.about.labels)
    assert json.loads(facts["tnacli.input"])["mean"] == list(quickstart.packed.about.input.mean or ())
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    assert weights["conv2.weight"].dtype == np.int8
    assert set(np.unique(weights["conv2.weight"])) == {-1, 0, 1}


FORMS: list[dict[str, Any]] = [{"floats": True}, {"batch": 5}, {"floats": True, "batch": 1}]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.get("layout", "plain"))
def test_floats_and_fixed_batches_give_the_same_logits(
    kind: dict[str, Any], events: bool, form: dict[str, Any]
) -> None:
    network = make_network(**kind)
    packed = make_packed(network, events=events)
    inputs = make_inputs(network, 12, events=events).numpy()  # 12 is no multiple of 5
    expected = onnx_logits(onnx_bytes(packed), inputs)
    np.testing.assert_allclose(onnx_logits(onnx_bytes(packed, **form), inputs), expected, rtol=1e-5, atol=1e-5)


def test_a_graph_of_floats_has_no_operator_of_integers(quickstart: Quickstart) -> None:
    model = onnx.load_from_string(onnx_bytes(quickstart.packed, floats=True, batch=3))
    kinds = {onnx.TensorProto.DataType.Name(w.data_type) for w in model.graph.initializer}
    assert not [node.op_type for node in model.graph.node if "Integer" in node.op_type]
    assert kinds == {"FLOAT"}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 3


@pytest.mark.parametrize("batch", [None, 1], ids=["any", "one"])
def test_opencv_runs_the_graph_of_floats(quickstart: Quickstart, batch: int | None) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    net = cv2.dnn.readNetFromONNX(np.frombuffer(onnx_bytes(quickstart.packed, floats=True, batch=batch), np.uint8))
    found = []
    for some in quickstart.inputs.split(batch or 360):
        net.setInput(some.numpy())
        found.append(net.forward())
    assert np.array_equal(np.concatenate(found).argmax(1), quickstart.expected.argmax(1).numpy())
    np.testing.assert_allclose(np.concatenate(found), quickstart.expected.numpy(), rtol=1e-4, atol=1e-4)


def test_opencv_does_not_know_the_operators_of_integers(quickstart: Quickstart) -> None:
    """Why there is a graph of floats, as the documents say."""
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    with pytest.raises(cv2.error, match="ConvInteger"):
        cv2.dnn.readNetFromONNX(np.frombuffer(onnx_bytes(quickstart.packed), np.uint8))


def test_the_command_takes_them_for_onnx_alone(quickstart: Quickstart, tna: Tna, tmp_path: Path) -> None:
    to = tmp_path / "net.onnx"
    assert tna("export", quickstart.file, "-o", to, "--onnx-ops", "float", "--batch", "7").code == 0
    network = OnnxNetwork(to)
    assert network.batch == 7
    assert network(np.zeros((7, 1, 8, 8), np.float32)).shape == (7, 10)
    for wrong in (
        ["--onnx-ops", "bf16", "--format", "onnx"],
        ["--batch", "2", "--format", "c"],
        ["--onnx-ops", "float"],
    ):
        assert tna("export", quickstart.file, "-o", tmp_path / "other", *wrong).code == 2


def test_the_runtime_has_nothing_to_complain_about(quickstart: Quickstart, capfd: pytest.CaptureFixture[str]) -> None:
    session = onnxruntime.InferenceSession(onnx_bytes(quickstart.packed), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [INPUT]
    assert "W:onnxruntime" not in capfd.readouterr().err


def test_a_graph_that_cannot_run_is_not_written(
    quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "onnx_bytes", lambda packed, **how: b"no graph")
    with pytest.raises(FileFormatError, match=r"ONNX Runtime .* cannot run the exported network"):
        formats.deploy(quickstart.packed, "onnx", tmp_path / "net.onnx", quickstart.inputs)
    assert not list(tmp_path.iterdir())
