"""`tna inspect` says what is particular of each layer's neurons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tests.packed.described import NETWORKS, described
from tnacli.packed.file import write_packed


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "several spikes",
            {
                "conv1": "decay 1, threshold 0.5, a spike subtracts 0.5, up to 31 spikes a timestep, not below -0.75",
                "conv2": "decay 0.75, threshold 0.4, a spike subtracts 0.6, up to 3 spikes a timestep, not below 0",
                "conv3": "decay 1, not below -0.5",
                "fc4": "a spike subtracts 1, up to 127 spikes a timestep",
            },
        ),
        ("constants of their own", {"conv1": "", "conv2": "decay 0.8, threshold 0.75", "fc3": "decay 1, threshold 2"}),
        ("maxima of spikes", {"conv1": "", "conv2": "", "fc3": ""}),
    ],
)
def test_constants_of_a_layers_own(
    tna: Tna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: dict[str, str]
) -> None:
    """Each layer's in the document, and in the table where they are not the file's, or a spike does not reset to zero."""
    file = tmp_path / "one.safetensors"
    write_packed(file, described(NETWORKS[name]))
    assert list(tna("inspect", file, "--json").json["neurons"]) == list(said)
    monkeypatch.setenv("COLUMNS", "240")
    lines = tna("inspect", file).out.splitlines()
    for layer, text in said.items():
        (line,) = (line for line in lines if line.startswith(f"{layer} "))
        assert line.rstrip().endswith(f"B  {text}".rstrip())
    assert any("neurons" in line for line in lines) == any(said.values())
