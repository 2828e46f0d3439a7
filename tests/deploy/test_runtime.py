"""The run-time of its own: the same files read, the same refused, the same bits, and nothing but NumPy."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tnacli
from tests.deploy.conftest import KINDS, Quickstart
from tests.deploy.conftest import quickstart as quickstart
from tests.documents import ROOT
from tests.packed.conftest import network as network
from tests.packed.conftest import packed as packed
from tests.packed.conftest import packed_bytes as packed_bytes
from tests.packed.described import NETWORKS, described, inputs_of
from tests.packed.networks import make_inputs, make_network, make_packed
from tests.packed.test_sealed import CASES, DESCRIBED_CASES, RESIDUAL_CASES, Change, resealed
from tests.packed.test_sealed import residual as residual
from tnacli.errors import FileFormatError, TnaError
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import from_bytes, to_bytes
from tnacli.recipe.schema.section import Section

RUNTIME = ROOT / "runtime"
FOREIGN = {
    "torch",
    "torchvision",
    "pydantic",
    "pydantic_core",
    "typer",
    "rich",
    "safetensors",
    "sklearn",
    "scipy",
    "PIL",
    "tnacli",
}

pytestmark = pytest.mark.skipif(not RUNTIME.exists(), reason="only in a checkout")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel of it has it."""
    folder = tmp_path_factory.mktemp("runtime")
    package = folder / "tnacli_runtime"
    collector().collect(package)
    for own in (RUNTIME / "tnacli_runtime").glob("*.py"):
        (package / own.name).write_bytes(own.read_bytes())
    return folder


def collector() -> ModuleType:
    spec = importlib.util.spec_from_file_location("collect", RUNTIME / "collect.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def module(place: Path) -> Callable[[str], Any]:
    """A module of the run-time, by its name in the package."""
    sys.path.insert(0, str(place))
    try:
        importlib.import_module("tnacli_runtime")
        return lambda name: importlib.import_module(f"tnacli_runtime.{name}")
    finally:
        sys.path.remove(str(place))


def plain(value: Any) -> Any:
    """A document as dictionaries and tuples, with the type of each number."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    fields = {name: getattr(value, name) for name in getattr(type(value), "__annotations__", {})}
    return {name: plain(one) for name, one in fields.items()} if fields else (type(value), value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("native", [True, False])
def test_the_same_bits(kind: dict[str, Any], native: bool, module: Callable[[str], Any]) -> None:
    small = make_network(**kind)
    data, inputs = to_bytes(make_packed(small)), make_inputs(small, 9).numpy()
    ours = PackedSNN(from_bytes(data))(inputs)
    theirs = module("packed.file").from_bytes(data)
    assert type(theirs).__module__ == "tnacli_runtime.packed.network"
    found = module("packed.engine").PackedSNN(theirs, native=native)(inputs)
    np.testing.assert_array_equal(found, ours)
    assert found.dtype == ours.dtype
    assert plain(theirs.about) == plain(from_bytes(data).about)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits_of_what_no_layout_has(name: str, module: Callable[[str], Any]) -> None:
    network = described(NETWORKS[name])
    data, inputs = to_bytes(network), inputs_of(network, 9)
    theirs = module("packed.file").from_bytes(data)
    np.testing.assert_array_equal(module("packed.engine").PackedSNN(theirs)(inputs), PackedSNN(network)(inputs))
    assert plain(theirs.about) == plain(network.about)


@pytest.mark.parametrize(("change", "what"), CASES)
def test_the_same_files_are_refused_for_the_same_reason(
    packed_bytes: bytes, change: Change, what: str, module: Callable[[str], Any]
) -> None:
    _refused_alike(resealed(packed_bytes, change), what, module)


@pytest.mark.parametrize(("change", "what"), RESIDUAL_CASES)
def test_the_same_residual_networks_are_refused(
    residual: bytes, change: Change, what: str, module: Callable[[str], Any]
) -> None:
    _refused_alike(resealed(residual, change), what, module)


@pytest.mark.parametrize(("name", "change", "what"), DESCRIBED_CASES)
def test_the_same_networks_of_no_layout_are_refused(
    name: str, change: Change, what: str, module: Callable[[str], Any]
) -> None:
    _refused_alike(resealed(to_bytes(described(NETWORKS[name])), change), what, module)


def _refused_alike(data: bytes, what: str, module: Callable[[str], Any]) -> None:
    error = module("errors").FileFormatError
    with pytest.raises(error, match=f"^net.tna: .*{what}") as found:
        module("packed.file").from_bytes(data, "net.tna")
    with pytest.raises(FileFormatError) as ours:
        from_bytes(data, "net.tna")
    assert found.value.exit_code == ours.value.exit_code


VALUES = (
    "null", "true", "false", "0", "1", "2", "-0", "1.0", "2.0", "0.5", "-1", "3", "16384", "16385", "1e2", "1e400", "1e-60",
    "4294967296", "4294967297", "1" + "0" * 400, '""', '"a"', '"a\\n"', '"A"', '"a_1"', '"\\ud800"', '"\\ud83d\\ude00"', '"1"',
    '"conv"', '"fc"', '"images"', '"fp32"', '"ternary2"', '"auto"', "[]", "[1]", "[2,3]", "[2,true]", "[2,3.0]", "[0,1]",
    "[9,6,3,3]", "[9,6,3]",
    '["a"]', '["a","b"]', "[0.5]", "[1,1]", "[0.0,1.0]", "{}", '{"a":1}', '{"source":"conv1","convolution":null}',
    '{"source":"conv1","convolution":{"weight":[9,6,1,1],"stride":2,"encoding":"ternary2","binary":false}}',
    '{"source":"conv1","convolution":{"weight":[9,6,1,1],"stride":3,"encoding":"ternary2","binary":0}}',
)  # fmt: skip


def test_every_key_takes_what_it_takes_in_tnacli(module: Callable[[str], Any]) -> None:
    """Each value of those above at each key of each section, and each key left out: taken as the same, or refused at one key."""
    theirs, ours = module("packed.spec"), importlib.import_module("tnacli.packed.spec")
    taken = refused = 0
    for name, whole in SECTIONS.items():
        for text in [whole, *variants(whole)]:
            found = outcome(getattr(theirs, name), text)
            assert found == outcome(getattr(ours, name), text), (name, text)
            taken, refused = taken + (found[0] == "taken"), refused + (found[0] == "refused")
    assert taken > 100
    assert refused > 1000


SECTIONS = {
    "InputSpec": '{"kind":"images","channels":2,"size":[9,8],"mean":[0.4,0],"std":[0.3,1]}',
    "NeuronSpec": '{"decay":0.5,"threshold":1,"subtract":1.5,"most_spikes":2,"lowest":-1}',
    "ConvolutionSpec": '{"weight":[9,6,1,1],"stride":2,"encoding":"ternary2","binary":false}',
    "ShortcutSpec": '{"source":"conv1","convolution":null}',
    "MaxPoolSpec": '{"of":"spikes","size":3,"stride":2,"padding":1}',
    "LayerSpec": '{"name":"a","kind":"conv","weight":[9,6,3,3],"pool":1,"encoding":"fp32","binary":false,"stride":1,'
    '"shortcut":null,"max_pool":{"of":"currents","size":2,"stride":2,"padding":0},"neuron":{"decay":1,"threshold":2},"padding":0,"groups":2}',
    "ReadoutSpec": '{"weight":[5,7],"leak":1.0}',
    "Origin": '{"data_set":"a","recipe":"b","run":"c","seed":0,"identity":"d","altered":["é"],"accuracy":92.5,"format":"auto",'
    '"binning":"time","sensor":[3,4],"test_samples":60}',
}


def variants(whole: str) -> list[str]:
    keys = {key: json.dumps(value) for key, value in json.loads(whole).items()}

    def joined(keys: dict[str, str]) -> str:
        return "{" + ",".join(f'"{key}":{value}' for key, value in keys.items()) + "}"

    changed = [joined(keys | {key: value}) for key in (*keys, "extra") for value in VALUES]
    return changed + [joined({key: value for key, value in keys.items() if key != out}) for out in keys] + ["[]", "1"]


def outcome(section: Any, text: str) -> tuple[str, Any, Any]:
    try:
        read = section.model_validate_json(text)
    except ValueError as error:
        # Of a choice, pydantic's keys go on into what was tried; of half a character it names none.
        keys = None if "\\ud800" in text else {tuple(item["loc"][:1]) for item in error.errors()}  # type: ignore[attr-defined]
        return "refused", keys, None
    return "taken", plain(read), set(read.model_fields_set)


class _Unbounded(Section):
    x: float


def test_numbers_without_bounds_are_finite_too(module: Callable[[str], Any]) -> None:
    theirs = type("_Unbounded", (module("checked").BaseModel,), {"__annotations__": {"x": float}})
    for value in VALUES:
        text = f'{{"x":{value}}}'
        assert outcome(theirs, text) == outcome(_Unbounded, text), text


def test_a_read_section_cannot_be_changed(module: Callable[[str], Any]) -> None:
    read = module("packed.spec").NeuronSpec.model_validate_json(SECTIONS["NeuronSpec"])
    with pytest.raises(AttributeError):
        read.decay = 1.0
    assert not isinstance(read, Section)


def run(
    python: Path | str, place: Path | None, *words: object, code: str | None = None
) -> subprocess.CompletedProcess[str]:
    start = ["-m", "tnacli_runtime"] if code is None else ["-c", code]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if place is not None:
        environment["PYTHONPATH"] = str(place)
    return subprocess.run(
        [str(python), *start, *map(str, words)], capture_output=True, text=True, check=False, env=environment
    )


_LOADED = (
    "import sys\nimport numpy, tnacli_runtime.command\n"
    "logits = tnacli_runtime.load(sys.argv[1])(numpy.load(sys.argv[2]))\n"
    "print(logits.tobytes().hex())\n"
    "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
)


def same_bits_from_numpy_alone(python: Path | str, place: Path | None, quickstart: Quickstart, pixels: Path) -> None:
    done = run(python, place, quickstart.file, pixels, code=_LOADED)
    assert (done.returncode, done.stderr) == (0, "")
    logits, loaded = done.stdout.splitlines()
    assert set(loaded.split()) & FOREIGN == set()
    assert {"numpy", "tnacli_runtime"} <= set(loaded.split())
    expected = tnacli.load(quickstart.file)(quickstart.pixels.numpy())
    assert logits == expected.tobytes().hex()


@pytest.fixture
def pixels(quickstart: Quickstart, tmp_path: Path) -> Path:
    np.save(tmp_path / "pixels.npy", quickstart.pixels.numpy())
    return tmp_path / "pixels.npy"


def test_it_loads_numpy_alone(place: Path, quickstart: Quickstart, pixels: Path) -> None:
    same_bits_from_numpy_alone(sys.executable, place, quickstart, pixels)


def test_predict_prints_what_tna_predict_does(
    place: Path, quickstart: Quickstart, tmp_path: Path, tna: Callable[..., Any]
) -> None:
    picture, array = tmp_path / "digit.png", tmp_path / "digit.npy"
    Image.fromarray(quickstart.pixels[0, 0].numpy()).save(picture)
    np.save(array, quickstart.pixels[0].numpy())
    for options in ([], ["--top", "3"], ["--csv"], ["--top", "10", "--csv"]):
        expected = tna("predict", quickstart.file, picture, *options).out
        done = run(sys.executable, place, "predict", quickstart.file, picture, *options)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", expected)
        done = run(sys.executable, place, "predict", quickstart.file, array, *options)
        assert done.stdout == expected.replace(str(picture), str(array))


def test_what_is_done_to_an_image_is_said(place: Path, quickstart: Quickstart, tmp_path: Path) -> None:
    Image.new("RGB", (20, 30)).save(tmp_path / "large.png")
    done = run(sys.executable, place, "predict", quickstart.file, tmp_path / "large.png")
    large = tmp_path / "large.png"
    assert (done.returncode, done.stderr) == (0, f"{large}: colour made gray\n{large}: resized to 8x8\n")


def test_samples_of_an_array_are_numbered(place: Path, quickstart: Quickstart, pixels: Path) -> None:
    done = run(sys.executable, place, "predict", quickstart.file, pixels, "--csv")
    rows = [line.split(",") for line in done.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == [f"{pixels}[{n}]" for n in range(len(quickstart.pixels))]
    assert [int(row[3]) for row in rows] == quickstart.expected.argmax(1).tolist()


def test_floats_are_marked(place: Path, quickstart: Quickstart, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", quickstart.pixels[:5].numpy())
    np.save(tmp_path / "unit.npy", (quickstart.pixels[:5].float() / 255).numpy())
    np.save(tmp_path / "normalised.npy", quickstart.inputs[:5].numpy())

    def predicted(name: str, *options: str) -> str:
        done = run(sys.executable, place, "predict", quickstart.file, tmp_path / f"{name}.npy", "--csv", *options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.replace(f"{name}.npy", "")

    assert predicted("unit", "--unit") == predicted("normalised", "--normalised") == predicted("pixels")


def _cut(file: Path, to: Path) -> Path:
    to.write_bytes(file.read_bytes()[:-5])
    return to


def test_errors_have_the_exit_codes_of_tnacli(
    place: Path, quickstart: Quickstart, pixels: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "floats.npy", np.zeros((2, 1, 8, 8), np.float32))
    np.save(tmp_path / "other.npy", np.zeros((2, 1, 9, 8), np.uint8))
    np.save(tmp_path / "number.npy", np.uint8(3))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    file = quickstart.file
    cases: list[tuple[list[Any], int, str]] = [
        ([tmp_path / "none", pixels], 8, "no such file"),
        ([_cut(file, tmp_path / "cut"), pixels], 8, "truncated"),
        ([quickstart.checkpoint, pixels], 8, "this is a checkpoint"),
        ([file, tmp_path / "none.npy"], 4, "none.npy: no such file"),
        ([file, tmp_path], 4, "is a folder"),
        ([file, tmp_path / "floats.npy"], 4, "floats.npy: images are uint8 pixels from 0 to 255, not float32; say --unit if"),
        ([file, tmp_path / "other.npy"], 4, "other.npy: the network takes images of Nx1x8x8; these are 2x1x9x8"),
        ([file, tmp_path / "number.npy"], 4, "a single number"),
        ([file, tmp_path / "objects.npy"], 4, "cannot be read as an array"),
        ([file, tmp_path / "empty.npy"], 4, "cannot be read as an array"),
        ([file, tmp_path / "text.png"], 4, "cannot be decoded"),
        ([file, pixels, "--top", 11], 2, "--top 11: from 1 to the 10 classes"),
        ([file, tmp_path / "text.png", "--unit"], 2, "images hold pixels"),
        ([file], 2, "SAMPLES"),
    ]  # fmt: skip
    for words, code, said in cases:
        done = run(sys.executable, place, "predict", *words)
        assert (done.returncode, done.stdout) == (code, ""), (words, done.stderr)
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_images_without_pillow_are_a_matter_of_installing_it(
    place: Path, quickstart: Quickstart, tmp_path: Path
) -> None:
    Image.fromarray(quickstart.pixels[0, 0].numpy()).save(tmp_path / "digit.png")
    code = "import sys; sys.modules['PIL'] = None; from tnacli_runtime.command import main; main()"
    done = run(sys.executable, place, "predict", quickstart.file, tmp_path / "digit.png", code=code)
    assert done.returncode == 2
    assert "pip install tnacli-runtime[images]" in done.stderr


def test_its_errors_are_those_of_tnacli(module: Callable[[str], Any]) -> None:
    ours = {one.__name__: one.exit_code for one in TnaError.__subclasses__()}
    assert ours == {one.__name__: one.exit_code for one in module("errors").TnaError.__subclasses__()}


def program(environment: Path, name: str = "python") -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin") / name


@pytest.mark.slow
def test_the_wheel_in_an_environment_with_numpy_alone(quickstart: Quickstart, pixels: Path, tmp_path: Path) -> None:
    """Built from the checkout and from the source distribution, which are the same; installed with what it asks for alone."""

    def pip(*words: object) -> str:
        return subprocess.run(
            [sys.executable, "-m", "pip", *map(str, words)], check=True, capture_output=True, text=True
        ).stdout

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "builds"], check=True)
    builder = program(tmp_path / "builds")
    subprocess.run([builder, "-m", "pip", "install", "-q", "build"], check=True)
    subprocess.run(
        [builder, "-m", "build", "-q", "-o", tmp_path / "both", RUNTIME], check=True
    )  # the wheel from the sdist
    pip("wheel", "-q", "--no-deps", "-w", tmp_path / "one", RUNTIME)
    (wheel,), (other,) = (tmp_path / "both").glob("*.whl"), (tmp_path / "one").glob("*.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(other) as second:
        names = {name for name in first.namelist() if not name.endswith("/RECORD")}
        assert {name: first.read(name) for name in names} == {
            name: second.read(name) for name in second.namelist() if not name.endswith("/RECORD")
        }
        assert "tnacli_runtime/native/engine.c" in names
        assert sum(one.file_size for one in first.infolist()) < 1_000_000
    assert wheel.stat().st_size < 200_000
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "fresh"], check=True)
    python = program(tmp_path / "fresh")
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout
    assert {line.partition("==")[0] for line in listed.splitlines()} - {"pip", "setuptools"} == {
        "numpy",
        "tnacli-runtime",
    }
    same_bits_from_numpy_alone(python, None, quickstart, pixels)
    done = subprocess.run(
        [program(tmp_path / "fresh", "tna-run"), "predict", quickstart.file, pixels],
        check=True,
        capture_output=True,
        text=True,
    )
    assert len(done.stdout.splitlines()) == 1 + len(quickstart.pixels)
