"""The steps of a packed network against the layout that its recipe was built from, and against each other."""

from __future__ import annotations

from math import prod

import pytest

from tests.packed.networks import make_network, make_packed

LAYOUTS = ["6C3-AP2-9C3-AP2-17FC-7FC", "5C3-R5-AP2-R7x2/2-GAP-11FC", "9FC-8FC", "4C3/2-R6x2-6C5/2"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_steps_are_the_layers_of_the_layout(layout: str, events: bool) -> None:
    network = make_network(layout, size=(16, 16))
    steps = make_packed(network, events=events).steps
    assert (steps.input.out, steps.input.frames) == ((2, 16, 16), network.timesteps if events else 1)
    *shapes, readout = network.shapes
    assert steps.weights.keys() == network.weighted.keys()
    leaving = {"input": steps.input.out, **{shape.name: shape.pooled for shape in shapes}}
    for before, layer, shape in zip(leaving, steps.layers, shapes, strict=False):
        assert (layer.name, layer.neurons, layer.pool, layer.out) == (shape.name, shape.out, shape.pool, shape.pooled)
        assert [current.source.out for current in layer.currents] == [
            leaving[source] for source in (before, *([shape.shortcut.source] if shape.shortcut else []))
        ]
        own, shortcut = layer.currents[0], layer.shortcut
        assert own.spec is not None
        assert (own.name, own.source.name, own.spec.weight, own.spec.stride) == (
            shape.name, before, shape.weight, shape.stride,
        )  # fmt: skip
        assert own.is_conv == (shape.kind == "conv")
        assert own.flattens == (shape.kind == "fc" and len(leaving[before]) == 3)
        assert (shortcut is None) == (shape.shortcut is None)
        if shortcut is not None and shape.shortcut is not None:
            assert shortcut.source.name == shape.shortcut.source
            assert (shortcut.spec and shortcut.spec.weight) == shape.shortcut.weight
            assert not shortcut.flattens
    assert steps.readout.source is steps.layers[-1]
    assert readout.weight[1] == prod(steps.readout.source.out)
    assert steps.has_shortcuts == ("R" in layout)


def test_counts_go_up_to_the_square_of_the_pooling() -> None:
    steps = make_packed(make_network("4C3-AP2-R4-AP4-R6/2-8FC", size=(16, 16))).steps
    assert steps.input.counts_to == 1
    assert {layer.name: layer.counts_to for layer in steps.layers} == {
        "conv1": 4, "conv2": 1, "conv3": 16, "conv4": 1, "conv5": 1, "fc1": 1,
    }  # fmt: skip
    by_name = {layer.name: layer for layer in steps.layers}
    assert [current.source.counts_to for current in by_name["conv3"].currents] == [1, 4]
    assert [current.source.counts_to for current in by_name["conv5"].currents] == [1, 16]
