"""The exported C on emulated processors: the host's logits to the bit, and as many instructions as the page says."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("only in a checkout", allow_module_level=True)

from benchmarks import board  # noqa: E402
from benchmarks.board import BOARDS, Outcome  # noqa: E402
from tnacli.deploy import c_build  # noqa: E402
from tnacli.deploy.c import c_source  # noqa: E402

SAME_COMPILER, OTHER_COMPILER = 0.02, 0.2
"""How far a count may be from the recorded one, as a share of it."""

FOREIGN = {"powerpc-linux-gnu-gcc": "qemu-ppc"}  # 32 bits, the highest byte first
HOST = c_build.compiler()


def newest(*, integer: bool = False) -> dict[str, Any]:
    """What was recorded last of the C with floats, or of that without."""
    return [record for record in board.recorded().values() if record["integer"] == integer][-1]


def test_the_page_has_the_tables_of_what_was_recorded() -> None:
    text = (board.DOCS / "boards.md").read_text(encoding="utf-8")
    assert text == board.page(text, board.recorded()), "run `python -m benchmarks.board --record NAME`"
    for integer in (False, True):
        assert len(newest(integer=integer)["outcomes"]) == len(BOARDS) * len(board.NETWORKS)


def test_every_recorded_prediction_is_the_engines() -> None:
    for record in board.recorded().values():
        for outcome in (Outcome(**outcome) for outcome in record["outcomes"]):
            if not record["integer"]:
                assert outcome.agreeing == outcome.samples
            elif outcome.network == "quickstart":
                assert outcome.agreeing >= 0.98 * outcome.samples


def test_a_digit_takes_fewer_instructions_than_with_a_plain_int8_network() -> None:
    for integer in (False, True):
        (digits,) = [
            o for o in newest(integer=integer)["outcomes"] if (o["network"], o["board"]) == ("quickstart", "M4F -O2")
        ]
        assert digits["instructions"] < 743_000  # a CNN of the same layers in int8, by the same count


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "QEMU", "no-such-emulator")
    reason = board.missing()
    assert reason is not None
    assert "no-such-emulator" in reason


@pytest.mark.slow
@pytest.mark.skipif(board.missing() is not None or HOST is None, reason=f"{board.missing() or 'no host compiler'}")
@pytest.mark.parametrize("integer", [False, True], ids=["floats", "whole numbers"])
@pytest.mark.parametrize("name", BOARDS)
def test_cortex_m_computes_the_same_in_as_many_instructions_as_the_page_says(name: str, integer: bool) -> None:
    packed, pixels = board.digits()
    source = c_source(packed, "net", integer=integer)
    logits, instructions, _ = board.emulate(source, BOARDS[name], pixels)
    given = logits if source.unit is None else (logits * source.unit).astype(np.float32)
    np.testing.assert_array_equal(given, on_host(pixels, integer=integer))
    newest_of_kind = newest(integer=integer)
    (said,) = [o for o in newest_of_kind["outcomes"] if o["network"] == "quickstart" and o["board"] == name]
    bound = SAME_COMPILER if board.compiler_version() == newest_of_kind["compiler"] else OTHER_COMPILER
    assert instructions == pytest.approx(said["instructions"], rel=bound)
    assert source.ram_bytes == said["ram_bytes"]


@pytest.mark.slow
@pytest.mark.skipif(HOST is None, reason="no host compiler")
@pytest.mark.parametrize("compiler", FOREIGN)
@pytest.mark.parametrize("integer", [False, True], ids=["floats", "whole numbers"])
def test_big_endian_machines_compute_the_same(compiler: str, integer: bool, tmp_path: Path) -> None:
    emulator = FOREIGN[compiler]
    if shutil.which(compiler) is None or shutil.which(emulator) is None:
        pytest.skip(f"needs {compiler} and {emulator} (Debian: gcc-powerpc-linux-gnu, qemu-user)")
    packed, pixels = board.digits()
    source = c_source(packed, "net", integer=integer)
    program = c_build.build(source, tmp_path, "-O2", "-static", program=compiler)
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    subprocess.run([emulator, program, tmp_path / "pixels", tmp_path / "logits", "bytes"], check=True)
    logits = np.frombuffer((tmp_path / "logits").read_bytes(), ">f4" if source.unit is None else ">i4").reshape(-1, 10)
    given = logits if source.unit is None else (logits * source.unit).astype(np.float32)
    np.testing.assert_array_equal(given, on_host(pixels, integer=integer))


def on_host(pixels: np.ndarray[Any, np.dtype[np.uint8]], *, integer: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
    source = c_source(board.digits()[0], "net", integer=integer)
    with tempfile.TemporaryDirectory() as folder:
        program = c_build.build(source, Path(folder), "-O2", program=str(HOST))
        return c_build.run(program, pixels, 10, unit=source.unit)
