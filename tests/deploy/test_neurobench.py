"""examples/neurobench_ternary.py: what NeuroBench says of a packed network, and what it says of the same weights in fp32."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.data.batches import Batch
from tnacli.data.load import load
from tnacli.evaluation.activity import measure_activity
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import read_packed
from tnacli.recipe.schema.data import Data

EXAMPLE = Path(__file__).parents[2] / "examples" / "neurobench_ternary.py"

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # NeuroBench's own
    pytest.mark.skipif(not EXAMPLE.is_file(), reason="examples are in a checkout only"),
]


def test_a_packed_network_is_two_bits_a_weight_and_additions() -> None:
    pytest.importorskip("neurobench.benchmarks", reason="NeuroBench is not installed")
    network = make_network("4C3-AP2-8C3-12FC", channels=1, size=(4, 4), classes=3)
    packed, inputs = make_packed(network), make_inputs(network, 70)
    labels = torch.arange(70) % 3
    found = runpy.run_path(str(EXAMPLE))["bench"](packed, inputs, labels)
    # fp32: conv1's weights and the readout's with its bias, scale and shift of each channel. 2 bits, in whole bytes a row:
    # conv2 takes 8 rows of 4 * 9 weights, fc1 12 rows of 8 * 2 * 2.
    assert found["Footprint"] == 4 * (4 * 9 + 3 * 12 + 3 + 2 * (4 + 8 + 12)) + 8 * 9 + 12 * 8
    activity = measure_activity(network, [Batch(inputs, labels, 70)])
    operations = found["TernaryOperations"]
    assert operations["Effective_ACs"] == pytest.approx(activity.total("additions_nonzero"))
    # conv1's 4 maps of 4x4 meet 100 of 144 weights each but for the border: 4 * (4 * 4 + 8 * 6 + 4 * 9) MACs; readout in 3 steps.
    assert operations["Effective_MACs"] == 4 * (4 * 4 + 8 * 6 + 4 * 9) + 3 * 3 * 12
    assert operations["Effective_ACs"] > 0
    right = sum(int(a == b) for a, b in zip(network(inputs).argmax(1), labels, strict=True))
    assert found["ClassificationAccuracy"] == pytest.approx(right / 70)


def test_neurobench_alone_sees_four_bytes_a_weight() -> None:
    models = pytest.importorskip("neurobench.models", reason="NeuroBench is not installed")
    static = pytest.importorskip("neurobench.metrics.static", reason="NeuroBench is not installed")
    network = make_network("4C3-AP2-8C3-12FC", channels=1, size=(4, 4), classes=3)
    hidden = sum(layer.synapse.weight.numel() for layer in network.hidden.values())
    assert hidden == 8 * 36 + 12 * 32
    everything = [*network.parameters(), *network.buffers()]
    own = static.Footprint()(models.TorchModel(network))
    assert own == sum(values.numel() * values.element_size() for values in everything)
    assert own > 4 * hidden


def test_the_page_has_what_it_says_of_the_digits() -> None:
    pytest.importorskip("neurobench.benchmarks", reason="NeuroBench is not installed")
    root = EXAMPLE.parents[1]
    packed = read_packed(root / "benchmarks" / "boards" / "digits.safetensors")
    test = load(Data(name="digits"), 4, splits=("test",)).test
    inputs, labels = torch.from_numpy(PackedSNN(packed).normalise(test.inputs)), torch.from_numpy(test.labels)
    found = runpy.run_path(str(EXAMPLE))["bench"](packed, inputs, labels)
    counts = [found["Footprint"], *found["TernaryOperations"].values()]
    cells = [f"{count:,.0f}" for count in counts]
    row = f"| `TernaryModel`, NeuroBench's `Footprint`, `TernaryOperations` | {' | '.join(cells)} |"
    assert row in (root / "docs" / "deployment.md").read_text(encoding="utf-8")
