"""Draws what a terminal shows of `tna train quickstart`: its end, and its live view with two jobs. Needs pyte and rich.

python docs/images/draw.py    quickstart.svg, jobs-80.svg and jobs-120.svg
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

LINES = 32


def screen_of(
    arguments: list[str], columns: int, until: Callable[[list[str]], bool] = lambda lines: False
) -> pyte.Screen:
    """What a terminal shows when `tna ARGUMENTS` has ended, or as soon as its lines are as `until` wants them."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "2" if "--jobs" in arguments else "1"}
    screen = pyte.Screen(columns, LINES)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tnacli", *arguments]
        process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment, cwd=folder)
        os.close(child)
        with contextlib.suppress(OSError):
            while part := os.read(parent, 4096):
                stream.feed(part)
                if until(screen.display):
                    process.send_signal(signal.SIGTERM)
                    break
        with contextlib.suppress(OSError):
            while os.read(parent, 4096):
                pass
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


def two_in_training(lines: list[str]) -> bool:
    """Whether a run has ended, two are halfway through, and the frame is whole."""
    training = [line for line in lines if re.search(r"\b([5-9]|1[01])/12\b.*\bleft", line)]
    return len(training) == 2 and any(re.search(r"all runs [1-9] of.*left", line) for line in lines)


def draw(name: str, arguments: list[str], columns: int, screen: pyte.Screen) -> None:
    """Write a screen, below the command, as the picture `name`."""
    command = " ".join(["tna", *arguments])
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=columns, file=nowhere)
        console.print(Text(f"$ {command}", style="bold"))
        console.print(text_of(screen))
    console.save_svg(str(Path(__file__).with_name(name)), title=command)


if __name__ == "__main__":
    quickstart, at_once = ["train", "quickstart"], ["train", "quickstart", "--jobs", "2"]
    draw("quickstart.svg", quickstart, 112, screen_of(quickstart, 112))
    for columns in (80, 120):
        draw(f"jobs-{columns}.svg", at_once, columns, screen_of(at_once, columns, two_in_training))
