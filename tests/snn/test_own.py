"""Networks of the user's own: what their function is given, what may come back, and what is said when it does not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.packed.networks import make_inputs
from tnacli.build import build_network, build_objective
from tnacli.data.batches import Batch
from tnacli.errors import RecipeError, UsageError
from tnacli.evaluation.activity import measure_activity
from tnacli.evaluation.trace import trace
from tnacli.quant.weights import compress, compression_mode
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.recipe import Settings
from tnacli.snn.network import Network, SpikingNetwork
from tnacli.snn.own import OwnNetwork, require_trust

HERE = "tests.snn.own_networks"
OWN = Model(build=f"{HERE}:pooled_by_maximum", args={"maps": 3}, timesteps=3)


def built(model: Model) -> Network:
    return build_network(model, channels=2, size=(8, 8), classes=5, seed=0)


def test_a_module_is_taken_as_it_is() -> None:
    network = built(OWN)
    assert isinstance(network, OwnNetwork)
    assert list(network.weight_shapes.values()) == [(3, 2, 3, 3), (6, 3, 3, 3), (5, 24)]
    assert list(network.hidden) == ["3.1"]
    assert list(network.neurons) == ["2", "4"]
    assert network(torch.randn(4, 2, 8, 8)).shape == network(torch.randn(4, 3, 2, 8, 8)).shape == (4, 5)
    compress(network, Ternary())
    assert compression_mode(network) == "ternary"
    assert torch.equal(network.module[3][1].weight.abs().unique().ceil(), network.module[3][1].weight.abs().unique())  # type: ignore[index]


def test_its_weights_come_from_the_seed() -> None:
    one, two = built(OWN).state_dict(), built(OWN).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_layout_put_together_by_a_function_is_a_layout() -> None:
    model = Model(build=f"{HERE}:by_layout", args={"maps": 4}, width=0.5)
    network = built(model)
    assert isinstance(network, SpikingNetwork)
    assert [shape.weight[0] for shape in network.shapes] == [2, 4, 4, 6, 5]
    assert (network.described, network.model.layout) == (model, "4C3-AP2-R8/2-12FC")


def test_operations_are_counted_where_modules_are_called() -> None:
    network = built(OWN)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith((".1.bias", ".2.bias")):
                parameter.fill_(0.7)  # batch norm: so that there are spikes
    inputs = torch.randn(6, 2, 8, 8)
    batches = [Batch(part, torch.zeros(len(part), dtype=torch.long), 6) for part in inputs.split(4)]
    rows = {row.name: row for row in measure_activity(network, batches).layers}
    assert list(rows) == ["1.0", "2", "3.1", "4", "6"]
    assert rows["1.0"].macs == 3 * 2 * (3 * 8 - 2) ** 2
    assert rows["6"].macs == 3 * 24 * 5
    spikes: list[torch.Tensor] = []
    network.neurons["2"].register_forward_hook(lambda module, given, out: spikes.append(out))
    with torch.no_grad():
        network.eval()(inputs)
    pooled = torch.nn.functional.max_pool2d(spikes[0].flatten(0, 1), 2)
    ones = torch.nn.functional.conv2d(pooled, torch.ones(6, 3, 3, 3), padding=1)
    assert 6 * rows["3.1"].additions == pytest.approx(float(ones.sum()))
    assert rows["2"].firing_rate == pytest.approx(float(spikes[0].mean()))
    assert 0 < float(spikes[0].mean()) < 1
    traces = {layer.name: layer for layer in trace(network, inputs[0])}
    assert torch.equal(traces["2"].spikes, spikes[0][:, 0].flatten(1).bool())


@pytest.mark.parametrize(
    ("build", "args", "what"),
    [
        ("no.such.package:network", {}, "no.such.package:network cannot be imported: No module named 'no'"),
        (f"{HERE}:missing", {}, "own_networks.py. has no function 'missing'"),
        (f"{HERE}:a_number", {}, "has something else than a function named 'a_number'"),
        (f"{HERE}:a_word", {}, "makes a str, not a torch.nn.Module"),
        (f"{HERE}:by_layout", {}, r"with model.args \(none\): missing a required .*argument: 'maps'"),
        (f"{HERE}:by_layout", {"maps": 2, "depth": 3}, r"\(maps, depth\): got an unexpected keyword argument 'depth'"),
    ],
)
def test_functions_that_cannot_make_a_network(build: str, args: dict[str, int], what: str) -> None:
    with pytest.raises(RecipeError, match=rf"^model\.build: .*{what}"):
        built(Model(build=build, args=dict(args)))


def test_a_signal_that_comes_meanwhile_is_no_mistake_of_the_function() -> None:
    with pytest.raises(SystemExit, match="130"):
        built(Model(build=f"{HERE}:interrupted"))


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"gives 4x6 for inputs of 4x2x8x8, not logits of 4x5"):
        built(Model(build=f"{HERE}:too_many_logits"))(torch.randn(4, 2, 8, 8))


def test_compression_needs_a_layer_between_the_first_and_the_last() -> None:
    settings = Settings(
        data=Data(name="digits"), model=Model(build=f"{HERE}:TwoLayers"), compression=Ternary(start="50%")
    )
    with pytest.raises(RecipeError, match=r"compression\.mode: acts on the layers between the first and the last"):
        build_objective(settings, channels=1, size=(8, 8), classes=10, seed=0)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"build": "nets.small"}, "String should match"),
        ({"build": "nets:small", "layout": "mlp"}, "has no effect beside build"),
        ({"args": {"maps": 3}}, "have no effect without a function"),
        ({"build": "nets:small", "args": {"size": 3}}, "is what the function of build is always given"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        Model.model_validate(settings)


def test_a_run_is_identified_by_function_and_arguments() -> None:
    def identity(model: Model) -> str:
        return Run("r", "a", 0, Settings(data=Data(name="digits"), model=model)).identity

    models = [Model(), OWN, OWN.model_copy(update={"args": {}}), OWN.model_copy(update={"build": "a:b"})]
    assert len({identity(model) for model in models}) == len(models)


def test_code_that_a_file_names_needs_to_be_named_by_the_user() -> None:
    require_trust(Model(), None, "x.pt")
    require_trust(OWN, OWN.build, "x.pt")
    for trusted in (None, "os:system"):
        with pytest.raises(UsageError, match=rf"x\.pt holds a network that .* add --trust-build {OWN.build}$"):
            require_trust(OWN, trusted, "x.pt")
    with pytest.raises(UsageError, match="--trust-build has no effect"):
        require_trust(Model(), OWN.build, "x.pt")


def test_the_current_folder_is_looked_in_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong json')\n")
    source = "import json\nfrom tests.snn.own_networks import by_layout\n"
    (tmp_path / "lies_here.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "json")
    network = built(Model(build="lies_here:by_layout", args={"maps": 2}))
    assert make_inputs(network, 1).shape == (1, 2, 8, 8)  # type: ignore[arg-type]
