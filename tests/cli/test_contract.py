"""What scripts rely on: documents that fit their schemas, exit codes, and streams that hold what they should."""

from __future__ import annotations

import copy
import json
import os
import pty
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from tests.cli.conftest import Tna, environment
from tnacli import errors
from tnacli.cli.app import EXIT_CODES
from tnacli.cli.documents.schemas import DOCUMENTS, schema
from tnacli.experiment import Outcome

SCHEMAS = {
    file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
    for file in files("tnacli.cli").joinpath("schemas").iterdir()
    if file.name.endswith(".json")
}


def forms(name: str) -> list[Any]:
    """The schemas of which a document has to fit one: of a checkpoint or of a packed file, say."""
    schema = SCHEMAS[name]
    parts = [one["$ref"].rpartition("/")[2] for one in schema.get("oneOf", ())]
    return [schema["$defs"][part] for part in parts] or [schema]


def check(name: str, document: Any) -> None:
    """`document` fits the schema, and loses its fit with any key that the schema promises."""
    validator = jsonschema.Draft202012Validator(SCHEMAS[name])
    assert [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in validator.iter_errors(document)] == []
    promised = set.intersection(*(set(form["required"]) for form in forms(name)))
    assert {"command", "version"} <= promised
    for key in promised:
        without = copy.deepcopy(document)
        del without[key]
        assert not validator.is_valid(without)
    assert document["version"] == 1


def undocumented(name: str, document: Any) -> set[str]:
    """Keys of the top level that the schema does not mention."""
    return set(document) - set().union(*(form["properties"] for form in forms(name)))


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_shipped_schema_is_that_of_its_model(name: str) -> None:
    """`python -m tnacli.cli.documents.schemas` writes them."""
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name] == schema(name)


def test_no_schema_is_of_nothing() -> None:
    assert SCHEMAS.keys() == DOCUMENTS.keys()


def test_every_document_fits_its_schema(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text("export: true\n" + recipe.read_text())
    out = tmp_path / "runs"
    documents: list[tuple[str, Any]] = [
        ("train_dry_run", tna("train", recipe, "--out", out, "--dry-run", "--json").json)
    ]
    trained = tna("train", recipe, "--out", out, "--json").json
    baseline, ternary = trained["runs"]
    assert "packed" in ternary
    made = tna("ternarize", baseline["checkpoint"], "--delta", "0.05", "--epochs", "1", "--out", out, "--json").json
    packed = tmp_path / "a.safetensors"
    documents += [("train", trained), ("train", made)]
    documents += [("evaluate", tna("evaluate", baseline["checkpoint"], "--json").json)]
    documents += [("export", tna("export", ternary["checkpoint"], "-o", packed, "--json").json)]
    documents += [("evaluate", tna("evaluate", packed, "--samples", 9, "--json").json)]
    picture = tmp_path / "picture.png"
    Image.new("L", (8, 8), 255).save(picture)
    documents += [
        ("predict", tna("predict", file, picture, "--json").json) for file in (packed, baseline["checkpoint"])
    ]
    documents += [("inspect", tna("inspect", file, "--json").json) for file in (packed, baseline["checkpoint"])]
    documents += [(name, tna(name, "--json").json) for name in ("recipes", "data", "doctor")]
    documents += [("report", tna("report", recipe, "--out", out, "--json").json)]
    for name, document in documents:
        check(name, document)
        assert undocumented(name, document) == set(), name
    run = SCHEMAS["train"]["$defs"]["TrainedRun"]
    for record in (*trained["runs"], *made["runs"]):
        assert set(run["required"]) <= set(record) <= set(run["properties"])


def test_exit_codes_are_those_that_help_lists(tna: Tna) -> None:
    listed = {int(code) for code in re.findall(r"(?:[·:]\s*)(\d+) ", EXIT_CODES)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TnaError)]
    assert {kind.exit_code for kind in kinds} | {0} == listed
    assert "75" in tna("--help").out


def test_a_damaged_file_exits_with_8(tna: Tna, trained: Outcome, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(trained.checkpoint.read_bytes()[:-300])
    for command in ("evaluate", "inspect", "export"):
        result = tna(command, path, *(["-o", tmp_path / "x"] if command == "export" else []))
        assert (result.code, result.out) == (8, "")
        assert f"error: {path}: damaged" in result.err


def test_a_diverged_run_exits_with_7_and_keeps_its_state(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    arguments = ("train", recipe, "--run", "baseline", "--set", "train.learning_rate=1e30", "--out", tmp_path / "runs")
    result = tna(*arguments, "--json")
    assert result.code == 7
    assert "Try a smaller train.learning_rate" in result.err
    check("train", result.json)
    assert result.json["runs"] == []


def test_json_in_a_pipe_is_the_only_thing_on_stdout(shell, trained_full: Outcome) -> None:  # type: ignore[no-untyped-def]
    done = shell("evaluate", trained_full.checkpoint, "--json", FORCE_COLOR="1")
    assert done.returncode == 0
    check("evaluate", json.loads(done.stdout))


def terminal(*arguments: object, **extra: str) -> str:
    """Everything that a terminal receives from a command that needs no torch."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tnacli", *map(str, arguments)],
        stdin=child, stdout=child, stderr=child, env=environment(**{"COLUMNS": "100", **extra}),
    ):  # fmt: skip
        os.close(child)
        received = b""
        while True:
            try:
                part = os.read(parent, 1 << 16)
            except OSError:
                break
            if not part:
                break
            received += part
    os.close(parent)
    return received.decode(errors="replace")


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


@pytest.mark.parametrize(
    ("on_terminal", "extra", "coloured"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (False, {}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour(shell, on_terminal: bool, extra: dict[str, str], coloured: bool) -> None:  # type: ignore[no-untyped-def]
    wrong = ("train", "nope")
    seen = terminal(*wrong, **extra) if on_terminal else shell(*wrong, **extra).stderr
    assert "recipe 'nope' not found" in seen
    assert bool(COLOUR.search(seen)) is coloured


@pytest.mark.slow
def test_a_ci_job_written_in_shell(tmp_path: Path, recipe: Path) -> None:
    """tests/cli/ci_job.sh: train, ternarize, evaluate, export, check the accuracy; in a place of its own."""
    script = Path(__file__).with_name("ci_job.sh")
    done = subprocess.run(
        ["bash", script, recipe, tmp_path / "work"],
        env=environment(PYTHON=sys.executable), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all as it should be"
