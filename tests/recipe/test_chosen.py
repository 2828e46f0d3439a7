"""What `digits_twin` compares was chosen as docs/results/protocol.md says: on other seeds, by held-out samples."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

from tests.documents import ROOT
from tnacli.recipe.parse.load import load
from tnacli.recipe.schema.objective import Twin
from tnacli.runs.ledger import read

CHOICE, COMPARISON = load("alpha_digits").recipe, load("digits_twin").recipe


def test_alpha_is_that_of_the_best_mean_on_held_out_samples() -> None:
    found = defaultdict(list)
    for entry in read(ROOT / "docs" / "results" / "alpha_digits.jsonl"):
        if not entry.result.altered:
            assert entry.result.data.samples["validation"] == 1000
            found[entry.result.run].append(entry.result.validation["base"])
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(CHOICE.runs, len(CHOICE.seeds))
    best = CHOICE.runs[max(found, key=lambda name: mean(found[name]))].objective
    twins = [s.objective for s in COMPARISON.runs.values() if isinstance(s.objective, Twin)]
    assert twins == [best, best]


def test_no_seed_is_chosen_on_and_compared() -> None:
    assert not set(CHOICE.seeds) & set(COMPARISON.seeds)


def test_nothing_but_the_samples_differs() -> None:
    chosen, compared = CHOICE.runs["tna_0.01"], COMPARISON.runs["tna"]
    assert chosen.model_copy(update={"data": compared.data}) == compared
    assert chosen.data.train_samples - chosen.data.validation_samples == compared.data.train_samples
