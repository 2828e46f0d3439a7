"""The command line `tna`: ties the commands together, turns errors into messages and exit codes.

A command's file is imported when the command is asked for, and none imports torch at module level, so help and mistakes are
answered at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from functools import cache, partial
from types import FrameType
from typing import Annotated, Any, NoReturn, TextIO, cast

import typer
import typer.core
import typer.main

from tnacli.cli import completion, document
from tnacli.cli.console import coloured
from tnacli.cli.loading import collect_seldom
from tnacli.cli.streams import Explained, encodable, lines_text, open_closed
from tnacli.errors import DeviceError, Interrupted, Stopped, TnaError, ran_out_of_memory
from tnacli.version import __version__

EXIT_CODES = """Exit codes: 0 done · 1 a bug · 2 usage · 3 recipe · 4 data · 5 device · 6 outside tolerance or too inaccurate ·
7 diverged · 8 damaged or unsupported file, or not writable · 75 stopped or busy, the same command goes on · 130 interrupted"""

# In the order of `tna --help`: where the function or the group of each is.
COMMANDS = {
    "train": "tnacli.cli.train:train",
    "ternarize": "tnacli.cli.ternarize:ternarize",
    "evaluate": "tnacli.cli.evaluate:evaluate",
    "predict": "tnacli.cli.predict:predict",
    "export": "tnacli.cli.export:export",
    "import": "tnacli.cli.importing:import_file",
    "inspect": "tnacli.cli.inspect:inspect",
    "report": "tnacli.cli.report:report",
    "compare": "tnacli.cli.compare:compare",
    "compare-kd": "tnacli.cli.compare_kd:compare_kd",
    "recipes": "tnacli.cli.recipes:recipes",
    "doctor": "tnacli.cli.doctor:doctor",
    "data": "tnacli.cli.data:app",
    "runs": "tnacli.cli.runs:app",
}


def _found(name: str) -> Any:
    """The function or the group of the command `name`, its file imported now."""
    module, _, attribute = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def _load(name: str) -> Any:
    """The command `name` as Typer runs it."""
    found = _found(name)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        found = alone
    return typer.main.get_command(found)


def _listed(name: str) -> Any:
    """The command `name` as a list of commands shows it: options would be a fifth of the time of `tna --help`."""
    found = _found(name)
    return _load(name) if isinstance(found, typer.Typer) else typer.core.TyperCommand(name, help=inspect.getdoc(found))


class _Commands(Mapping[str, Any]):
    """The commands by name. Only those that are looked at are imported: one to run it, all of them to list what they do."""

    def __getitem__(self, name: str) -> Any:
        return _load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(typer.core.TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": _Commands()})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.commands = {name: _listed(name) for name in COMMANDS}
        super().format_help(ctx, formatter)


app = typer.Typer(
    name="tna",
    cls=_Group,
    help="Train spiking neural networks that end up tiny: Twin Network Augmentation, ternary weights, packed 2-bit files.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tna {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run `tna` with the arguments of this process and exit with its code."""
    collect_seldom()
    # What is there at the end goes with the process: to look through it for cycles takes a tenth of a short command's time.
    atexit.register(gc.freeze)
    several = os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1")
    try:
        _run()
    except SystemExit as end:
        if several and isinstance(end.code, int):
            _end_among_several(end.code)
        raise
    except Exception:
        if several:
            sys.excepthook(*sys.exc_info())  # the traceback of a bug, which Python prints only where it ends itself
            _end_among_several(1)
        raise


def _end_among_several(code: int) -> NoReturn:
    """End this process, one of several under torchrun, without taking Python down around the threads that connect them.

    Such a thread may still hold the last tensors that it sent when Python ends. It is then stopped where C++ allows none to be
    stopped, and the process aborts ("terminate called without an active exception") after all its work is done.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run() -> NoReturn:
    open_closed()
    errors_to, out = sys.stderr, sys.stdout
    # While nothing needs saving; training installs its own handler.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), partial(_end_at_once, errors_to))
    if "_TNA_COMPLETE" in os.environ:
        completion.join_assignment()
    if _rank() > 0:
        # Of several processes under torchrun one prints and draws; from the others only what ended them is heard.
        out = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    shown = cast(TextIO, Explained(out, "stdout"))
    watched = cast(TextIO, Explained(errors_to if out is sys.stdout else out, "stderr"))
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(watched):
            try:
                _command()
            except BaseException as end:
                document.finish(shown, sys.argv[1:], end)
                raise
            finally:
                shown.flush()  # here, where a full disk can still be reported
    except TnaError as error:
        _message(error, errors_to)
        sys.exit(error.exit_code)
    sys.exit(0)


def _command() -> None:
    """The command that was given. Raises DeviceError where it runs out of memory, and training has not said more of it."""
    try:
        app()
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        short = str(error).partition("\n")[0] or "Python was given no more"
        raise DeviceError(f"out of memory: {short}. Take less at once, as with --batch-size or --samples.") from None


def _rank() -> int:
    """Which of the processes that torchrun started this is; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def _end_at_once(errors_to: TextIO, number: int, frame: FrameType | None) -> NoReturn:
    # A second one ends the process even where Python code cannot (within a long import of compiled code, say).
    signal.signal(number, signal.SIG_DFL)
    ended = (
        Interrupted("interrupted") if number == signal.SIGINT else Stopped(f"{signal.Signals(number).name} received")
    )
    _message(ended, errors_to)
    raise SystemExit(ended.exit_code) from ended  # an Exception could be caught on its way out


def _message(error: TnaError, stream: TextIO) -> None:
    who = f"process {_rank()}: " if _rank() else ""
    label = "stopped: " if isinstance(error, Stopped) else "error: "
    if coloured(stream):
        label = typer.style(label, fg=typer.colors.RED if label == "error: " else typer.colors.YELLOW, bold=True)
    # Written as it is: typer.echo would take the colour away again where FORCE_COLOR asks for it in a pipe.
    with contextlib.suppress(
        OSError, RuntimeError
    ):  # nowhere to say it, or within another write; the exit code is left
        stream.write(encodable(f"{who}{label}{lines_text(str(error))}\n", stream))
        stream.flush()
