"""The reader printed in docs/packed-format.md, which knows nothing of tnacli, reads what tnacli writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.packed.document import Document, body_of, parse
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import write_packed
from tnacli.packed.spec import (
    ConvolutionSpec,
    InputSpec,
    LayerSpec,
    MaxPoolSpec,
    NeuronSpec,
    Origin,
    ReadoutSpec,
    ShortcutSpec,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "packed-format.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source() -> str:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0])


@pytest.fixture(scope="module")
def reader(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(compile(source, "docs/packed-format.md", "exec"), names)
    return SimpleNamespace(**names)


def test_the_document_shown_is_a_document() -> None:
    (shown,) = (block for block in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL) if '"timesteps"' in block)
    keys = json.loads(shown)
    assert list(keys)[-1] == "sha256"
    del keys["sha256"]
    about = parse(json.dumps(keys, separators=(",", ":"))[:-1])
    assert json.loads(body_of(about) + "}") == keys  # every key, nested as it is, and no other


def test_the_reader_needs_numpy_alone(source: str) -> None:
    assert re.findall(r"^(?:import|from) (.*)", source, re.MULTILINE) == [
        "hashlib, json, struct",
        "numpy as np",
    ]


@pytest.mark.parametrize("encoding", ["ternary2", "ternary5"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layout": "5C3-7C5-AP4-3C1-11FC", "size": (16, 13), "mode": "binary", "decay": 0.3},
        {"layout": "9FC-8FC-7FC", "readout": "sum", "timesteps": 5},
        {"layout": "3C3-AP8-4C3-AP2-6C3", "size": (34, 35), "norm": "none"},
        {"layout": "5C3-R5-AP2-R7x2/2-11FC", "size": (16, 13)},
        {"layout": "4C3/2-R6x2-6C5/2", "size": (13, 10), "mode": "binary"},
    ],
)
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_the_reader_gives_the_same_logits(
    reader: Any, tmp_path: Path, settings: dict[str, Any], encoding: str, events: bool
) -> None:
    network = make_network(**settings)
    path = tmp_path / "net.tna"
    write_packed(path, make_packed(network, encoding, events=events))
    inputs = (
        make_inputs(network, 12, events=events) * 0.7
    )  # of many bits: the first layer's and the readout's sums are rounded
    with torch.no_grad():
        expected = network(inputs).numpy()
    found = reader.run(*reader.load(path), inputs.numpy())
    assert np.unique(expected, axis=0).shape[0] > 6
    np.testing.assert_array_equal(found, expected, strict=True)


def test_the_reader_normalises_alike(reader: Any, packed_file: Path, packed: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 2, 9, 8), dtype=np.uint8)
    document, tensors = reader.load(packed_file)
    x = reader.normalised(document, pixels)
    snn = PackedSNN(packed)
    expected = snn.normalise(torch.from_numpy(pixels))
    np.testing.assert_array_equal(x, expected.numpy(), strict=True)
    np.testing.assert_array_equal(reader.run(document, tensors, x), snn(x), strict=True)


def test_the_reader_notices_an_altered_file(reader: Any, packed_file: Path) -> None:
    data = bytearray(packed_file.read_bytes())
    data[-1] ^= 1
    packed_file.write_bytes(data)
    with pytest.raises(AssertionError, match="altered or damaged"):
        reader.load(packed_file)


def test_every_key_is_documented() -> None:
    prefixed: dict[str, type[BaseModel]] = {
        "": Document,
        "input.": InputSpec,
        "neuron.": NeuronSpec,
        "readout.": ReadoutSpec,
    }
    documented = set(re.findall(r"`([a-z_.0-9]+)`", DOCUMENT))
    nested = {"input", "neuron", "readout"}
    for prefix, model in prefixed.items():
        missing = {prefix + key for key in model.model_fields if key not in nested} - documented
        assert not missing
    whole: list[type[BaseModel]] = [LayerSpec, ShortcutSpec, ConvolutionSpec, MaxPoolSpec, Origin]
    assert {*(key for model in whole for key in model.model_fields), "sha256"} <= documented


def test_inspecting_and_reading_need_no_torch(packed_file: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tnacli.packed.file import read_packed; "
        "from tnacli.packed.network import layer_sizes; "
        "print(len(layer_sizes(read_packed(Path(sys.argv[1])))), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, packed_file], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["5", "False"]
