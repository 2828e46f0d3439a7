"""Memory of a step's large tensors: each in the lowest place that is large enough, and free again with its last tensor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from tnacli.recipe.schema.model import Model
from tnacli.snn import memory, sparse
from tnacli.snn.memory import Region, empty_rows, room, use_region
from tnacli.snn.native import native
from tnacli.snn.network import SpikingNetwork

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the allocator does without")
MEGA = 1 << 20


@pytest.fixture
def region(monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    monkeypatch.setattr(memory, "_use", memory._Use())
    use_region(True)
    assert memory._use.region is not None
    yield memory._use.region
    use_region(False)


def test_what_is_free_again_is_given_out_again_the_lowest_first(region: Region) -> None:
    first, second, third = (room(count * MEGA, torch.uint8) for count in (2, 3, 1))
    assert region.taken == [(0, 2 * MEGA), (2 * MEGA, 5 * MEGA), (5 * MEGA, 6 * MEGA)]
    view = second[5:].view(-1)
    del second
    assert len(region.taken) == 3, "a view is a user"
    del view
    same, after = room(3 * MEGA, torch.uint8), room(MEGA, torch.uint8)
    assert region.taken[1:] == [(2 * MEGA, 5 * MEGA), (5 * MEGA, 6 * MEGA), (6 * MEGA, 7 * MEGA)]
    for number, tensor in enumerate((first, same, third, after)):
        tensor.fill_(number)
    assert [int(tensor.sum()) for tensor in (first, same, third, after)] == [0, 3 * MEGA, 2 * MEGA, 3 * MEGA]
    del first, same, third, after, tensor
    assert region.taken == []


def test_small_ones_and_those_for_which_there_is_no_region_are_the_allocators(region: Region) -> None:
    small = room(MEGA - 1, torch.uint8)
    assert region.taken == []
    use_region(False)
    large = room(MEGA, torch.float32)
    assert region.taken == []
    use_region(True)
    again = room(MEGA, torch.float32)
    assert region.taken == [(0, 4 * MEGA)]
    assert (small.shape, large.shape, again.shape) == ((MEGA - 1,), (MEGA,), (MEGA,))


@pytest.mark.parametrize("shape", [(40, 33, 32, 16), (2048, 300)])
def test_rows_have_their_channels_last(region: Region, shape: tuple[int, ...]) -> None:
    rows = empty_rows(shape, torch.bfloat16)
    assert len(region.taken) == 1
    expected = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    assert rows.shape == shape
    assert rows.is_contiguous(memory_format=expected)


def test_several_threads_get_places_of_their_own(region: Region) -> None:
    def work(number: int) -> bool:
        ours = True
        for _ in range(50):
            tensor = room(MEGA, torch.uint8).fill_(number)
            ours &= int(tensor.sum()) == number * MEGA
        return ours

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert region.taken == []


@pytest.mark.skipif(native().library is None, reason=native().reason)
def test_gradients_are_the_same_wherever_tensors_lie(monkeypatch: pytest.MonkeyPatch, region: Region) -> None:
    monkeypatch.setattr(sparse, "_SMALLEST", 1)
    monkeypatch.setattr(memory, "_LARGE", 64)
    net = SpikingNetwork(Model(layout="8C3-16C3-AP2-9FC", timesteps=3), channels=3, size=(8, 8), classes=5).train()
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6) % 5
    found: list[list[Tensor]] = []
    for wanted in (True, False):
        use_region(wanted)
        torch.manual_seed(0)
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        assert bool(region.taken) is wanted
        found.append(list(torch.autograd.grad(loss, list(net.parameters()))))
        del loss
        assert region.taken == []
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
