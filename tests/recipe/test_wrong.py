"""What a user is told about a wrong recipe, to the letter, and that nothing else ever comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tnacli.errors import RecipeError
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.parse.fields import COMMON, FILE, SETTINGS, setting_keys
from tnacli.recipe.parse.load import load
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.recipe.schema.objective import Twin
from tnacli.recipe.schema.patterns import NAME, PATTERNS
from tnacli.recipe.schema.recipe import Train

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "wrong.yaml").read_text("utf-8"))
PLACES = {
    "<file>": FILE,
    "<overlay>": (*COMMON, *SETTINGS),
    "<settings>": SETTINGS,
    "<train>": Train.model_fields,
    "<model>": Model.model_fields,
    "<neuron>": Neuron.model_fields,
    "<twin>": Twin.model_fields,
    "<data sets>": DATASETS,
}
JARGON = ("Input should", "[type=", "pydantic", "https://", "function-", "constrained", "literal[")


def expected(text: str) -> str:
    for place, keys in PLACES.items():
        text = text.replace(place, ", ".join(keys))
    return text.replace("<name>", PATTERNS[NAME])


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_user_is_told(case: dict[str, Any], folder: Path, shipped: Path) -> None:
    for name, text in {"recipe.yaml": case["recipe"], **case.get("files", {})}.items():
        (folder / name).write_text(text, "utf-8")
    with pytest.raises(RecipeError) as caught:
        load("recipe.yaml", overlays=case.get("with", ()), overrides=case.get("set", ()))
    assert str(caught.value) == expected(case["says"])
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name: x\ndescription: caf\xe9\n", "recipe.yaml:2: is not UTF-8 text; save it as UTF-8"),
        ("runs: {a: }\n".encode("utf-16"), "recipe.yaml:1: is not UTF-8 text; save it as UTF-8"),
        (bytes(range(128, 256)), "recipe.yaml:1: is not UTF-8 text; save it as UTF-8"),
        (b"runs:\n\ta:\n", "recipe.yaml:2: a tab; use spaces, YAML gives tabs no meaning"),
        (b"runs:\n  a: a\x07b\n", "recipe.yaml:2: the character U+0007 cannot be used in YAML"),
        (b"#" * (1 << 20) + b"\n", "recipe.yaml: is larger than 1 MiB; this is no recipe"),
        (b"[" * 100_000, "recipe.yaml:1: is nested more than 20 deep; no recipe needs that"),
        (b"{a: " * 21 + b"1" + b"}" * 21, "recipe.yaml:1: is nested more than 20 deep; no recipe needs that"),
        (
            b"seeds: [" + b"9" * 5000 + b"]\nruns: {a: }\n",
            f"recipe.yaml:1: seeds[0]: '{'9' * 77}...' is too large; whole numbers go up to 2^63 - 1",
        ),
    ],
    ids=["latin-1", "utf-16", "binary", "tab", "bell", "size", "depth", "mappings' depth", "digits"],
)
def test_bytes_that_are_no_recipe(content: bytes, says: str, folder: Path) -> None:
    (folder / "recipe.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load("recipe.yaml")
    assert str(caught.value) == says


def test_what_is_wrong_for_some_runs_names_them(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(
        "train: {select: val}\nruns:\n  a: {data: {validation_samples: 9}}\n  b:\n  c:\n"
    )
    with pytest.raises(RecipeError) as caught:
        load("recipe.yaml")
    assert str(caught.value).endswith("hold some samples out (in runs b, c)")
    assert "\n" not in str(caught.value)


def test_a_long_chain_of_aliases_is_read_in_no_time_and_refused(folder: Path) -> None:
    laughs = ["a0: &a0 lol", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
    (folder / "recipe.yaml").write_text("\n".join(laughs))
    with pytest.raises(RecipeError, match=r"\*a8 stands for a value elsewhere"):
        load("recipe.yaml")


@given(text=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_any_text_is_loaded_or_explained(text: str, folder: Path) -> None:
    (folder / "recipe.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeError) as caught:
        load("recipe.yaml")  # hypothesis does not come upon a whole recipe
    assert str(caught.value).startswith("recipe.yaml")
    assert not [word for word in JARGON if word in str(caught.value)]


PLAIN = ["", "0", "1", "-1", "3", "2.5", "1e-3", "1e9", "true", "null", "~", "yes", "60%", "0%", "text", "''"]
LISTS = ["[]", "[1]", "[a]", "[1,2,3]", "[{}]", "[null]", "[{width: x}, 2]"]
MAPPINGS = ["{}", "{a: 1}", "{mode: binary}", "{kind: twin}", "{kind: [1]}", "{kind: twin, alpha: 1}"]
WORDS = ["twin", "ternary", "cuda:1", "folder", "nmnist", "8C3", ".nan", "010", "&a", "*a", "!!x", "[1", '"x']
VALUES = st.sampled_from([*PLAIN, *LISTS, *MAPPINGS, *WORDS])
KEYS = st.sampled_from(["seeds", "export", "description", "reproduces", "nothing", *setting_keys()])


@given(sets=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
def test_any_override_is_applied_or_explained(sets: list[tuple[str, str]], folder: Path) -> None:
    (folder / "recipe.yaml").write_text(
        "runs: {a: , b: {compression: {mode: ternary}}, c: {objective: {kind: twin, alpha: 1}}}\n"
    )
    says = []
    try:
        loaded = load("recipe.yaml", overrides=[f"{key}={value}" for key, value in sets])
        assert loaded.altered
    except RecipeError as error:
        says = str(error).split("\n")
    assert all(line.startswith("--set: ") for line in says)
    assert not [word for word in JARGON if word in "".join(says)]
    assert len(set(says)) == len(says)
