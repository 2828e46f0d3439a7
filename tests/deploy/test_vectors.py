"""`tna export --format c --vectors N`: samples and what the network makes of them, which its C reproduces."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.conftest import Tna
from tests.deploy.conftest import Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy import c_build, vectors
from tnacli.deploy.c import c_source
from tnacli.errors import FileFormatError
from tnacli.packed.engine import PackedSNN

COMPILER = c_build.compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
CC = COMPILER or ""


def mismatches(folder: Path) -> int:
    files = [folder / "net.c", folder / "net_vectors.c"]
    subprocess.run([CC, *c_build.STRICT, "-O1", "-o", folder / "bench", *files], check=True)
    return subprocess.run([folder / "bench"], check=False).returncode


def read_memory(file: Path) -> dict[int, int]:
    """Words by address, as $readmemh reads a file: comments, @addresses and hexadecimal words between white space."""
    words: dict[int, int] = {}
    address = 0
    for token in re.sub(r"//.*", "", file.read_text()).split():
        if token.startswith("@"):
            address = int(token[1:], 16)
        else:
            assert address not in words
            words[address] = int(token, 16)
            address += 1
    return words


@pytest.mark.parametrize("integer", [False, True], ids=["floats", "whole numbers"])
def test_the_command_writes_what_the_network_computes(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, integer: bool
) -> None:
    export = ("export", quickstart.checkpoint, "--format", "c", "-o", tmp_path / "net", "--vectors", 5, "--json")
    options = ("--integer", "--max-different", 20) if integer else ()
    done = tna(*export, *options)
    assert done.code == 0, done.err
    memories = [f"net_vectors_{kind}.mem" for kind in ("inputs", "spikes", "logits", "classes")]
    names = ["net.h", "net.c", "net_vectors.c", "net_vectors.npz", *memories, "net_vectors.json"]
    assert [Path(path).name for path in done.json["paths"]] == names
    assert tna(*export, *options).code == 2  # they are there
    with np.load(tmp_path / "net_vectors.npz") as arrays:
        found = dict(arrays)
    assert np.array_equal(found["inputs"], quickstart.pixels[:5].numpy())
    assert found["spikes_conv1"].shape == (5, 4, 16, 8, 8)
    assert found["spikes_fc1"].shape == (5, 4, 64)
    assert np.array_equal(found["classes"], found["logits"].argmax(1))
    manifest = json.loads((tmp_path / "net_vectors.json").read_text())
    assert manifest["origin"]["data_set"] == "digits"
    assert manifest["arrays"]["spikes_conv1"] == {"shape": [5, 4, 16, 8, 8], "dtype": "uint8"}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert list(manifest["memories"]) == memories
    for name, content in manifest["memories"].items():
        words = read_memory(tmp_path / name)
        assert sorted(words) == list(range(content["words"]))  # no hole, and nothing twice
        assert max(words.values()) < 2 ** content["bits"]
        for array, place in content["arrays"].items():
            values = found[array]
            start, shape = place["first_word"], place["shape"]
            bits = np.array([words[start + n] for n in range(values.size)], f"u{values.dtype.itemsize}")
            assert np.array_equal(bits.view(values.dtype).reshape(shape), values)
    assert {a for content in manifest["memories"].values() for a in content["arrays"]} == set(found)
    unit = 1 if manifest["unit"] is None else manifest["unit"]
    if not integer:
        np.testing.assert_allclose(found["logits"], quickstart.expected[:5].numpy(), atol=1e-5)
    # From the spikes of the last layer alone follow the logits.
    weight, bias = quickstart.packed.readout_weight, quickstart.packed.readout_bias
    currents = found["spikes_fc1"] @ weight.T + bias
    potential = logits = 0
    for t in range(4):
        potential = quickstart.packed.about.readout.leak * potential + currents[:, t]
        logits = logits + potential
    np.testing.assert_allclose(found["logits"] * unit, logits, atol=0.6 if integer else 1e-4)

    text = (tmp_path / "net_vectors.c").read_text()
    origin = quickstart.packed.about.origin
    for where in (text, (tmp_path / "net.h").read_text()):
        assert f"data digits, recipe {origin.recipe}, run {origin.run}, seed 0, identity {origin.identity}" in where
    (bits,) = re.findall(r"net_spikes_conv1\[\d+\] = \{([^}]*)\}", text)
    packed = np.array([int(number) for number in bits.split(",")], np.uint8).reshape(5, -1)
    spikes = np.unpackbits(packed, axis=1, bitorder="little").reshape(found["spikes_conv1"].shape)
    assert np.array_equal(spikes, found["spikes_conv1"])
    assert 0 < spikes.mean() < 1

    assert mismatches(tmp_path) == 0
    wrong = re.sub(r"(net_classes\[\d+\] = \{\n)(\d)", lambda m: f"{m[1]}{(int(m[2]) + 1) % 10}", text)
    first = re.search(r"net_logits\[\d+\] = \{\n(?:[^,]+, ){10}", wrong)
    assert first is not None
    (tmp_path / "net_vectors.c").write_text(wrong[: first.end()] + "7" + wrong[first.end() :].lstrip("-"))
    assert mismatches(tmp_path) == 2  # the class of one sample, a logit of another


def test_spikes_of_events_and_shortcuts_are_the_engines() -> None:
    network = make_network("5C3-R5-AP2-R7x2/2-11FC", size=(16, 13))
    packed = make_packed(network, events=True)
    inputs = make_inputs(network, 3, events=True)
    found = vectors.vectors(packed, inputs.numpy().astype(np.uint8), integer=False)
    seen: dict[str, torch.Tensor] = {}
    PackedSNN(packed)(inputs, observe=lambda name, fired: seen.update({name: fired.clone()}))
    assert set(found.spikes) == set(seen)
    for name, fired in seen.items():
        assert np.array_equal(found.spikes[name], fired.transpose(0, 1).numpy())
    files = vectors.vector_files(packed, found.inputs, "net", integer=True)
    assert set(files) == set(vectors.VECTOR_ENDINGS)


def test_vectors_that_the_compiled_network_contradicts_are_not_given_out(
    quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = vectors.whole_run
    monkeypatch.setattr(vectors, "whole_run", lambda network, inputs: right(network, 255 - inputs))
    with pytest.raises(FileFormatError, match="3 of 3 vectors are not what the compiled network computes"):
        vectors.vector_files(quickstart.packed, quickstart.pixels[:3].numpy(), "net", integer=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "onnx", "--vectors", "3"], "--vectors applies to --format c"),
        (["--format", "c", "--samples", "0", "--vectors", "3"], "--vectors applies to --format c"),
        (["--format", "c", "--samples", "2", "--vectors", "3"], "needs --format c and as many samples"),
    ],
)
def test_vectors_of_nothing_are_refused(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = tna("export", quickstart.checkpoint, *arguments, "-o", tmp_path / "net")
    assert done.code == 2
    assert said in done.err
    assert not list(tmp_path.iterdir())


def test_an_origin_cannot_end_its_comment() -> None:
    packed = make_packed(make_network())
    origin = packed.about.origin.model_copy(update={"data_set": "x */ int y; /* é"})
    about = packed.about.model_copy(update={"origin": origin})
    header = c_source(type(packed)(about, packed.arrays)).header
    comment = header[: header.index("#ifndef")]
    assert (comment.count("/*"), comment.count("*/")) == (1, 1)
    assert "int y" in comment
