"""docs/cli.md, made from the commands themselves: their help, their options, their exit codes, and an example that is run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from tests.documents import QUICKSTART, blocks

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"

EXITS: dict[str, tuple[int, ...]] = {
    "train": (0, 2, 3, 4, 5, 7, 8, 75, 130),
    "ternarize": (0, 2, 4, 5, 7, 8, 75, 130),
    "evaluate": (0, 2, 4, 5, 6, 7, 8, 75, 130),
    "export": (0, 2, 4, 8, 75, 130),
    "import": (0, 2, 8),
    "predict": (0, 2, 4, 8, 75, 130),
    "inspect": (0, 2, 8),
    "report": (0, 2, 3, 4, 6, 8),
    "compare": (0, 2, 3, 4, 8),
    "compare-kd": (0, 2, 3, 4, 5, 7, 8, 75, 130),
    "recipes": (0, 2, 3),
    "doctor": (0, 2, 5),
    "data": (0, 2),
    "data prepare": (0, 2, 4, 8, 75, 130),
    "runs": (0, 2),
    "runs record": (0, 2, 4, 8),
    "runs diff": (0, 2, 4, 8),
    "runs clean": (0, 2, 8),
}
"""What each command may exit with, beside 1 for a bug. tests/test_docs.py brings about those that need no signal."""

TERNARY = "runs/quickstart/tna_t_snn-*"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "train": (QUICKSTART, f"{QUICKSTART} --run tna"),
    "ternarize": ("tna ternarize runs/quickstart/tna-seed0-*/last.pt --epochs 3",),
    "evaluate": (f"tna evaluate {TERNARY}/packed.safetensors",),
    "predict": (f"tna predict {TERNARY} scans",),
    "export": (f"tna export {TERNARY}/last.pt -o digits.safetensors", f"tna export {TERNARY}/last.pt -o digits.nir"),
    "import": ("tna import digits.nir -o again.safetensors",),
    "inspect": ("tna inspect digits.safetensors",),
    "report": ("tna report quickstart",),
    "compare": ("tna compare quickstart:baseline quickstart:tna quickstart:tna_t_snn",),
    "compare-kd": ("tna compare-kd quickstart --alpha 1e-3 --set train.epochs=4",),
    "recipes": ("tna recipes",),
    "doctor": ("tna doctor",),
    "data": ("tna data",),
    "data prepare": ("tna data prepare digits",),
    "runs": ("tna runs",),
    "runs diff": ("tna runs diff runs/quickstart/baseline-* runs/quickstart/tna-seed0-*",),
    "runs record": ("tna runs record runs/quickstart --ledger results.jsonl",),
    "runs clean": ("tna runs clean", "tna runs clean --yes"),
}
"""Examples of each command, run in this order in one folder."""

NOT_RUN = {
    "compare-kd": "ten times the training of the other examples; tests/cli/test_compare_kd.py runs a smaller one",
    "doctor": "what it finds differs between machines",
}

SHORT = {"train": (1, 6), "ternarize": (2, 5), "compare-kd": (1, 17)}
"""How many lines of a long output are shown, from its beginning and its end."""

INTRODUCTION = """\
# The command line

Made from the commands themselves: `python -m tests.documents` writes this page, and a test fails when it is stale. The
examples were run in this order, in one folder; a `...` stands for lines left out.

stdout is data, stderr is progress. `--json` prints one document to stdout, whose JSON Schema is in `tnacli/cli/schemas/`.
[Reliability](reliability.md#the-contract-with-scripts) lists what the exit codes mean; in every command, 1 is a bug, 8 also that
its output cannot be stored (a full disk behind stdout), and 141 that whoever read it has gone (`tna recipes | head -1`).
"""

EXTRA = {
    "tna": """\
`tna --install-completion` teaches the shell that runs it (bash, zsh, fish, PowerShell) to complete `tna`; it takes effect in
new shells. Tab then completes commands and options, the names of recipes (`tna train tab<Tab>`), overlays (`--with <Tab>`),
the runs of the recipe on the line (`--run <Tab>`), the words that an option takes (`--format <Tab>`), and keys and values of
`--set`: `--set train.<Tab>` offers the keys, `--set train.precision=<Tab>` the values. Where nothing fits, file names.
`tna --show-completion` prints the script instead.

| environment | what it does |
|---|---|
| `TNA_DATA` | Folder that holds the data sets, where no `--data-root` names one. |
| `TNA_CACHE` | Folder for decoded samples and compiled kernels (default: `tnacli` in `$XDG_CACHE_HOME`, or in `~/.cache`). |
| `TNA_NATIVE=0` | Compute without compiled kernels. |
| `TNA_FAST_BF16=1`, `=0` | What `train.precision: auto` takes the hardware for: good at bf16, or not. |
| `CC` | The C compiler. |
| `OMP_NUM_THREADS` | CPU threads, where `runtime.threads` is auto (default: as many as cores). |
| `NO_COLOR`, `FORCE_COLOR` | No colour on terminals; colour in pipes. |
""",
    "train": """\
With `--tensorboard DIR` every run is logged for TensorBoard as well, in `DIR/RECIPE/RUN-seedN-IDENTITY` (needs
`pip install 'tnacli[tensorboard]'`; look at it with `tensorboard --logdir DIR`). A log has what the run's `metrics.jsonl` has,
under the same names, a point an epoch: losses and their parts, accuracies, learning rate, firing rates and shares of -1, 0 and
+1 by layer; and the settings as hyperparameters beside the test accuracy. It is no part of a run's identity. When a run goes
on, its log is written anew from the metrics, so no epoch is in it twice; a finished run is logged without being trained.
""",
    "recipes": """\
`tna recipes --schema` prints the JSON Schema of recipe and overlay files. With `tna recipes --schema > recipe.schema.json`,
editors that have the YAML language server (VS Code with the YAML extension, Neovim, Emacs and others) complete and check a
recipe beside it that begins so:

```yaml
# yaml-language-server: $schema=recipe.schema.json
extends: quickstart
```

The schema knows keys, types, bounds and words. What settings mean for each other `tna train FILE --dry-run` checks.

A recipe builds on another with `extends`: all that it does not say itself is inherited, but the name and the description. `null`
takes back what was said below: in a file that is extended, in shared settings, in a recipe under an overlay or `--set`:

```yaml
extends: table1_cifar10
runs:
  tna:
    model: {build: "networks:mine", layout: null}   # as if nobody had named a layout
    train: {batch_size: null}                       # the default, whatever the other recipe says
  baseline: null                                    # this run is not trained, and nothing is judged against it
```

It means the same everywhere: as if nobody had said it, so that the default holds. Where the default is none, as with
`compression`, that is what null says. A key with nothing after it is no null, but a slip that is refused; a run with nothing
after it has the shared settings, or those of the recipe that is extended.

`train.initial` names a checkpoint, or the folder of a run, whose weights training starts from in place of fresh ones:

```yaml
train: {initial: runs/quickstart/tna-seed0-0123456789, epochs: 10}   # as seen from this file
```

Before anything is trained, and with `--dry-run`, it is seen that the file is there and its weights fit. A run is another one for
every other content of that file, wherever it lies: its SHA-256 is part of the identity and stands in run.json and result.json.
So the file has to stay. A run that was interrupted goes on from its own checkpoint. Only weights and batch norm come from
there: optimiser, schedule and epochs begin anew.
""",
}
"""What a command's own help has no place for."""


def reference(before: str = "") -> str:
    """The whole page; below a command that stands in `before`, too, what is shown there (tests/documents.py keeps it true)."""
    shown = {block.text: block for block in blocks(before)}
    group: Any = typer.main.get_command(_app())
    parts = [INTRODUCTION, "\n".join(_command("tna", group, {}))]
    for name, command in group.commands.items():
        parts.append("\n".join(_command(name, command, shown)))
        for inner, subcommand in getattr(command, "commands", {}).items():
            parts.append("\n".join(_command(f"{name} {inner}", subcommand, shown)))
    return "\n".join(parts)


def _app() -> Any:
    from tnacli.cli.app import app

    return app


def _command(name: str, command: Any, shown: dict[str, Any]) -> Iterator[str]:
    """The lines of one command's section."""
    root = name == "tna"
    text, _, examples = inspect.cleandoc(command.help).partition("Examples:")
    yield f"## {name if root else f'tna {name}'}\n"
    yield f"{text.strip()}\n"
    if examples:
        yield "```sh"
        yield from (line.strip() for line in examples.splitlines() if line.strip())
        yield "```\n"
    yield "| option | what it does |\n|---|---|"
    for parameter in command.params:
        yield f"| {_cell(_names(parameter))} | {_cell(_described(parameter))} |"
    yield ""
    if name in EXTRA:
        yield EXTRA[name]
    if not root:
        yield f"Exit codes: {', '.join(f'{code} {_meanings()[code]}' for code in EXITS[name])}.\n"
        yield from _examples(name, shown)


def _examples(name: str, shown: dict[str, Any]) -> Iterator[str]:
    if name in NOT_RUN:
        yield f"<!-- not run: {NOT_RUN[name]} -->"
    yield "```console"
    for command in EXAMPLES[name]:
        yield f"$ {command}"
        known: Sequence[str] = next(
            (below for text in shown for said, below in shown[text].commands if said == command), []
        )
        yield from known
    yield "```\n"


def _meanings() -> dict[int, str]:
    """What each exit code means, in the words of `tna --help`."""
    from tnacli.cli.app import EXIT_CODES

    listed = EXIT_CODES.removeprefix("Exit codes: ").replace("\n", " ")
    return {int(code): words.partition(",")[0] for code, words in (one.split(" ", 1) for one in listed.split(" · "))}


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        return f"`{name}`" if parameter.required else f"`[{name}]`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return f"{names} `{parameter.metavar}`" if parameter.metavar else names


def _described(parameter: Any) -> str:
    """The help of an option, with its default unless the help says it."""
    default = parameter.default
    said = parameter.param_type_name == "argument" or "default" in parameter.help or default in (None, False, ())
    return parameter.help if said else f"{re.sub(r'(?<![.])[.]$', '', parameter.help)} (default: {default})."


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
