"""What the documents say is what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tests.documents import (
    EFFECTS,
    PAGES,
    ROOT,
    World,
    blocks,
    drawn,
    effects_lines,
    effects_of,
    effects_table,
    gathered,
    made,
    printed_here,
    run_quickstart,
    same,
)
from tests.reference import EXITS, PAGE, reference
from tnacli.experiment import Outcome
from tnacli.recipe.parse import load
from tnacli.report.cells import cells_of
from tnacli.report.statistics import paired
from tnacli.runs.ledger import read
from tnacli.runs.recorded import Ledger

README = ROOT / "README.md"
REPRODUCTION = ROOT / "docs" / "reproduction.md"
RESULTS = ROOT / "docs" / "results"
NOT_RUN = 7
"""How many console blocks of all pages may be left unrun: the data of the README's, and what differs between machines."""

NEEDED = {
    "cli.md": ("nir",),
    "thesis.md": ("matplotlib",),
    "predict.md": ("onnx", "onnxruntime"),
    "deployment.md": ("nir", "onnx", "onnxruntime"),
}

pytestmark = pytest.mark.skipif(not README.exists(), reason="only in a checkout")


def fenced(path: Path) -> list[str]:
    """The fenced blocks of a page, without their fences."""
    return re.findall(r"^```[a-z]*\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_ci_runs_the_test_command_of_the_readme_in_a_place_of_its_own() -> None:
    (command,) = [line for block in fenced(README) for line in block.splitlines() if "-m pytest" in line]
    run = (ROOT / ".ci" / "run").read_text()
    assert command.replace(".venv", ".ci/venv") in run.splitlines()
    assert not re.search(r"(?<![\w/])\.venv", run), "what the user works in is left alone"


def test_ci_runs_by_name_what_the_test_command_leaves_out(pytestconfig: pytest.Config) -> None:
    assert "not slow" in pytestconfig.getini("addopts")
    assert ".ci/venv/bin/python -m pytest -m slow" in (ROOT / ".ci" / "run").read_text().splitlines()
    assert "`pytest -m slow`" in README.read_text(encoding="utf-8")


def test_ci_runs_what_needs_optional_packages_where_they_are_installed() -> None:
    _, _, afterwards = (ROOT / ".ci" / "run").read_text().partition("install -q -e '.[dev]'")
    listed = re.findall(r"tests/[\w/.]+", afterwards)
    assert all((ROOT / name).exists() for name in listed)
    always_there = {"jsonschema", "resource", "signal"}
    for path in (ROOT / "tests").rglob("test_*.py"):
        wanted = set(re.findall(r"importorskip\(\s*\"(\w+)", path.read_text(encoding="utf-8"))) - always_there
        name = path.relative_to(ROOT).as_posix()
        assert not wanted or any(name == place or name.startswith(f"{place}/") for place in listed), (name, wanted)


def test_ci_looks_at_the_tests_whose_subject_depends_on_the_machine() -> None:
    """Those whose files are named are there, and each is run without kernels, and with bf16 forced off and on."""
    run = (ROOT / ".ci" / "run").read_text()
    listed = re.search(r"^machine=\((.*?)\)", run, flags=re.M | re.S)
    assert listed is not None
    assert all((ROOT / name).exists() for name in listed[1].split())
    forced = re.search(r"^for (\w+) in (.*); do$", run, flags=re.M)
    assert forced is not None
    assert {"TNA_NATIVE=0", "TNA_FAST_BF16=0", "TNA_FAST_BF16=1"} == set(forced[2].split())


def test_the_readme_names_every_command_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from tnacli.cli.app import app

    group: Any = typer.main.get_command(app)
    names = set(group.commands)
    text = README.read_text(encoding="utf-8")
    used = set(re.findall(r"(?:^|[`$/ ])tna ([a-z][a-z-]+)", text))
    assert used - {"train"} <= names
    assert names <= used


def test_links_between_pages_lead_somewhere() -> None:
    for page in (README, *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    from tnacli import errors

    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", README.read_text(encoding="utf-8"), flags=re.M)}
    raised = {e.exit_code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.TnaError)}
    assert documented == {0, *raised}


def test_recipes_of_the_readme_exist() -> None:
    from tnacli.recipe.parse.find import list_recipes

    names = {entry.name for entry in list_recipes()}
    for name in re.findall(r"tna train (?:recipes/)?([a-z0-9_]+)", README.read_text(encoding="utf-8")):
        assert name in names


def test_python_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "tnacli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tna ")


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A folder in which the quickstart has been run, once for all pages."""
    return run_quickstart(tmp_path_factory.mktemp("quickstart"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_console_blocks_show_what_the_commands_print(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = [block for block in blocks(page.read_text(encoding="utf-8")) if block.why_not is None]
    if not run:
        pytest.skip("shows nothing that the tests run")
    for package in NEEDED.get(page.name, ()):
        pytest.importorskip(package, reason="what the page shows needs it")
    world = World(tmp_path, request.getfixturevalue("quickstart"))
    world.put_files_of(page.read_text(encoding="utf-8"))
    for block in run:
        for command, shown in block.commands:
            printed = world.run(command)
            assert same(shown, printed), (
                f"{page.name} is stale; `python -m tests.documents` writes it\n$ {command}\n{printed}"
            )


MADE = [(page.name, command, text) for page in PAGES for command, text in made(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "command", "text"), MADE, ids=[f"{page}: {command}" for page, command, _ in MADE])
def test_measured_results_are_those_of_the_ledger(page: str, command: str, text: str) -> None:
    assert "--ledger docs/results" in command
    assert printed_here(command) == text, f"{page} is stale; `python -m tests.documents docs/{page}` writes it"


def test_effects_brought_together_are_those_of_the_sections() -> None:
    found = [pair for page in PAGES for pair in gathered(page.read_text(encoding="utf-8"))]
    assert found, "docs/reproduction.md has one"
    for text, expected in found:
        assert text == expected, (
            "docs/reproduction.md is stale; `python -m tests.documents docs/reproduction.md` writes it"
        )


def test_the_effects_in_the_readme_are_those_of_the_page_on_reproduction() -> None:
    page = REPRODUCTION.read_text(encoding="utf-8").splitlines()
    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if re.match(r"\| tna\w* - ", line)]
    assert rows
    for row in rows:
        assert row.replace("docs/reproduction.md#", "#") in page, "copy the row from docs/reproduction.md"


def test_effects_are_brought_together_by_effect() -> None:
    page = """# Page
## A, 1,000
| network | minus | paper | ours | seeds | 95 % interval | p (Holm) | could show | verdict |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| tna | baseline | +0.82 | +0.79 | 24 | +0.33 to +1.25 | 0.0050 | 0.65 | holds |
| tna | its twin | none | -0.11 | 24 | -0.57 to +0.36 | 0.6381 | 0.66 | not shown |

| network | ours % |
| --- | ---: |
| tna | 37.51 |
## B
| network | minus | paper | seeds | verdict | notes |
| --- | --- | ---: | ---: | --- | --- |
| tna | baseline | +2.40 | 0 of 3 | not judged | bf16 |
"""
    effects = effects_of(page, "A, 1,000; B")
    assert effects_table(effects).splitlines() == [
        "| effect | where | paper | ours | seeds | 95 % interval | p (Holm) | verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
        "| tna - baseline | [A, 1,000](#a-1000) | +0.82 | +0.79 | 24 | +0.33 to +1.25 | 0.0050 | holds |",
        "| tna - baseline | [B](#b) | +2.40 |  | 0 of 3 |  |  | not judged |",
        "| tna - its twin | [A, 1,000](#a-1000) | none | -0.11 | 24 | -0.57 to +0.36 | 0.6381 | not shown |",
    ]
    lines = effects_lines(effects)
    assert [(line.label, line.mean, line.paper, line.shown) for line in lines["tna - baseline"]] == [
        ("A, 1,000", 0.79, 0.82, True)
    ]
    (twin,) = lines["tna - its twin"]
    assert (twin.numbers, twin.shown, twin.paper) == ("-0.11 (-0.57 to +0.36), 24 seeds", False, None)


def test_the_picture_of_effects_has_every_one_of_them() -> None:
    page = REPRODUCTION.read_text(encoding="utf-8")
    (sections,) = re.findall(r"^<!-- effects of: (.+?) -->$", page, flags=re.M)
    written = re.findall(r"<text[^>]*>([^<]+)</text>", EFFECTS.read_text(encoding="utf-8"))
    expected = [
        text
        for effect, lines in effects_lines(effects_of(page, sections)).items()
        for text in (effect, *(text for line in lines for text in (line.label, line.numbers)))
    ]
    assert [text for text in written if text in expected] == expected, "python -m tests.documents docs/reproduction.md"


DRAWN = [picture for page in PAGES for picture in drawn(page.read_text(encoding="utf-8"))] if README.exists() else []


@pytest.mark.parametrize(("command", "path", "shown"), DRAWN, ids=lambda one: one.stem if isinstance(one, Path) else "")
def test_a_picture_is_what_its_command_draws(command: str, path: Path, shown: Path, tmp_path: Path) -> None:
    """To the letter; by another version of matplotlib, which may place things otherwise, all that is written in it."""
    pytest.importorskip("matplotlib")
    anew = tmp_path / path.name
    printed_here(f"{command} --save {anew}")
    found, expected = (one.read_text(encoding="utf-8") for one in (path, anew))
    assert shown == path
    by, words = re.compile("Matplotlib v[^,]+"), re.compile("<text[^>]*>([^<]+)</text>")
    if by.findall(found) == by.findall(expected):
        assert found == expected, "python -m tests.documents"
    assert words.findall(found) == words.findall(expected), "python -m tests.documents"


def test_the_numbers_of_what_holds_are_in_its_table() -> None:
    """Each p, rounded as it is said, or doubled for a second look; each difference, its interval, and the paper's."""
    page = REPRODUCTION.read_text(encoding="utf-8")
    (text,) = re.findall(r"^## What holds\n(.*?)^!\[", page, flags=re.M | re.S)
    (sections,) = re.findall(r"^<!-- effects of: (.+?) -->$", page, flags=re.M)
    rows = [row for found in effects_of(page, sections).values() for row in found]
    judged = [float(row["p (Holm)"]) for row in rows if row.get("p (Holm)", "").startswith(("0", "1"))]
    chance = re.compile(r"(?:p = |doubled,? |for a second look, )(\d\.\d+)(?: (?:and|to) (\d\.\d+))?")
    for said in (one for pair in chance.findall(text.replace("\n", " ")) for one in pair if one):
        digits = len(said.split(".")[1])
        assert any(f"{p * times:.{digits}f}" == said for p in judged for times in (1, 2)), f"p = {said}"
    shown = {
        number
        for row in rows
        for name in ("ours", "95 % interval", "paper")
        for number in re.findall(r"\d+\.\d\d", row.get(name, ""))
    }
    reach = [
        max(abs(float(end)) for end in row["95 % interval"].split(" to ")) - 0.5
        for row in rows
        if row["minus"] == "its twin" and row.get("95 % interval")
    ]
    beyond = min(value for value in reach if value > 0)
    assert len([value for value in reach if value <= 0]) == 1, "in one section base and twin are alike"
    assert f"the nearest by {beyond:.2f}" in text
    rest = chance.sub("", text.replace("\n", " "))
    assert set(re.findall(r"\d+\.\d\d(?!\d)", rest)) - {f"{beyond:.2f}"} <= shown


LOSSES = (
    ("claims_cifar10", (), "tna", "baseline"),
    ("claims_cifar10_5000", (), "tna", "baseline"),
    ("claims_cifar10_5000", ("workstation",), "tna", "baseline"),
    ("claims_cifar100", (), "tna", "baseline"),
    ("claims_cifar100", ("images_10000",), "tna", "baseline"),
    ("claims_cifar100", ("workstation",), "tna", "baseline"),
    ("claims_cifar100", ("workstation_wide",), "tna", "baseline"),
    ("claims_fashion_mnist", (), "tna", "baseline"),
    ("claims_cifar10", (), "kd_ce", "baseline"),
    ("claims_cifar100", (), "kd_ce", "baseline"),
    ("claims_cifar10", (), "tna", "kd_ce"),
    ("claims_cifar100", (), "tna", "kd_ce"),
)
"""The differences in test loss that docs/reproduction.md names, in its order: recipe, overlays, a run minus another."""


def test_the_test_losses_in_the_text_are_those_of_the_ledger() -> None:
    page = REPRODUCTION.read_text(encoding="utf-8")
    (paragraph,) = re.findall(r"^Cross-entropy on the whole test set.*?(?=\n\n)", page, flags=re.M | re.S)
    said = re.findall(
        r"(-?\d\.\d\d)[^(]*?\((?:95 % interval )?(-?\d\.\d\d) to (-?\d\.\d\d), n = (\d+), p (=|<) ([\d.]+)\)", paragraph
    )
    ledger = Ledger.at(RESULTS)
    for (recipe, overlays, run, other), numbers in zip(LOSSES, said, strict=True):
        cells = {cell.name: cell.results for cell in cells_of(load(recipe, overlays=overlays), ledger, seeds=range(24))}
        losses = [{seed: one.loss["base"] for seed, one in cells[name].items()} for name in (run, other)]
        found = paired(*losses)
        assert found is not None
        assert found.interval is not None
        assert found.p_t is not None
        p = ("<", "0.0001") if found.p_t < 0.0001 else ("=", f"{found.p_t:.4f}")
        shown = [f"{value + 0:.2f}" for value in (found.difference.mean, found.interval.low, found.interval.high)]
        assert numbers == (*shown, str(found.difference.count), *p), (recipe, overlays, run, other)


def test_the_runs_that_the_readme_shows_are_in_a_ledger() -> None:
    text = README.read_text(encoding="utf-8")
    runs = {one.result.run: one.result for one in read(RESULTS / "repeated" / "claims_cifar10.jsonl")}
    packed = rf"{runs['tna_t_snn'].identity}/last.pt .*\n.*test accuracy {runs['tna_t_snn'].accuracy['base']:.2f} %"
    assert re.search(packed, text)
    fine_tuned = runs["tna-ternary"]
    shown = f"{fine_tuned.accuracy['base']:.2f}      {fine_tuned.accuracy['sibling1']:.2f}"
    assert re.search(rf"^tna-ternary +ternary +0 +{shown} ", text, flags=re.M)
    (kept,) = [
        one.result
        for one in read(RESULTS / "claims_cifar10.jsonl")
        if one.result.identity == runs["tna_t_snn"].identity
    ]
    assert f"has {kept.accuracy['base']:.2f} %" in text


def test_repeated_runs_differ_from_the_kept_ones_as_the_text_says() -> None:
    page = REPRODUCTION.read_text(encoding="utf-8")
    kept = {one.result.identity: one.result.accuracy["base"] for one in read(RESULTS)}
    again = [one.result for one in read(RESULTS / "repeated" / "figures_cifar10.jsonl")]
    gains = {(one.run, one.seed): one.accuracy["base"] - kept[one.identity] for one in again}
    first, second, third = (gains["baseline", seed] for seed in (5, 6, 7))
    twins = [gains["tna_0.01", seed] for seed in (5, 6, 7)]
    said = f"ended {first:.2f}, {second:.2f} and {third:.2f} points higher (TNA {min(twins):.2f} to {max(twins):.2f})"
    assert said in page.replace("\n", " ")
    assert f"the baseline's mean is {(first + second + third) / 8:.2f} points higher" in page


def test_pictures_of_results_have_a_command() -> None:
    """All but that of the effects, which is compared with the tables on the page, and those of the program itself."""
    page = REPRODUCTION.read_text(encoding="utf-8")
    shown = {ROOT / "docs" / name for name in re.findall(r"^!\[[^]]+\]\((\S+)\)$", page, flags=re.M)}
    program = {ROOT / "docs" / "images" / f"jobs-{columns}.svg" for columns in (80, 120)}
    assert shown - program - {EFFECTS} == {path for _, path, _ in DRAWN}


def test_console_blocks_that_are_not_run_are_few_and_say_why() -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    reasons = [block.why_not for text in pages.values() for block in blocks(text) if block.why_not is not None]
    assert len(reasons) <= NOT_RUN
    assert all(len(reason.split()) >= 4 for reason in reasons)
    # None hides from the tests behind another fence.
    for name, text in pages.items():
        assert text.count("\n$ tna ") == sum(len(block.commands) for block in blocks(text)), name


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        (["a  1.50 %  3.1 s"], "a     12.3 %  2:10 min\n", True),
        (["a", "...", "z"], "a\nb\nc\nz\n", True),
        (["a", "...", "z"], "a\nz\n", True),
        (["a", "...", "z"], "a\nb\n", False),
        (["a 360"], "a 361\n", False),
        (["a"], "a\nb\n", False),
        (["conv2 14/75/11"], "conv2 20/60/20\n", True),
        (["a, stack at most 488 bytes"], "a, stack at most 352 bytes and those of memset\n", True),
        (["a, stack at most 488 bytes"], "a, stack 352 bytes or more, since f calls itself\n", False),
        ([], "a\n", False),
    ],
)
def test_what_counts_as_the_same(shown: list[str], printed: str, expected: bool) -> None:
    assert same(shown, printed) is expected


def test_the_page_on_the_command_line_has_every_variable_of_the_environment() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tnacli").rglob("*.py"))
    read = set(re.findall(r"environ(?:\.get\(|\[)[\"'](TNA_[A-Z0-9_]+)", sources))
    assert read == set(re.findall(r"^\| `(TNA_[A-Z0-9_]+)", PAGE.read_text(encoding="utf-8"), flags=re.M))


def test_the_page_on_the_command_line_is_what_the_commands_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert reference(text) == text, "docs/cli.md is stale; `python -m tests.documents` writes it"


# What brings each exit code about: {full} and {ternary} are checkpoints, {broken} is a file of neither kind.
MISTAKES: dict[tuple[str, int], str] = {
    ("train", 2): "quickstart --run nothing",
    ("train", 3): "nothing",
    ("train", 4): "table1_cifar10 --data-root {empty}",
    ("train", 5): "quickstart --device cuda:9",
    ("train", 7): "quickstart --set train.learning_rate=1e30 --run baseline",
    ("train", 8): "quickstart --out {broken}/runs",
    ("ternarize", 2): "{ternary}",
    ("ternarize", 5): "{full} --device cuda:9",
    ("ternarize", 7): "{full} --delta 9",
    ("ternarize", 8): "{broken}",
    ("evaluate", 2): "{full} --split nothing",
    ("evaluate", 4): "{full} --split validation",
    ("evaluate", 5): "{full} --device cuda:9",
    ("evaluate", 6): "{full} --min-accuracy 100",
    ("evaluate", 7): "{full} --ternary --delta 9",
    ("evaluate", 8): "{broken}",
    ("predict", 2): "{full} x --csv --json",
    ("predict", 4): "{full} {empty}",
    ("predict", 8): "{broken} x",
    ("export", 2): "{full}",
    ("export", 8): "{broken}",
    ("import", 2): "{full} --encoding nothing",
    ("import", 8): "{broken}",
    ("inspect", 2): "",
    ("inspect", 8): "{broken}",
    ("report", 2): "--table 9",
    ("report", 3): "nothing",
    ("report", 8): "quickstart --save {broken}/page.md",
    ("report", 4): "quickstart --ledger {empty}.jsonl",
    ("compare", 2): "quickstart:tna",
    ("compare", 3): "nothing",
    ("compare", 4): "--ledger {empty}.jsonl",
    ("compare", 8): "--ledger {broken}",
    ("compare-kd", 2): "quickstart --match nothing",
    ("compare-kd", 3): "nothing",
    ("compare-kd", 4): "table1_cifar10 --data-root {empty}",
    ("compare-kd", 5): "quickstart --device cuda:9",
    ("compare-kd", 7): "quickstart --set train.learning_rate=1e30",
    ("compare-kd", 8): "quickstart --out {broken}/runs",
    ("recipes", 2): "--nothing",
    ("recipes", 3): "nothing",
    ("doctor", 2): "--nothing",
    ("doctor", 5): "--out {broken}/runs",
    ("data", 2): "nothing",
    ("data prepare", 2): "nothing",
    ("data prepare", 4): "cifar10 --data-root {empty}",
    ("runs", 2): "--out {empty}",
    ("runs clean", 2): "--out {empty}",
    ("runs record", 2): "{empty} --ledger {empty}.jsonl",
    ("runs diff", 2): "{empty} {empty}",
}
ELSEWHERE = {
    *((command, 75) for command in EXITS),  # tests/training/test_signals.py
    *((command, 130) for command in EXITS),  # the same
    ("report", 6),  # tests/cli/test_report.py
    *((command, 4) for command in ("ternarize", "export")),  # checkpoints of data that is gone: tests/data
    ("data prepare", 8),
    *((command, code) for command in ("runs record", "runs diff") for code in (4, 8)),  # test_runs.py, test_diff.py
    ("runs clean", 8),  # tests/cli/test_clean.py
}


@pytest.mark.parametrize(("command", "code"), MISTAKES, ids=lambda part: str(part))
def test_documented_exit_codes(
    tna: Tna, trained_full: Outcome, trained: Outcome, tmp_path: Path, command: str, code: int
) -> None:
    assert code in EXITS[command]
    if (command, code) == ("import", 8):
        pytest.importorskip("nir", reason="needs the extra nir")
    (tmp_path / "broken").write_text("neither a checkpoint nor a packed file")
    places = {"full": trained_full.checkpoint, "ternary": trained.checkpoint, "broken": tmp_path / "broken"}
    words = MISTAKES[command, code].format(**places, empty=tmp_path / "empty").split()
    if command in ("train", "ternarize", "compare-kd") and "--out" not in words:
        words += ["--out", str(tmp_path / "runs")]
    assert tna(*command.split(), *words).code == code


def test_every_documented_exit_code_is_brought_about() -> None:
    documented = {(command, code) for command, codes in EXITS.items() for code in codes if code}
    assert documented <= {*MISTAKES, *ELSEWHERE}
