"""Convolutions over lists of spikes against PyTorch's dense ones: values, gradients, and when which is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.model import Model
from tnacli.snn import sparse
from tnacli.snn.gated import Gate
from tnacli.snn.network import SpikingLayer
from tnacli.snn.sparse import Bounds, share_not_zero, sparse_convolution, sparse_kernels

pytestmark = pytest.mark.skipif(sparse_kernels().library is None, reason=sparse_kernels().reason)

# N, C, K, H, W: blocks of 32 inputs and of 64, 32 and 16 outputs that are full and not, images smaller and larger than what is
# worked on together, one and two columns, where every neighbour is at the border
SHAPES = [
    (5, 3, 7, 5, 4),
    (4, 32, 64, 8, 8),
    (40, 16, 32, 3, 3),
    (2, 20, 96, 20, 18),
    (17, 40, 100, 9, 7),
    (3, 33, 65, 1, 1),
    (2, 70, 130, 2, 40),
    (3, 8, 8, 33, 2),
    (1, 5, 66, 3, 97),
]


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "_SMALLEST", 1)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, however dense the inputs are."""
    monkeypatch.setattr(sparse, "bounds", lambda _: Bounds(float("inf"), float("inf")))


def spikes(*shape: int, share: float, seed: int = 0) -> Tensor:
    """Spikes averaged over 2 x 2: quarters, of which a share is not zero."""
    made = torch.Generator().manual_seed(seed)
    values = torch.randint(1, 5, shape, generator=made) / 4
    return (values * (torch.rand(shape, generator=made) < share)).contiguous(memory_format=torch.channels_last)


def synapse(channels: int, out: int, memory: torch.memory_format = torch.channels_last) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(channels, out, 3, padding=1, bias=False).to(memory_format=memory)


def both_ways(
    conv: nn.Conv2d, x: Tensor, outward: Tensor, dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients of weights and inputs over lists, and dense in float64 with everything rounded to `dtype` before."""
    x, outward = x.to(dtype).requires_grad_(), outward.to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = sparse_convolution(x, conv)
    assert out is not None
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    ours = [out.detach(), *torch.autograd.grad(out, [conv.weight, x], outward)]
    precise = x.detach().double().requires_grad_(), conv.weight.detach().to(dtype).double().requires_grad_()
    expected = F.conv2d(*precise, padding=1)
    return ours, [expected.detach(), *torch.autograd.grad(expected, precise[::-1], outward.double())]


DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])
@pytest.mark.usefixtures("always", "threads")
def test_sums_and_gradients_are_those_of_a_dense_convolution(
    shape: tuple[int, ...], memory: torch.memory_format, dtype: torch.dtype
) -> None:
    samples, channels, out, height, width = shape
    x = spikes(samples, channels, height, width, share=0.3)
    conv = synapse(channels, out, memory)
    outward = torch.randn(samples, out, height, width)
    for one, two in zip(*both_ways(conv, x, outward, dtype), strict=True):
        rounding = (
            2.0**-8 if one.dtype == torch.bfloat16 else 0
        )  # of what is stored; the gradient of the weights is not
        torch.testing.assert_close(one.double(), two, rtol=rounding, atol=2e-6 * float(two.abs().max()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])
@pytest.mark.usefixtures("always", "instructions")
def test_whole_numbers_are_summed_exactly(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Nothing is left out, counted twice or read from beside the image: rounding cannot hide it."""
    samples, channels, out, height, width = shape
    x = spikes(samples, channels, height, width, share=0.6)
    conv = synapse(channels, out)
    with torch.no_grad():
        conv.weight.copy_(torch.randint(-1, 2, conv.weight.shape))
    outward = torch.randint(-8, 9, (samples, out, height, width)).float()
    for one, two in zip(*both_ways(conv, x, outward, dtype), strict=True):
        assert torch.equal(one, two.to(one.dtype))


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.usefixtures("always")
def test_all_or_nothing(share: float) -> None:
    x, conv = spikes(3, 40, 6, 6, share=share), synapse(40, 70)
    outward = torch.ones(3, 70, 6, 6)
    ours, expected = both_ways(conv, x, outward)
    for one, two in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=1e-5)


def test_gradients_that_nobody_wants_are_not_made() -> None:
    x, conv = spikes(3, 40, 6, 6, share=0.1), synapse(40, 70)
    out = sparse_convolution(x, conv)
    assert out is not None
    out.sum().backward()
    assert x.grad is None
    assert conv.weight.grad is not None
    conv.weight.requires_grad_(False)
    out = sparse_convolution(x.requires_grad_(), conv)
    assert out is not None
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(("share", "taken"), [(0.05, "lists"), (0.55, "lists for the gradient"), (0.95, "dense")])
def test_the_denser_the_input_the_less_is_done_over_lists(
    share: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse, "bounds", lambda _: Bounds(0.4, 0.7))
    x, conv = spikes(32, 32, 8, 8, share=share), synapse(32, 64)
    assert share_not_zero(x) == pytest.approx(share, abs=0.05)
    out = sparse_convolution(x, conv)
    if taken == "dense":
        assert out is None
        return
    assert out is not None
    dense = F.conv2d(x, conv.weight, padding=1)
    if taken == "lists for the gradient":
        assert torch.equal(out, dense)
    wanted = torch.autograd.grad(dense, conv.weight, torch.ones_like(dense))[0]
    torch.testing.assert_close(torch.autograd.grad(out, conv.weight, torch.ones_like(out))[0], wanted)


@pytest.mark.parametrize(
    ("out", "taken"), [(64, (True, True)), (96, (True, True)), (20, (False, True)), (33, (False, True)), (8, None)]
)
def test_a_block_of_outputs_that_is_not_full_costs_what_a_full_one_does(
    out: int, taken: tuple[bool, bool] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are of 32 outputs forward and of 16 for the gradient of the weights."""
    asked = list[tuple[bool, bool]]()
    monkeypatch.setattr(sparse, "bounds", lambda _: Bounds(0.4, 0.5))
    monkeypatch.setattr(sparse._SparseConvolution, "apply", lambda x, weight, *ways: asked.append(ways[:2]))
    sparse_convolution(spikes(32, 32, 8, 8, share=0.3), synapse(32, out))
    assert asked == ([] if taken is None else [taken])


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 64, 5, padding=2, bias=False),
        nn.Conv2d(8, 64, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(8, 64, 3, bias=False),
        nn.Conv2d(8, 64, 3, padding=1),
        nn.Conv2d(8, 64, 3, padding=1, bias=False).double(),
        nn.Conv2d(8, 64, 3, padding=1, bias=False).half(),
    ],
)
def test_other_convolutions_stay_dense(conv: nn.Conv2d) -> None:
    x = spikes(4, 8, 6, 6, share=0.1).to(conv.weight.dtype)
    assert sparse_convolution(x, conv) is None


@pytest.mark.usefixtures("always")
def test_weights_are_asked_for_once_if_lists_are_taken_and_not_at_all_otherwise() -> None:
    """Ternary weights are made anew each time."""
    asked = list[str]()

    class Asked(nn.Conv2d):
        def __getattribute__(self, name: str) -> object:
            asked.append(name)
            return super().__getattribute__(name)

    conv = Asked(8, 64, 3, padding=1, bias=False)
    for x, times in (
        (spikes(4, 8, 6, 6, share=0.1), 1),
        (spikes(4, 8, 6, 6, share=0.1).to("meta"), 0),
        (spikes(4, 8, 6, 6, share=0.1).double(), 0),
    ):
        asked.clear()
        assert (sparse_convolution(x, conv) is not None) == (times == 1)
        assert asked.count("weight") == times


def test_small_convolutions_stay_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    x, conv = spikes(4, 32, 6, 6, share=0.1), synapse(32, 64)
    work = 4 * 32 * 6 * 6 * 64 * 9
    monkeypatch.setattr(sparse, "_SMALLEST", work)
    assert sparse_convolution(x, conv) is not None
    monkeypatch.setattr(sparse, "_SMALLEST", work + 1)
    assert sparse_convolution(x, conv) is None


@pytest.mark.usefixtures("always")
def test_dense_in_fp16_and_without_samples() -> None:
    x, conv = spikes(4, 8, 6, 6, share=0.1), synapse(8, 64)
    with torch.autocast("cpu", torch.float16):
        assert sparse_convolution(x, conv) is None
    assert sparse_convolution(x[:0], conv) is None


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_autocast_decides_what_is_rounded(weights: torch.dtype) -> None:
    """fp32 inputs are rounded under autocast, and bf16 weights need none; each gradient is of its own tensor's type."""
    x, conv = torch.rand(4, 8, 6, 6), synapse(8, 64).to(weights)
    taken = x.to(torch.bfloat16) if weights == torch.bfloat16 else x
    with torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
        out = sparse_convolution(taken.requires_grad_(), conv)
    assert out is not None
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert taken.grad is not None
    assert taken.grad.dtype == taken.dtype
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == weights
    rounded = x.detach().bfloat16().float(), conv.weight.detach().bfloat16().float()
    torch.testing.assert_close(out.float(), F.conv2d(*rounded, padding=1), rtol=2.0**-8, atol=1e-5)


def test_a_layer_trains_over_lists_and_keeps_small_what_they_need() -> None:
    """The same layer dense, over lists, and with its input kept in bytes: the last two to the bit."""
    model = Model(layout="8C3-64C3-10FC", timesteps=4)
    shape = layer_shapes(model.layout, width=1, channels=3, size=(8, 8), classes=5)[1]
    torch.manual_seed(0)
    layer = SpikingLayer(shape, model).to(memory_format=torch.channels_last).train()
    x = spikes(4 * 2, 8, 8, 8, share=0.1)
    grads = {}
    for way in ("dense", "lists", "kept small"):
        layer.compiled, layer.keeps_small = way != "dense", way == "kept small"
        inputs = x.clone().requires_grad_()
        out = layer.driven(inputs)
        assert (type(out.grad_fn).__name__ == "_SparseConvolutionBackward") == (way != "dense")
        torch.manual_seed(2)
        grads[way] = torch.autograd.grad(out, [inputs, layer.synapse.weight], torch.randn_like(out))
    for one, two in zip(grads["lists"], grads["dense"], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    for one, two in zip(grads["lists"], grads["kept small"], strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("capability", "family", "fp32", "bf16"),
    [
        ("AVX2", ("AuthenticAMD", 25), Bounds(0.5, 0.8, 0.4), Bounds(0.5, 0.8)),
        ("AVX512", ("AuthenticAMD", 25), Bounds(0.6, 0.7, 0.6), Bounds(0.35, 0.5, 0.45)),
        ("AVX512", ("AuthenticAMD", 26), Bounds(0.25, 0.4), Bounds(0.1, 0.2)),
        ("AVX512", ("GenuineIntel", 6), Bounds(0.25, 0.4), Bounds(0.1, 0.2)),
        ("AVX512", None, Bounds(0.25, 0.4), Bounds(0.1, 0.2)),
    ],
)
def test_processors_that_nobody_measured_are_given_cautious_bounds(
    capability: str, family: tuple[str, int] | None, fp32: Bounds, bf16: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(sparse, "processor_family", lambda: family)
    assert sparse.bounds.__wrapped__(torch.float32) == fp32
    assert sparse.bounds.__wrapped__(torch.bfloat16) == bf16


def test_evaluation_goes_over_lists_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(layout="8C3-64C3-10FC", timesteps=4)
    shape = layer_shapes(model.layout, width=1, channels=3, size=(8, 8), classes=5)[1]
    layer = SpikingLayer(shape, model).to(memory_format=torch.channels_last).eval()
    x, taken = spikes(4 * 2, 8, 8, 8, share=0.1), list[Tensor | None]()

    def noted(x: Tensor, synapse: nn.Conv2d, gate: Gate | None) -> Tensor | None:
        assert gate is None
        taken.append(sparse_convolution(x, synapse))
        return taken[-1]

    monkeypatch.setattr("tnacli.snn.network.sparse_convolution", noted)
    with torch.inference_mode():
        summed = layer.summed(x)
        assert taken[0] is summed
        torch.testing.assert_close(summed, F.conv2d(x, layer.synapse.weight, padding=1))
        layer.compiled = False
        assert torch.equal(layer.summed(x), F.conv2d(x, layer.synapse.weight, padding=1))
    assert len(taken) == 1
