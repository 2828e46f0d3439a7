"""The tables of forms: the pages have what was recorded, and what was recorded is what the forms are now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("only in a checkout", allow_module_level=True)

import tnacli  # noqa: E402
from benchmarks import form_tables, forms  # noqa: E402
from benchmarks.form_tables import FORMS, Outcome  # noqa: E402
from tnacli.deploy import c_build  # noqa: E402
from tnacli.evaluation.energy import Activity  # noqa: E402

ABOUT, OUTCOMES = form_tables.recorded()
RECORDED = {outcome.form: outcome for outcome in OUTCOMES}
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def activity() -> Activity:
    packed, _, inputs = forms.digits()
    return forms.activity_of(packed, inputs)


def energies(outcome: Outcome) -> tuple[float, float]:
    return outcome.energy_nj, outcome.with_memory_nj


def test_the_pages_have_the_tables_of_what_was_recorded() -> None:
    assert list(RECORDED) == list(FORMS)
    for file, name in zip(form_tables.PAGES, form_tables.tables(ABOUT, OUTCOMES), strict=True):
        text = file.read_text(encoding="utf-8")
        assert f"<!-- {name} -->" in text
        assert text == form_tables.page(text, ABOUT, OUTCOMES), "run `python -m benchmarks.forms --record`"


@pytest.mark.parametrize("form", ["onnx", "onnx float", "nir", "c", "c integer"])
def test_every_form_is_as_large_and_as_near_as_its_row_says(form: str, activity: Activity) -> None:
    for package in {"onnx": ("onnx", "onnxruntime"), "nir": ("nir",)}.get(form.split()[0], ()):
        pytest.importorskip(package, reason=f"needs the extra {package}")
    if form.startswith("c") and c_build.compiler() is None:
        pytest.skip("no C compiler on this machine")
    packed, _, _ = forms.digits()
    found, said = forms.measure_exported(form, packed, activity, timed=False), RECORDED[form]
    assert energies(found) == pytest.approx(energies(said), rel=1e-4)
    assert found.size_bytes == pytest.approx(said.size_bytes, rel=0.01)  # versions of the libraries
    assert found.agreeing == said.agreeing
    assert found.ram_bytes == said.ram_bytes or not same_compiler()
    if said.flash_bytes is not None and found.flash_bytes is not None:
        assert found.flash_bytes == pytest.approx(said.flash_bytes, rel=0.01 if same_compiler() else 0.2)


def same_compiler() -> bool:
    return forms.compiler_version() == ABOUT["compiler"]


def test_energies_of_the_other_rows(activity: Activity) -> None:
    assert energies(RECORDED["packed"]) == pytest.approx(forms.energies(activity, FORMS["packed"]), rel=1e-4)
    # Reading weights in as many bits as the packed file has is what --activity counts of it.
    assert forms.energies(activity, FORMS["packed"]) == pytest.approx(
        (activity.energy_nj, activity.energy_nj + activity.memory_nj)
    )
    assert energies(RECORDED["checkpoint"]) == pytest.approx(forms.energies(activity, FORMS["checkpoint"]), rel=1e-4)
    assert energies(RECORDED["ann"]) == pytest.approx(energies(forms.without_spikes(activity)), rel=1e-4)
    assert RECORDED["packed"].size_bytes == forms.DIGITS.stat().st_size


@pytest.mark.slow
def test_energy_in_full_precision(tmp_path: Path) -> None:
    (trained,) = tnacli.train("quickstart", run="tna", seed=0, out=tmp_path, quiet=True)
    found = forms.full_precision(trained.checkpoint, forms.digits()[2])
    said = RECORDED["fp32"]
    # Other vector instructions sum in another order, which training amplifies.
    assert energies(said) == pytest.approx(forms.energies(found, FORMS["fp32"]), rel=0.1)
    assert trained.checkpoint.stat().st_size == pytest.approx(said.size_bytes, rel=0.01)


def test_the_page_counts_operations_as_they_are(activity: Activity) -> None:
    rows = {layer.name: layer for layer in activity.layers}
    prices = activity.prices
    for name, layer in rows.items():
        rate = "" if layer.firing_rate is None else f"{layer.firing_rate:.4f}"
        cells = [
            name, rate, *(f"{n:,.0f}" for n in (layer.macs, layer.additions, layer.additions_nonzero)),
            f"{layer.energy_pj(prices) / 1000:.2f}", f"{layer.memory_pj(prices) / 1000:.2f}", f"{layer.ann_macs:,.0f}",
            f"{layer.ann_macs * prices.mac_pj / 1000:.2f}",
        ]  # fmt: skip
        assert f"| {' | '.join(cells)} |".replace("  ", " ") in DEPLOYMENT
    totals = [f"{activity.total(of):,.0f}" for of in ("macs", "additions", "additions_nonzero")]
    energy = [f"{activity.energy_nj:.2f}", f"{activity.memory_nj:.2f}"]
    without = [f"{activity.total('ann_macs'):,.0f}", f"{activity.ann_energy_nj:.2f}"]
    assert f"| sum | | {' | '.join([*totals, *energy, *without])} |" in DEPLOYMENT


def test_the_prose_says_the_same_energies() -> None:
    said = re.search(
        r"With memory that is (\d+) nJ, and (\d+) nJ without spikes. In full precision \(`tna`\) it is (\d+) nJ with memory.*?"
        r"Without\nmemory it is (\d+) nJ",
        DEPLOYMENT,
        re.DOTALL,
    )
    assert said is not None
    full = RECORDED["fp32"]
    expected = (RECORDED["packed"].with_memory_nj, RECORDED["ann"].with_memory_nj, full.with_memory_nj, full.energy_nj)
    assert tuple(map(int, said.groups())) == tuple(map(round, expected))
