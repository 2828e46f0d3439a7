from __future__ import annotations

from pathlib import Path

import pytest

from tests.packed.networks import make_network, make_packed
from tnacli.packed.file import to_bytes
from tnacli.packed.network import PackedNetwork
from tnacli.snn.network import SpikingNetwork


@pytest.fixture(scope="session")
def network() -> SpikingNetwork:
    return make_network()


@pytest.fixture(scope="session")
def packed(network: SpikingNetwork) -> PackedNetwork:
    return make_packed(network)


@pytest.fixture(scope="session")
def packed_bytes(packed: PackedNetwork) -> bytes:
    return to_bytes(packed)


@pytest.fixture
def packed_file(packed_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "net.tna"
    path.write_bytes(packed_bytes)
    return path
