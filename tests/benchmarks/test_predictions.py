"""A trained network predicts the same whoever computes it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tnacli.experiment import Outcome

if not (Path(__file__).parents[2] / "benchmarks").is_dir():
    pytest.skip("only in a checkout", allow_module_level=True)

from benchmarks import peers, predictions
from benchmarks.layerwise import Layerwise


def test_checkpoint_packed_file_and_plain_pytorch_agree(
    trained: Outcome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predictions, "PEERS", {"plain": peers.PEERS["plain PyTorch loop"]})
    monkeypatch.setattr(sys, "argv", ["predictions", str(trained.checkpoint)])
    predictions.main()
    assert _same_predictions(capsys.readouterr().out) == ["60 of 60"] * 3

    # It can tell: with other weights the predictions differ.
    monkeypatch.setattr(Layerwise, "copy_from", lambda self, network: self)
    predictions.main()
    *ours, other = _same_predictions(capsys.readouterr().out)
    assert ours == ["60 of 60"] * 2
    assert other != "60 of 60"


def _same_predictions(table: str) -> list[str]:
    return [line.split("│")[2].strip() for line in table.splitlines() if line.startswith("│")]
