"""The ```console blocks of README.md and docs/: what they show is what the commands print.

The blocks of a page are run one after the other in a folder of their own, in which `tna train quickstart` has been run, and
which has the pictures of docs/images/scans in scans/. What
may differ from machine to machine (times, rates, sizes, accuracies, the word that there is no C compiler) is left out of the
comparison, and `...` stands for any number of lines. A block that the tests do not run says so, and why, in a comment before
it: <!-- not run: why -->

Between <!-- made by: COMMAND --> and <!-- end --> a page has what the command prints to stdout in the checkout, to the letter:
tables of measured results, from the ledgers in docs/results/. A picture of them has its command above it, <!-- drawn by:
COMMAND -->, which ends with `--save` and the picture's path. Between <!-- effects of: SECTION; SECTION --> and <!-- end --> it
has the tables of effects that stand in those of its sections, brought together by effect; docs/images/effects.svg draws them.

    python -m tests.documents [PAGE ...]    writes what has changed into the pages, all of them by default
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tnacli.report.difference_plot import Line

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
EFFECTS = ROOT / "docs" / "images" / "effects.svg"
QUICKSTART = "tna train quickstart"

_BLOCK = re.compile(r"(?:^<!-- not run: (?P<why>.+?) -->\n)?^```console\n(?P<text>.*?)^```$", flags=re.M | re.S)
_MADE = re.compile(r"^<!-- made by: (?P<command>tna .+?) -->\n(?P<text>.*?)^<!-- end -->$", flags=re.M | re.S)
_DRAWN = re.compile(
    r"^<!-- drawn by: (?P<command>tna .+ --save (?P<path>\S+)) -->\n\n?!\[[^]]+\]\((?P<shown>\S+)\)$", flags=re.M
)
_GATHERED = re.compile(r"^<!-- effects of: (?P<sections>.+?) -->\n(?P<text>.*?)^<!-- end -->$", flags=re.M | re.S)
_HEADING = re.compile(r"^#+ (.+)$", flags=re.M)
_FILE = re.compile(r"^<!-- file: (?P<name>[\w.-]+) -->\n```\w*\n(?P<text>.*?)^```$", flags=re.M | re.S)
_VARYING = (
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b"), "# date"),
    (re.compile(r"(-seed\d+)-[0-9a-f]{10}\b"), r"\1"),  # a run that began from a checkpoint is known by its bytes
    (re.compile(r"[+-]?\d[\d,]*\.\d+(e[+-]\d+)?"), "#"),
    (re.compile(r"\b\d+/\d+/\d+\b"), "#/#/#"),
    (re.compile(r"\d+(:\d\d)+ (min|h)\b|(#|\d+) (s|ms|µs)\b"), "# time"),
    (re.compile(r"\d[\d,]* (samples/s|bytes)"), r"# \1"),
    (re.compile(r"\b(loss|CE|sibling|match) (#|\d+)"), r"\1 #"),
    (re.compile(r"(stack at most # bytes) and those of .*"), r"\1"),  # compilers call other functions of their library
    (re.compile(r" {2,}"), "  "),
)


@dataclass(frozen=True)
class Block:
    """A console block: its place in the page's text, and why it is not run, if it is not."""

    start: int
    end: int
    text: str
    why_not: str | None

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Each command with the lines shown below it."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
        return found


def blocks(page: str) -> list[Block]:
    """The console blocks of a page."""
    return [Block(b.start("text"), b.end("text"), b["text"], b["why"]) for b in _BLOCK.finditer(page)]


def made(page: str) -> list[tuple[str, str]]:
    """The commands that make parts of a page, each with its part."""
    return [(found["command"], found["text"]) for found in _MADE.finditer(page)]


def drawn(page: str) -> list[tuple[str, Path, Path]]:
    """The commands that draw pictures of a page in docs/, without `--save`; what each writes, and what is shown below it."""
    return [
        (
            found["command"].removesuffix(f" --save {found['path']}"),
            ROOT / found["path"],
            ROOT / "docs" / found["shown"],
        )
        for found in _DRAWN.finditer(page)
    ]


def gathered(page: str) -> list[tuple[str, str]]:
    """The tables of effects that are brought together from the page's own, each with what it should be."""
    return [(found["text"], effects_table(effects_of(page, found["sections"]))) for found in _GATHERED.finditer(page)]


def effects_of(page: str, sections: str) -> dict[str, list[dict[str, str]]]:
    """The rows of the effects in the `sections` of a page, by effect, in the order in which they are first found.

    `sections` are headings with a `; ` between them; the one that a row is from is its `where`.
    """
    heads = list(_HEADING.finditer(page))
    ends = [*(head.start() for head in heads[1:]), len(page)]
    texts = {head[1]: page[head.end() : end] for head, end in zip(heads, ends, strict=True)}
    rows: dict[str, list[dict[str, str]]] = {}
    for section in sections.split("; "):
        for row in _effects_in(texts[section]):
            rows.setdefault(f"{row['network']} - {row['minus']}", []).append({**row, "where": section})
    return rows


def effects_table(effects: dict[str, list[dict[str, str]]]) -> str:
    """A table of the effects, each with a link to its section."""
    shown = ("paper", "ours", "seeds", "95 % interval", "p (Holm)", "verdict")
    lines = [["effect", "where", *shown], ["---", "---", *["---:"] * (len(shown) - 1), "---"]]
    for effect, rows in effects.items():
        for row in rows:
            anchor = re.sub(r"[^\w -]", "", row["where"].lower()).replace(" ", "-")
            lines.append([effect, f"[{row['where']}](#{anchor})", *(row.get(name, "") for name in shown)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def effects_lines(effects: dict[str, list[dict[str, str]]]) -> dict[str, list[Line]]:
    """The same as lines of a picture; those that are not measured are left out."""
    return {
        effect: [_line(row) for row in rows if row.get("95 % interval")]
        for effect, rows in effects.items()
        if any(row.get("95 % interval") for row in rows)
    }


def _line(row: dict[str, str]) -> Line:
    from tnacli.report.difference_plot import Line
    from tnacli.report.statistics import Interval

    interval = Interval(*(float(end) for end in row["95 % interval"].split(" to ")))
    p = float(row.get("p (Holm)", "").removeprefix("< ") or 1)  # none where it is not judged
    paper = None if row["paper"].startswith("none") or not row["paper"] else float(row["paper"])
    mean, seeds = float(row["ours"].split(" ± ")[0]), int(row["seeds"].split()[0])
    return Line(row["where"], mean, interval, seeds, p < 0.05 and 0 not in interval, paper)


def _effects_in(text: str) -> Iterator[dict[str, str]]:
    """The rows, by column, of the tables in `text` that end with a verdict."""
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("| ") else []
        if not cells or not header:
            header = cells
        elif "verdict" in header and not cells[0].startswith("---"):
            yield dict(zip(header, cells, strict=True))


def printed_here(command: str) -> str:
    """What `command` prints to stdout, run in the checkout."""
    output = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(output):
        _call(shlex.split(command))
    return output.getvalue()


class World:
    """A folder in which commands are run, in this process: importing torch anew costs seconds. Used as a context."""

    def __init__(self, folder: Path, quickstart: World | None = None) -> None:
        """With `quickstart`, a world in which it has been run, its runs are here, too, and so is what it printed."""
        self.folder = folder
        self.printed: dict[str, str] = {}
        shutil.copytree(ROOT / "docs" / "images" / "scans", folder / "scans")
        if quickstart is not None:
            shutil.copytree(quickstart.folder / "runs", folder / "runs")
            self.printed = dict(quickstart.printed)

    def put_files_of(self, page: str) -> None:
        """Write the files that a page shows."""
        for found in _FILE.finditer(page):
            (self.folder / found["name"]).write_text(found["text"], encoding="utf-8")

    def run(self, command: str) -> str:
        """What `command` prints to stdout and stderr; the quickstart from memory, if it has been run. `> FILE` is understood."""
        if command in self.printed:
            return self.printed[command]
        words = shlex.split(command)
        if words[0] != "tna":
            raise ValueError(f"only tna is run in console blocks, not {command!r}")
        words, target = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
        output, redirected = io.StringIO(), io.StringIO()
        stdout = output if target is None else redirected
        with self._inside(), contextlib.redirect_stderr(output), contextlib.redirect_stdout(stdout):
            _call([found for word in words for found in _expanded(word)])
            if target is not None:
                Path(target).write_text(redirected.getvalue(), encoding="utf-8")
        return output.getvalue()

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """In the folder, with none of this user's places and preferences."""
        before = dict(os.environ)
        os.environ["TNA_CACHE"] = "cache"
        for name in ("TNA_DATA", "COLUMNS", "FORCE_COLOR"):
            os.environ.pop(name, None)
        try:
            with contextlib.chdir(self.folder):
                yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _expanded(word: str) -> list[str]:
    """What a shell makes of a word with a `*`: the files that there are."""
    return (sorted(glob.glob(word)) if "*" in word else []) or [word]


def _call(words: list[str]) -> None:
    from tnacli.cli.app import main

    before, sys.argv = sys.argv, words
    try:
        main()
    except SystemExit:
        pass  # mistakes and their messages are shown, too
    finally:
        sys.argv = before


def run_quickstart(folder: Path) -> World:
    """A world in which the quickstart has been run."""
    world = World(folder)
    world.printed[QUICKSTART] = world.run(QUICKSTART)
    return world


def same(shown: list[str], printed: str) -> bool:
    """Whether the lines of a block are what was printed, but for what varies."""
    of_this_machine = (line for line in printed.splitlines() if "the slow path, without compiled kernels" not in line)
    wanted, found = ([_masked(line) for line in lines] for lines in (shown, of_this_machine))
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in wanted)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in found)) is not None


def _masked(line: str) -> str:
    for pattern, instead in _VARYING:
        line = pattern.sub(instead, line)
    return line.strip()


def shortened(printed: str, head: int, tail: int) -> list[str]:
    """The first and the last lines of what was printed, with `...` between them."""
    lines = printed.splitlines()
    return lines if len(lines) <= head + tail + 1 else [*lines[:head], "...", *lines[-tail:]]


def rewritten(page: str, world: World) -> str:
    """The page with what its commands print now, where that differs. Outputs with `...` are shortened as before.

    Blocks that the tests do not run stay as they are, unless nothing is shown in them yet.
    """
    from tests.reference import SHORT

    world.put_files_of(page)
    parts, done = [], 0
    for block in blocks(page):
        if block.why_not is None or not any(shown for _, shown in block.commands):
            parts.append(page[done : block.start])
            for command, shown in block.commands:
                short = SHORT.get(command.split()[1])
                parts.append(f"$ {command}\n{_text(shown, world.run(command), short)}")
            done = block.end
    whole = "".join([*parts, page[done:]])
    whole = _MADE.sub(lambda f: f"<!-- made by: {f['command']} -->\n{printed_here(f['command'])}<!-- end -->", whole)
    for before, after in gathered(whole):
        whole = whole.replace(f"-->\n{before}<!-- end -->", f"-->\n{after}<!-- end -->", 1)
    return whole


def _text(shown: list[str], printed: str, short: tuple[int, int] | None) -> str:
    if not shown or not same(shown, printed):
        if printed.startswith("error: ") and shown and not shown[0].startswith("error: "):
            raise RuntimeError(f"what a page shows cannot be written anew, mark its block as not run: {printed}")
        if "..." in shown:
            short = (shown.index("..."), len(shown) - shown.index("...") - 1)
        shown = printed.splitlines() if short is None else shortened(printed, *short)
    return "".join(f"{line}\n" for line in shown)


def main(chosen: list[str]) -> None:
    """Write the pages anew, or the `chosen` ones."""
    import torch

    from tests.reference import PAGE, reference

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        first = run_quickstart(Path(folder))
        PAGE.write_text(reference(PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""), encoding="utf-8")
        for page in [Path(name).resolve() for name in chosen] or dict.fromkeys((*PAGES, PAGE)):
            with tempfile.TemporaryDirectory() as other:
                before = page.read_text(encoding="utf-8")
                after = rewritten(before, World(Path(other), first))
                for command, path, _ in drawn(after):
                    printed_here(f"{command} --save {path}")
                for found in _GATHERED.finditer(after):
                    from tnacli.report.difference_plot import save_differences

                    save_differences(EFFECTS, effects_lines(effects_of(after, found["sections"])))
            if after != before and page.read_text(encoding="utf-8") == before:
                page.write_text(after, encoding="utf-8")
                print(f"{page.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main(sys.argv[1:])
