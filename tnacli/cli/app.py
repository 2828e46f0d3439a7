"""The command line `tna`: ties the commands together, turns errors into messages and exit codes.

No command's file imports torch at module level, so help and mistakes are answered at once.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from tnacli.cli.data import app as data_app
from tnacli.cli.evaluate import evaluate
from tnacli.cli.export import export
from tnacli.cli.inspect import inspect
from tnacli.cli.recipes import recipes
from tnacli.cli.ternarize import ternarize
from tnacli.cli.train import train
from tnacli.errors import TnaError
from tnacli.version import __version__

EXIT_CODES = """Exit codes: 0 done · 1 a bug · 2 usage · 3 recipe · 4 data · 5 device · 6 outside tolerance · 7 diverged ·
8 damaged or unsupported file, or not writable · 75 stopped or busy, the same command goes on · 130 interrupted"""

app = typer.Typer(
    name="tna",
    help="Train spiking neural networks that end up tiny: Twin Network Augmentation, ternary weights, packed 2-bit files.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train)
app.command("ternarize")(ternarize)
app.command("evaluate")(evaluate)
app.command("export")(export)
app.command("inspect")(inspect)
app.command("recipes")(recipes)
app.add_typer(data_app, name="data")


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
    # Ctrl-C while nothing needs saving; training installs its own handler.
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app()
    except TnaError as error:
        _message(str(error))
        sys.exit(error.exit_code)
    sys.exit(0)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    _message("interrupted")
    sys.exit(130)


def _message(text: str) -> None:
    colour = sys.stderr.isatty()
    typer.echo((typer.style("error: ", fg=typer.colors.RED, bold=True) if colour else "error: ") + text, err=True)
