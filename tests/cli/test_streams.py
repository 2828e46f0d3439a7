"""Commands whose standard streams are closed, or cannot show every character, do their work and keep their exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.conftest import TINY_RECIPE, Result, environment
from tests.cli.test_commands import on_a_terminal
from tnacli.cli.streams import encodable
from tnacli.training.checkpoint import load_checkpoint

ENCODINGS = ("ascii", "iso8859-2", "koi8-r", "cp932")
RECIPE = TINY_RECIPE.replace("seeds: [0]", "seeds: [0, 1]").replace("epochs: 3", "epochs: 2")
OLD_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe whose runs are finished, over two seeds: there is a ± to show, and a twin's α."""
    folder = tmp_path_factory.mktemp("streams")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert run(folder, "train tiny.yaml --quiet", "utf-8").code == 0
    (checkpoint,) = folder.glob("runs/tiny/tna_t_snn-seed0-*/last.pt")
    (folder / "last.pt").write_bytes(checkpoint.read_bytes())
    return folder


def run(folder: Path, command: str, encoding: str) -> Result:
    """`tna COMMAND` in this process and in `folder`, with streams that have only the characters of `encoding`."""
    from tnacli.cli.app import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    before = (sys.argv, sys.stdout, sys.stderr, os.getcwd())
    try:
        sys.argv, sys.stdout, sys.stderr = ["tna", *command.split()], out, err
        os.chdir(folder)
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv, sys.stdout, sys.stderr = before[:3]
        os.chdir(before[3])
    for stream in (out, err):
        stream.flush()
    shown = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]  # type: ignore[attr-defined]
    return Result(end.value.code if isinstance(end.value.code, int) else 1, *shown)


COMMANDS = {
    "--help": 0,
    "train --help": 0,
    "evaluate --help": 0,
    "ternarize --help": 0,
    "recipes": 0,
    "recipes table1_cifar10": 0,
    "data": 0,
    "doctor": 0,
    "train tiny.yaml": 0,
    "train tiny.yaml --dry-run -v": 0,
    "train tiny.yaml --fresh --run baseline --seed 0 --set train.epochs=1 --out other": 0,
    "inspect last.pt": 0,
    "evaluate last.pt": 0,
    "report tiny.yaml": 0,
    "report tiny.yaml --format latex": 0,
    "report --table 1": 0,
    "report --table 2 --format md": 0,
    "report --figure 3a": 0,
    "train nothing": 3,
    "train --nothing": 2,
    "inspect nothing": 8,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs_in_every_encoding(work: Path, command: str) -> None:
    usual = run(work, command, "utf-8")
    assert usual.code == COMMANDS[command], usual.err
    for encoding in ENCODINGS:
        found = run(work, command, encoding)
        assert found.code == usual.code, (encoding, found.err)
        for ours, theirs in ((found.out, usual.out), (found.err, usual.err)):
            assert len(ours.splitlines()) == len(theirs.splitlines())
            # Nothing had to be escaped: whatever these commands print has an equivalent.
            assert (ours.count("\\u"), ours.count("\\x")) == (theirs.count("\\u"), theirs.count("\\x")), encoding
            if encoding == "ascii":
                assert ours.count("+-") >= theirs.count("±")


def test_what_the_commands_print_needs_equivalents(work: Path) -> None:
    """Else the test above would say little."""
    printed = "".join(run(work, command, "utf-8").out for command in COMMANDS)
    assert {"±", "α", "·", "─"} <= set(printed)


def test_numbers_keep_their_columns_where_a_sign_becomes_two(work: Path) -> None:
    header, *rows = run(work, "train tiny.yaml", "ascii").out.splitlines()[1:]
    assert all("+-" in row for row in rows)
    end = header.index("test accuracy %") + len("test accuracy %")
    assert [row[end - 1].isdigit() and row[end : end + 2] in ("", "  ") for row in rows] == [True] * len(rows)


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("71.90 ± 0.31", "ascii", "71.90 +- 0.31"),
        ("71.90 ± 0.31", "cp932", "71.90 ± 0.31"),
        ("a · b", "iso8859-2", "a * b"),
        ("α → Δ, ≤ 3 – 4 × 5", "ascii", "alpha -> Delta, <= 3 - 4 x 5"),
        ("┏━┳┓│┃└╰─╯", "ascii", "+-++||++-+"),
        ("━━╸   ⠋ █", "ascii", "---   * #"),
        ("long na…", "ascii", "long na~"),
        ("café 漢", "ascii", "caf\\xe9 \\u6f22"),
        ("caf\udce9", "utf-8", "caf\\xe9"),
        ("a\ud800", "utf-8", "a\\ud800"),
    ],
)
def test_what_is_written_instead(text: str, encoding: str, expected: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert encodable(text, stream) == expected


@pytest.mark.parametrize("ending", ["md", "csv", "tex", "html", "json"])
def test_saved_files_stay_utf_8(work: Path, tmp_path: Path, ending: str) -> None:
    if ending == "html":
        pytest.importorskip("matplotlib")  # draws its curves
    written = []
    for encoding in ("utf-8", "ascii"):
        path = tmp_path / f"{encoding}.{ending}"
        assert run(work, f"report tiny.yaml --save {path}", encoding).code == 0
        files = sorted(tmp_path.glob(f"{encoding}*.{ending}"))
        # A page's command and date are others each time.
        written.append([re.sub(rb"<p class=.quiet.>\$ tna .*</p>", b"", file.read_bytes()) for file in files])
    assert written[0]
    assert written[0] == written[1]
    if ending in ("md", "html"):
        assert "±".encode() in written[0][0]


def test_a_locale_without_any_of_it(work: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tnacli", "report", "tiny.yaml"],
        cwd=work, env=environment(**OLD_LOCALE), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b" +- " in done.stdout
    assert (done.stdout + done.stderr).isascii()


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX")
def test_a_name_that_is_no_text_is_shown_in_a_message(tmp_path: Path) -> None:
    for extra in ({}, OLD_LOCALE):
        done = subprocess.run(
            [sys.executable, "-m", "tnacli", "inspect", b"caf\xe9.pt"],
            cwd=tmp_path, env=environment(**extra), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 8
        assert done.stderr.startswith(b"error: caf\\xe9.pt: no such file")


@pytest.mark.slow
def test_a_live_view_on_a_terminal_that_knows_ascii_alone(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    arguments = [
        "train",
        str(tmp_path / "tiny.yaml"),
        "--run",
        "baseline",
        "--seed",
        "0",
        "--out",
        str(tmp_path / "runs"),
    ]
    code, seen = on_a_terminal(arguments, PYTHONIOENCODING="ascii")
    assert code == 0, seen
    assert seen.isascii()
    assert "epochs" in seen
    assert "---" in seen


CLOSED = {"stdout": ">&-", "stderr": "2>&-", "both": ">&- 2>&-", "all": "<&- >&- 2>&-", "stdin": "<&-"}


def closed(which: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """`python ARGUMENTS` with these streams closed from the start."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {CLOSED[which]}', "sh", sys.executable, *arguments],
        capture_output=True, env=environment(), timeout=120, check=False, **options,  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes them")
@pytest.mark.parametrize(
    ("which", "arguments", "code"),
    [
        *((which, "train nothing", 3) for which in CLOSED),
        *((which, "recipes", 0) for which in ("stdout", "stderr", "both")),
        ("both", "train --nothing", 2),
        ("both", "--help", 0),
    ],
)
def test_closed_streams_change_no_exit_code(which: str, arguments: str, code: int, tmp_path: Path) -> None:
    done = closed(which, "-m", "tnacli", *arguments.split(), cwd=tmp_path)
    assert done.returncode == code
    if which in ("stderr", "stdin"):
        assert (b"quickstart" in done.stdout) is (code == 0)
    if which in ("stdout", "stdin"):
        assert (b"nothing" in done.stderr) is (code != 0)
        assert b"Traceback" not in done.stderr


# Runs every command with the same streams closed anew, in one process: importing torch again would cost seconds. Meanwhile
# a thread writes to the numbers of stdout and stderr, as libraries in C do whatever Python thinks of its streams.
PROGRAM = """
import contextlib, json, os, sys, threading, time
numbers, commands = json.loads(sys.argv[1])
going = True
def noise():
    while going:
        for number in (1, 2):
            with contextlib.suppress(OSError):
                os.write(number, b"NOISE\\n")
        time.sleep(0.0005)
from tnacli.cli.app import main
codes, thread = {}, threading.Thread(target=noise, daemon=True)
thread.start()
for command in commands:
    for number in numbers:
        with contextlib.suppress(OSError):
            os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    sys.argv = ["tna", *command.split()]
    try:
        main()
    except BaseException as end:
        codes[command] = getattr(end, "code", repr(end))
going = False
thread.join()
with open("codes.json", "w") as file:
    json.dump(codes, file)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes them")
@pytest.mark.parametrize("which", ["stderr", "all"])
def test_no_file_takes_the_place_of_a_closed_stream(which: str, work: Path, tmp_path: Path) -> None:
    """Checkpoints, metrics, exports and pages are what they are with open streams, whatever is written to stdout or stderr."""
    (tmp_path / "tiny.yaml").write_bytes((work / "tiny.yaml").read_bytes())
    (tmp_path / "last.pt").write_bytes((work / "last.pt").read_bytes())
    commands = {
        "train tiny.yaml": 0,
        "export last.pt -o a.safetensors": 0,
        "evaluate last.pt a.safetensors --json": 0,
        "inspect a.safetensors": 0,
        f"report tiny.yaml --save page.{'html' if find_spec('matplotlib') else 'md'}": 0,
        "doctor": 0,
        "--help": 0,
        "evaluate nothing": 8,
    }
    numbers = {"stderr": [2], "all": [0, 1, 2]}[which]
    done = closed(which, "-c", PROGRAM, json.dumps([numbers, list(commands)]), cwd=tmp_path)
    assert json.loads((tmp_path / "codes.json").read_text()) == commands, done
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert [path.name for path in files if b"NOISE" in path.read_bytes()] == []
    for path in work.glob("runs/tiny/*/last.pt"):
        ours, theirs = load_checkpoint(tmp_path / path.relative_to(work)), load_checkpoint(path)
        assert all((ours.tensors[name] == tensor).all() for name, tensor in theirs.tensors.items())


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes them")
def test_what_a_closed_stream_is_opened_as_is_inherited(tmp_path: Path) -> None:
    """A compiler that tna starts finds its streams open, too."""
    program = (
        "import subprocess, sys; from tnacli.cli.streams import open_closed; open_closed()\n"
        "sys.exit(subprocess.run([sys.executable, '-c', 'import os; [os.fstat(n) for n in (0, 1, 2)]']).returncode)"
    )
    assert closed("all", "-c", program, cwd=tmp_path).returncode == 0


def test_open_streams_are_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    from tnacli.cli.streams import open_closed

    before: Callable[[], object] = lambda: (sys.stdin, sys.stdout, sys.stderr, *(os.fstat(n).st_ino for n in (0, 1, 2)))  # noqa: E731
    found = before()
    open_closed()
    assert before() == found
