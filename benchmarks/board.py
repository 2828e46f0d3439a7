"""`python -m benchmarks.board`: the exported C on emulated microcontrollers, in instructions a sample and bytes of memory.

It cross-compiles what `tna export --format c` writes, runs it in qemu-system-arm, which counts instructions (not cycles: an
emulator has neither caches nor wait states), and compares the predictions with the packed engine's. --record NAME keeps the
results as rows of docs/boards.json and writes the tables of docs/boards.md from them.

Needs arm-none-eabi-gcc with newlib, and qemu-system-arm (Debian: gcc-arm-none-eabi, libnewlib-arm-none-eabi, qemu-system-arm).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.document import with_table
from tnacli.build import build_network
from tnacli.data.load import load
from tnacli.deploy import c_build
from tnacli.deploy.c import CSource, c_source
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import read_packed
from tnacli.packed.network import PackedNetwork
from tnacli.packed.pack import pack_network
from tnacli.packed.spec import InputSpec, Origin
from tnacli.quant.weights import compress
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.snn.network import SpikingNetwork

GCC, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"
DOCS = Path(__file__).parents[1] / "docs"
_FILES = Path(__file__).with_name("boards")
_TICK = 40  # instructions of the boards' timer, see count.c
_PATIENCE_SECONDS = 1800


@dataclass(frozen=True)
class Board:
    """A processor and what compiles for it; `machine` is the emulator's board (M0+ code runs on that of the M3)."""

    name: str
    flags: tuple[str, ...]
    machine: str


BOARDS = {
    board.name: board
    for board in (
        Board("M0+ -Os", ("-mcpu=cortex-m0plus", "-Os"), "mps2-an385"),
        Board("M3 -Os", ("-mcpu=cortex-m3", "-Os"), "mps2-an385"),
        Board("M4F -O2", ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-O2"), "mps2-an386"),
    )
}


@dataclass(frozen=True)
class Outcome:
    """One network on one board: `instructions` a sample, `flash_bytes` of a program that holds nothing else, `ram_bytes`."""

    network: str
    board: str
    instructions: int
    flash_bytes: int
    ram_bytes: int
    samples: int
    agreeing: int


def missing() -> str | None:
    """Why nothing can be measured on this machine; None if it can."""
    absent = [tool for tool in (GCC, QEMU) if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def compiler_version() -> str:
    """The cross compiler's version, which the counts depend on."""
    return _call([GCC, "-dumpfullversion"]).strip()


def emulate(source: CSource, board: Board, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], int, int]:
    """Logits [N, classes] of `pixels` [N, C, H, W], instructions a sample, and bytes of flash of the whole image.

    `source` has the prefix "net". Logits are float32, or int32 of a network of whole numbers.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        c_build.write(source, folder)
        numbers = ",".join(map(str, pixels.flat))
        samples = f"enum {{ SAMPLES = {len(pixels)} }};\nstatic const uint8_t samples[] = {{{numbers}}};\n"
        (folder / "samples.h").write_text(samples, encoding="ascii")
        program = _linked(folder, "program", board, "--specs=rdimon.specs")
        emulator = [QEMU, "-M", board.machine, "-nographic", "-semihosting", "-icount", "shift=0"]
        printed = _call([*emulator, "-kernel", str(program)]).split()
        logits = np.array([int(word, 16) for word in printed[:-1]], np.uint32)
        image = _linked(folder, "image", board, "-DIMAGE", "--specs=nosys.specs")
        text, data = map(int, _call([f"{GCC[:-3]}size", str(image)]).splitlines()[1].split()[:2])
        kind = np.float32 if source.unit is None else np.int32
        return logits.view(kind).reshape(len(pixels), -1), int(printed[-1]) * _TICK // len(pixels), text + data


def _linked(folder: Path, name: str, board: Board, *flags: str) -> Path:
    """The network with count.c; -DIMAGE leaves the counting and printing out, and with it all that they need."""
    files = [str(folder / "net.c"), *(str(_FILES / file) for file in ("count.c", "start.c"))]
    to = folder / name
    common = ["-std=c99", "-mthumb", f"-I{folder}", "-ffunction-sections", "-fdata-sections"]
    linking = ["-nostartfiles", "-T", str(_FILES / "link.ld"), "-Wl,--gc-sections"]
    _call([GCC, *common, *board.flags, *flags, *files, *linking, "-o", str(to)])
    return to


def _call(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr or done.stdout}")
    return done.stdout


def digits() -> tuple[PackedNetwork, NDArray[np.uint8]]:
    """The quickstart's ternary network (`tna train quickstart --run tna_t_snn`, seed 0) and its 360 test digits."""
    test = load(Data(name="digits"), 4, splits=("test",)).test
    return read_packed(_FILES / "digits.safetensors"), test.inputs


def cifarnet() -> tuple[PackedNetwork, NDArray[np.uint8]]:
    """CIFARNet at an eighth of its width, T = 4, on two 32x32 images, all at random: a quarter of the weights are not 0."""
    generator = torch.Generator().manual_seed(0)
    settings = Model(layout="cifarnet", width=1 / 8, timesteps=4)
    network = build_network(settings, channels=3, size=(32, 32), classes=10, seed=0)
    assert isinstance(network, SpikingNetwork)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for layer in network.hidden.values():
            layer.synapse.weight.copy_(0.087 * torch.randn(layer.synapse.weight.shape, generator=generator))
        compress(network, Ternary())
        for layer in network.weighted.values():
            assert layer.norm is not None
            layer.norm.momentum = None  # statistics of all that is seen
        torch.manual_seed(0)
        network.train()(torch.randn((16, 3, 32, 32), generator=generator))
    facts = InputSpec(kind="images", channels=3, size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    origin = Origin(data_set="none", recipe="none", run="none", seed=0, identity="none")
    packed = pack_network(network.eval(), inputs=facts, labels=[str(n) for n in range(10)], origin=origin)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return packed, pixels.numpy()


NETWORKS: dict[str, Callable[[], tuple[PackedNetwork, NDArray[np.uint8]]]] = {
    "quickstart": digits,
    "CIFARNet / 8": cifarnet,
}


def measure(network: str, board: str, *, integer: bool = False) -> Outcome:
    """`network` of NETWORKS on `board` of BOARDS, all samples; with `integer` in whole numbers."""
    packed, pixels = NETWORKS[network]()
    engine = PackedSNN(packed)
    expected = engine(engine.normalise(torch.from_numpy(pixels))).argmax(1).numpy()
    source = c_source(packed, "net", integer=integer)
    logits, instructions, flash_bytes = emulate(source, BOARDS[board], pixels)
    agreeing = int((logits.argmax(1) == expected).sum())
    return Outcome(network, board, instructions, flash_bytes, source.ram_bytes, len(pixels), agreeing)


def recorded() -> dict[str, dict[str, Any]]:
    """docs/boards.json: by the name of what was measured, the compiler's version, the outcomes, and whether in whole numbers."""
    file = DOCS / "boards.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def tables(records: dict[str, dict[str, Any]]) -> str:
    """A table for each network: thousands of instructions a sample on each board, flash of the M0+ image, RAM."""
    parts = []
    for network in NETWORKS:
        lines = [
            f"| {network}: thousand instructions a sample | {' | '.join(BOARDS)} | whole M0+ image | RAM |",
            "|---" * (len(BOARDS) + 3) + "|",
        ]
        for name, record in records.items():
            outcomes = {o["board"]: o for o in record["outcomes"] if o["network"] == network}
            if outcomes:
                counts = [f"{outcomes[b]['instructions'] / 1000:,.0f}" if b in outcomes else "" for b in BOARDS]
                first = outcomes.get("M0+ -Os")
                flash = f"{first['flash_bytes']:,} bytes" if first else ""
                ram = f"{next(iter(outcomes.values()))['ram_bytes']:,} bytes"
                lines.append(f"| {' | '.join([name, *counts, flash, ram])} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def page(text: str, records: dict[str, dict[str, Any]]) -> str:
    """The page's `text` with the tables of `records` between its two marks."""
    return with_table(text, "tables", tables(records).rstrip("\n"))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.board", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--board", nargs="+", choices=BOARDS, default=list(BOARDS))
    parser.add_argument("--integer", action="store_true", help="what --format c --integer writes")
    parser.add_argument("--record", metavar="NAME", help="keep the results under this name in docs/boards.json")
    arguments = parser.parse_args()
    reason = missing()
    if reason is not None:
        parser.exit(2, f"{reason} (Debian: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm)\n")
    outcomes = []
    for network in arguments.network:
        for board in arguments.board:
            outcomes.append(measure(network, board, integer=arguments.integer))
            print(outcomes[-1], flush=True)
    if arguments.record:
        records = recorded()
        kept = [asdict(outcome) for outcome in outcomes]
        records[arguments.record] = {"compiler": compiler_version(), "integer": arguments.integer, "outcomes": kept}
        (DOCS / "boards.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
        about = DOCS / "boards.md"
        about.write_text(page(about.read_text(encoding="utf-8"), records), encoding="utf-8")


if __name__ == "__main__":
    main()
