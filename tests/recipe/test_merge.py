"""Laying settings over settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnacli.recipe.parse.merge import fit, keys_of_no_kind, merge
from tnacli.recipe.parse.node import Location, Node, leaves, plain

KEYS = st.sampled_from("abcd")
TREES = st.dictionaries(
    KEYS, st.recursive(st.integers() | st.none(), lambda inner: st.dictionaries(KEYS, inner), max_leaves=8)
)


def node(value: Any, file: str = "file", key: str = "") -> Node:
    if isinstance(value, dict):
        inner = {name: node(child, file, f"{key}.{name}".strip(".")) for name, child in value.items()}
        return Node(inner, Location(file, 1), key)
    return Node(value, Location(file, 1), key)


def merged(*layers: Any) -> Any:
    tree = node(layers[0])
    for layer in layers[1:]:
        tree = merge(tree, node(layer))
    return plain(tree)


@given(tree=TREES)
def test_nothing_and_the_same_again_change_nothing(tree: dict[str, Any]) -> None:
    assert merged(tree, {}) == merged({}, tree) == merged(tree, tree) == tree


@given(lower=TREES, upper=TREES)
def test_the_upper_layer_wins_and_the_lower_one_keeps_the_rest(lower: dict[str, Any], upper: dict[str, Any]) -> None:
    found = dict(leaves(merge(node(lower, "lower"), node(upper, "upper"))))
    above, below = dict(leaves(node(upper, "upper"))), dict(leaves(node(lower, "lower")))
    for key, leaf in above.items():
        assert (found[key].value, found[key].origin.file) == (leaf.value, "upper")
    for key, leaf in below.items():
        if not replaced(key, upper):
            assert (found[key].value, found[key].origin.file) == (leaf.value, "lower")
    assert set(found) <= set(above) | set(below)


def replaced(key: str, upper: dict[str, Any]) -> bool:
    """Whether `upper` has something else at the dotted `key`, or no mapping on the way to it."""
    tree: Any = upper
    for part in key.split("."):
        if not isinstance(tree, dict):
            return True
        if part not in tree:
            return False
        tree = tree[part]
    return True


def test_lists_are_replaced() -> None:
    lower = Node({"a": Node([node(1), node(2)], Location("f"), "a")}, Location("f"))
    upper = Node({"a": Node([node(3)], Location("f"), "a")}, Location("f"))
    assert plain(merge(lower, upper)) == {"a": [3]}


TWIN = {"objective": {"kind": "twin", "alpha": 1, "match": "kl"}}


@pytest.mark.parametrize(
    ("lower", "upper", "result"),
    [
        (TWIN, {"objective": {"kind": "distill", "alpha": 2}}, {"kind": "distill", "alpha": 2}),
        (TWIN, {"objective": {"kind": "twin", "alpha": 2}}, {"kind": "twin", "alpha": 2, "match": "kl"}),
        (TWIN, {"objective": {"alpha": 2}}, {"kind": "twin", "alpha": 2, "match": "kl"}),
        ({"objective": {"alpha": 2}}, {"objective": {"kind": "twin"}}, {"alpha": 2, "kind": "twin"}),
        ({}, TWIN, TWIN["objective"]),
    ],
    ids=["another kind", "the same kind", "no kind above", "no kind below", "nothing below"],
)
def test_kinds(lower: dict[str, Any], upper: dict[str, Any], result: dict[str, Any]) -> None:
    assert merged(lower, upper)["objective"] == result


def test_a_key_called_like_a_union_elsewhere_is_nothing_special() -> None:
    assert merged({"x": {"objective": {"kind": "a", "b": 1}}}, {"x": {"objective": {"kind": "c"}}}) == {
        "x": {"objective": {"kind": "c", "b": 1}}
    }


@pytest.mark.parametrize(
    ("layer", "settings", "result"),
    [
        ({"compression": {"start": 1}}, {}, {}),
        ({"compression": {"start": 1}}, {"compression": None}, {}),
        (
            {"compression": {"start": 1, "delta": 2}},
            {"compression": {"mode": "binary"}},
            {"compression": {"start": 1}},
        ),
        ({"compression": {"delta": 2}}, {"compression": {"mode": "ternary"}}, {"compression": {"delta": 2}}),
        ({"compression": {"delta": 2}}, {"compression": {"mode": "trenary"}}, {"compression": {"delta": 2}}),
        ({"compression": {"mode": "binary"}}, {}, {"compression": {"mode": "binary"}}),
        ({"compression": None}, {"compression": {"mode": "binary"}}, {"compression": None}),
        ({"objective": {"alpha": 1}}, {}, {}),
        ({"objective": {"alpha": 1}, "train": {"epochs": 2}}, {}, {"train": {"epochs": 2}}),
        ({"objective": {"alpha": 1}}, TWIN, {"objective": {"alpha": 1}}),
        ({"objective": {"cross_entropy": 1}}, TWIN, {}),
    ],
)  # fmt: skip
def test_what_does_not_say_the_kind_fits_itself_to_it(
    layer: dict[str, Any], settings: dict[str, Any], result: dict[str, Any]
) -> None:
    assert plain(fit(node(layer), node(settings))) == result


def test_keys_of_no_kind_are_found() -> None:
    layer = node({"compression": {"strat": 1, "delta": 1}, "objective": {"kind": "twin", "x": 1}})
    assert [problem.key for problem in keys_of_no_kind(layer)] == ["compression.strat"]
