"""What a recipe comes to: what is laid over what, where it came from, and which runs follow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tnacli.errors import RecipeError, UsageError
from tnacli.recipe.parse.find import list_overlays, list_recipes
from tnacli.recipe.parse.load import Loaded, load, plan
from tnacli.recipe.parse.node import Location
from tnacli.recipe.schema.compression import Binary, Ternary
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill, Solo, Twin
from tnacli.recipe.schema.recipe import Settings, as_json
from tnacli.recipe.schema.reproduces import Reproduces

Load = Callable[..., Loaded]


def test_an_empty_run_has_every_default(load_text: Load) -> None:
    loaded = load_text("runs: {a: , b: {}}\n")
    assert loaded.recipe.runs == {"a": Settings(), "b": Settings()}
    assert loaded.origins == {"a": {}, "b": {}}
    assert (loaded.recipe.name, loaded.recipe.seeds, loaded.altered) == ("recipe", (0,), ())
    assert loaded.path == Path("recipe.yaml")


def test_each_layer_covers_the_ones_below(load_text: Load) -> None:
    base = "train: {epochs: 11, batch_size: 11}\nruns: {a: {model: {timesteps: 11}}}\n"
    recipe = """
extends: base.yaml
train: {epochs: 12}
model: {timesteps: 12, width: 0.12}
runs:
  a:
    train: {epochs: 13}
    data: {train_samples: 13}
  b:
"""
    one = "train: {epochs: 14}\ndata: {train_samples: 14}\n"
    two = "train: {epochs: 15}\ndata: {test_samples: 15}\n"
    none = load_text(recipe, base=base)
    a, b = none.recipe.runs["a"], none.recipe.runs["b"]
    assert (a.train.epochs, a.train.batch_size, a.model.timesteps, a.model.width) == (13, 11, 11, 0.12)
    assert (b.train.epochs, b.train.batch_size, b.model.timesteps, b.data.train_samples) == (12, 11, 12, None)

    overlaid = load_text(recipe, overlays=("one.yaml", "two.yaml"), base=base, one=one, two=two)
    for run in overlaid.recipe.runs.values():
        assert (run.train.epochs, run.data.train_samples, run.data.test_samples) == (15, 14, 15)

    overridden = load_text(
        recipe, "train.epochs=16", "runs.a.train.epochs=17", "model.width=0.5", "model.width=0.25",
        overlays=("one.yaml",), base=base, one=one,
    )  # fmt: skip
    assert [run.train.epochs for run in overridden.recipe.runs.values()] == [17, 16]
    assert {run.model.width for run in overridden.recipe.runs.values()} == {0.25}
    epochs, width = ("train.epochs=16", "runs.a.train.epochs=17"), ("model.width=0.5", "model.width=0.25")
    assert overridden.altered == ("with one", *(f"set {text}" for text in (*epochs, *width)))
    assert overridden.origins["a"] == {
        "train.epochs": Location("--set"),
        "train.batch_size": Location("base.yaml", 1),
        "model.timesteps": Location("base.yaml", 2),
        "model.width": Location("--set"),
        "data.train_samples": Location("one.yaml", 2),
    }


def test_an_extension_inherits_all_but_name_and_description(load_text: Load) -> None:
    base = """
name: base
description: the base
seeds: [4, 5]
export: true
objective: {kind: twin, alpha: 0.5}
reproduces: {tables: [1], accuracy: {a: 90.0}}
runs: {a: {train: {epochs: 3}}, b: }
"""
    recipe = "extends: base.yaml\nruns: {a: , c: {objective: {kind: solo}}, b: {train: {epochs: 4}}}\n"
    loaded = load_text(recipe, base=base).recipe
    assert (loaded.name, loaded.description, loaded.seeds, loaded.export) == ("recipe", "", (4, 5), True)
    assert loaded.reproduces.accuracy == {"a": 90.0}
    assert list(loaded.runs) == ["a", "b", "c"]
    assert [run.train.epochs for run in loaded.runs.values()] == [3, 4, 250]
    assert [type(run.objective) for run in loaded.runs.values()] == [Twin, Twin, Solo]
    none = load_text("extends: base.yaml\nreproduces: null\n", base=base).recipe
    assert none.reproduces.tables == ()
    assert list(none.runs) == ["a", "b"]


def test_extends_looks_beside_the_file_then_among_the_shipped(load_text: Load, shipped: Path, folder: Path) -> None:
    assert load_text("extends: quickstart\n").recipe.runs.keys() == {"a"}
    assert load_text("extends: _common.yaml\nruns: {x: }\n").recipe.runs["x"].train.epochs == 7
    (folder / "sub").mkdir()
    (folder / "sub" / "quickstart").write_text("runs: {mine: }\n")
    (folder / "sub" / "recipe.yaml").write_text("extends: quickstart\n")
    assert load(folder / "sub" / "recipe.yaml").recipe.runs.keys() == {"mine"}
    (folder / "elsewhere.yaml").write_text("runs: {a: }\n")
    (folder / "sub" / "recipe.yaml").write_text("extends: elsewhere.yaml\n")
    with pytest.raises(RecipeError, match=r"sub/elsewhere\.yaml is no file"):
        load("sub/recipe.yaml")


def test_a_run_of_another_kind_starts_afresh(load_text: Load) -> None:
    text = """
objective: {kind: twin, alpha: 0.5, match: kl, temperature: 2.0}
compression: {mode: ternary, delta: 0.3, start: 5}
runs:
  a:
  b: {objective: {kind: distill, alpha: 0.1}, compression: {mode: binary}}
  c: {objective: {kind: solo}, compression: null}
"""
    a, b, c = load_text(text).recipe.runs.values()
    assert (a.objective, a.compression) == (
        Twin(alpha=0.5, match="kl", temperature=2.0),
        Ternary(delta=0.3, start=5),
    )
    assert (b.objective, b.compression) == (Distill(alpha=0.1), Binary())
    assert (c.objective, c.compression) == (Solo(), None)


MIXED = """
runs:
  full:
  ternary: {compression: {mode: ternary}}
  binary: {compression: {mode: binary}}
  twin: {objective: {kind: twin, alpha: 1}}
  distill: {objective: {kind: distill, alpha: 1}}
"""


def test_overlays_and_overrides_act_on_the_runs_that_have_the_setting(load_text: Load) -> None:
    overlay = "compression: {start: 1, delta: 0.5}\nobjective: {alpha: 2, cross_entropy: false}\n"
    overlaid = load_text(MIXED, overlays=("o.yaml",), o=overlay)
    sets = ["compression.start=1", "compression.delta=0.5", "objective={alpha: 2}"]
    overridden = load_text(MIXED, *sets, "objective.cross_entropy=false")
    for loaded in (overlaid, overridden):
        runs = loaded.recipe.runs
        assert runs["full"] == Settings()
        assert runs["ternary"].compression == Ternary(start=1, delta=0.5)
        assert runs["binary"].compression == Binary(start=1)
        assert runs["twin"].objective == Twin(alpha=2)
        assert runs["distill"].objective == Distill(alpha=2, cross_entropy=False)
    assert overlaid.origins["binary"]["compression.start"] == Location("o.yaml", 1)
    assert load_text("runs: {a: }\n", overlays=("o.yaml",), o=overlay).recipe.runs["a"] == Settings()


def test_a_kind_given_by_an_override_takes_effect_everywhere(load_text: Load) -> None:
    runs = load_text(MIXED, "compression.mode=binary", "compression.start=0").recipe.runs
    assert {str(run.compression) for run in runs.values()} == {str(Binary(start=0))}
    runs = load_text(MIXED, "compression=null", "objective={kind: twin, alpha: 3}").recipe.runs
    assert all(run.compression is None and run.objective == Twin(alpha=3) for run in runs.values())


def test_overlays_may_set_seeds_and_keep_their_description(load_text: Load) -> None:
    text = "description: mine\nseeds: [1, 2, 3]\nruns: {a: }\n"
    loaded = load_text(text, overlays=("o.yaml",), o="description: small\nseeds: [7]\nexport: true\n")
    assert (loaded.recipe.seeds, loaded.recipe.description, loaded.recipe.export) == ((7,), "mine", True)
    assert load_text(text, "seeds=[0,1]").recipe.seeds == (0, 1)


@given(value=st.text(st.characters(codec="ascii", exclude_categories=["C"])).map(lambda text: f"/d={text}"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_value_may_hold_an_equals_sign(value: str, folder: Path) -> None:
    (folder / "recipe.yaml").write_text("data: {name: cifar10}\nruns: {a: }\n")
    loaded = load("recipe.yaml", overrides=[f"data.root={value}"])
    assert loaded.recipe.runs["a"].data.root == str(Path(value.strip()))  # a path: "/d=/" is "/d="
    assert loaded.altered == (f"set data.root={value.strip()}",)


def test_overrides_of_one_run_find_names_with_dots(load_text: Load) -> None:
    text = "runs: {a: , a.b: , a.b.c: }\n"
    runs = load_text(text, "runs.a.b.train.epochs=3", "runs.a.b.c={train: {epochs: 4}}").recipe.runs
    assert [run.train.epochs for run in runs.values()] == [250, 3, 4]


def test_a_null_override_gives_the_default_back(load_text: Load) -> None:
    text = "data: {name: cifar10, train_samples: 50}\nruns: {a: }\n"
    for null in ("", "null", "~"):
        assert load_text(text, f"data.train_samples={null}").recipe.runs["a"].data.train_samples is None


TAKEN_BACK = {
    "train.epochs": ("train: {epochs: 11}", "train: {epochs: null}"),
    "train": ("train: {epochs: 11, batch_size: 11}", "train: null"),
    "objective": ("objective: {kind: twin, alpha: 1, match: kl}", "objective: ~"),
    "objective.match": ("objective: {kind: twin, alpha: 1, match: kl}", "objective: {match: null}"),
    "compression": ("compression: {mode: binary, start: 1}", "compression: null"),
    "model.layout": ("model: {layout: 8FC}", "model: {layout: null}"),
    "model.args": ("model: {build: 'm:f', args: {a: {b: 1}}}", "model: {args: null}"),
    "model.args.a": ("model: {build: 'm:f', args: {a: {b: 1}}}", "model: {args: {a: null}}"),
}


@pytest.mark.parametrize("key", TAKEN_BACK)
@pytest.mark.parametrize("where", ["file", "run", "overlay", "override"])
def test_what_is_null_is_as_if_nobody_had_said_it(key: str, where: str, load_text: Load) -> None:
    below, above = TAKEN_BACK[key]
    without = {"objective.match": "objective: {kind: twin, alpha: 1}", "model.args": "model: {build: 'm:f'}"}
    without["model.args.a"] = without["model.args"]
    expected = load_text(f"{without.get(key, '')}\nruns: {{a: }}\n").recipe.runs["a"]
    base = f"{below}\nruns: {{a: {{ {below} }}}}\n"
    if where in ("file", "run"):
        upper = f"{above}\nruns: {{a: {{ {above} }}}}\n" if where == "file" else f"runs: {{a: {{ {above} }}}}\n"
        found = load_text(f"extends: base.yaml\n{upper}", base=base)
    elif where == "overlay":
        found = load_text(base, overlays=("o.yaml",), o=above)
    else:
        found = load_text(base, f"{key}=null")
    assert found.recipe.runs["a"] == expected


def test_what_was_taken_back_can_be_said_anew(load_text: Load) -> None:
    base = "runs: {a: {objective: {kind: twin, alpha: 1, match: kl}}, b: {train: {epochs: 3}}}\n"
    middle = "extends: base.yaml\nruns: {a: {objective: null}, b: null}\n"
    top = "extends: middle.yaml\nruns: {a: {objective: {kind: twin, alpha: 2}}, b: {train: {batch_size: 7}}}\n"
    runs = load_text(top, base=base, middle=middle).recipe.runs
    assert runs["a"].objective == Twin(alpha=2)
    assert (runs["b"].train.epochs, runs["b"].train.batch_size) == (250, 7)


def test_a_layout_gives_way_to_a_function_and_back(load_text: Load) -> None:
    base = "model: {layout: 8FC}\nruns: {a: {model: {layout: null, build: 'm:f'}}}\n"
    assert load_text(base).recipe.runs["a"].model == Model(build="m:f")
    back = load_text("extends: base.yaml\nruns: {a: {model: {build: null, layout: 9FC}}}\n", base=base)
    assert back.recipe.runs["a"].model == Model(layout="9FC")


BASE = """\
runs: {a: , b: {train: {epochs: 3}}, c: }
reproduces:
  accuracy: {a: 90, b: 91, c: 92}
  effects:
    - {run: b, minus: a}
    - {run: c, minus: a}
"""


def test_a_run_that_is_null_is_not_there_nor_what_was_said_of_it(load_text: Load) -> None:
    for loaded in (
        load_text("extends: base.yaml\nruns: {b: null}\n", base=BASE),
        load_text(BASE, "runs.b=null"),
        load_text("extends: base.yaml\n", "runs.b.train.epochs=4", "runs.b=null", base=BASE),
    ):
        assert list(loaded.recipe.runs) == ["a", "c"] == list(loaded.origins)
        assert loaded.recipe.reproduces.accuracy == {"a": 90, "c": 92}
        assert [effect.run for effect in loaded.recipe.reproduces.effects] == ["c"]
    none = load_text("extends: base.yaml\nruns: {b: }\nreproduces: {accuracy: {a: null}, effects: null}\n", base=BASE)
    assert list(none.recipe.runs) == ["a", "b", "c"]
    assert none.recipe.reproduces == Reproduces(accuracy={"b": 91, "c": 92})


def test_every_part_of_a_recipe_can_be_null(load_text: Load) -> None:
    base = "description: x\nseeds: [1, 2]\nexport: true\nreproduces: {tables: [1]}\nruns: {a: }\n"
    upper = "extends: base.yaml\nname: null\nseeds: null\nexport: null\nreproduces: null\n"
    found = load_text(upper, base=base).recipe
    assert found == load_text("runs: {a: }\n").recipe
    assert load_text("extends: null\nruns: {a: }\n").recipe == found


def test_plan_completes_one_seed_before_the_next(load_text: Load) -> None:
    loaded = load_text("name: x\nseeds: [3, 1]\nruns: {b: , a: }\n", "model.width=0.5")
    runs = plan(loaded)
    assert [(run.seed, run.name) for run in runs] == [(3, "b"), (3, "a"), (1, "b"), (1, "a")]
    assert {(run.recipe, run.altered) for run in runs} == {("x", ("set model.width=0.5",))}
    assert [(run.seed, run.name) for run in plan(loaded, runs=["a", "b"], seeds=[9])] == [(9, "b"), (9, "a")]
    assert [run.name for run in plan(loaded, runs=["a"])] == ["a", "a"]


@pytest.mark.parametrize(
    ("runs", "seeds", "says"),
    [
        (["bsaeline"], [], "recipe has no run 'bsaeline'; runs: baseline, tna; did you mean 'baseline'?"),
        ([], [-1], "seed -1 is below 0; give each seed once, from 0 up"),
        ([], [1, 2, 1], "seed 1 is given twice; give each seed once, from 0 up"),
    ],
)
def test_plan_refuses_what_is_not_there(runs: list[str], seeds: list[int], says: str, load_text: Load) -> None:
    with pytest.raises(UsageError) as caught:
        plan(load_text("runs: {baseline: , tna: }\n"), runs=runs, seeds=seeds)
    assert str(caught.value) == says


def test_settings_read_back_as_they_were_stored(load_text: Load) -> None:
    text = MIXED + "  flat: {model: {layout: 8C3-AP2}}\n"
    loaded = load_text(text, "train.schedule.every=3", "data={name: cifar10, size: [16, 24]}")
    for run in loaded.recipe.runs.values():
        assert Settings.model_validate(as_json(run)) == run


def test_every_shipped_recipe_loads_under_every_overlay() -> None:
    assert list_recipes()
    for entry in list_recipes():
        for overlays in ((), *((overlay.name,) for overlay in list_overlays())):
            loaded = load(entry.name, overlays=overlays, overrides=["train.epochs=3"])
            assert entry.title == loaded.recipe.description.strip().partition("\n")[0] != ""
            assert loaded.path == entry.path
            for run in plan(loaded):
                assert run.settings.train.epochs == 3
                assert Settings.model_validate(as_json(run.settings)) == run.settings


def test_loading_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from tnacli.recipe.parse.describe import json_schema, resolved\n"
        "from tnacli.recipe.parse.find import list_recipes\n"
        "from tnacli.recipe.parse.load import load, plan\n"
        "loaded = load(list_recipes()[0].name)\n"
        "assert plan(loaded) and json_schema()\n"
        "print(sorted({'torch', 'numpy', 'tonic', 'torchvision', 'sklearn'} & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
