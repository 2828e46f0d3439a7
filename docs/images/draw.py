"""Draws docs/images/quickstart.svg: what a terminal shows after `tna train quickstart`. Needs pyte and rich."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 112, 32


def last_screen(command: list[str], folder: str) -> pyte.Screen:
    """What the terminal shows when the command, run in `folder`, has ended."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment, cwd=folder)
    os.close(child)
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:
            break
        if not part:
            break
        stream.feed(part)
    process.wait()
    return screen


def text_of(screen: pyte.Screen) -> Text:
    """The screen as styled text, empty lines at its end left out."""
    lines = []
    for y in range(screen.lines):
        line = Text()
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            colour = None if cell.fg == "default" else cell.fg if not _is_hex(cell.fg) else f"#{cell.fg}"
            colour = {"brown": "yellow"}.get(colour or "", colour)
            style = " ".join(filter(None, ["bold" if cell.bold else "", colour or ""]))
            line.append(cell.data, style=style or None)
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1].plain:
        lines.pop()
    return Text("\n").join(lines)


def _is_hex(name: str) -> bool:
    return len(name) == 6 and all(digit in "0123456789abcdef" for digit in name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        final = last_screen([sys.executable, "-m", "tnacli", "train", "quickstart"], folder)
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text("$ tna train quickstart", style="bold"))
        console.print(text_of(final))
    console.save_svg(str(Path(__file__).with_name("quickstart.svg")), title="tna train quickstart")
