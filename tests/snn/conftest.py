"""Fixtures of the compiled kernels."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest

from tnacli.native.compile import _compiler_command
from tnacli.snn.gated import gated_kernels
from tnacli.snn.native import native
from tnacli.snn.sparse import sparse_kernels


@pytest.fixture(params=["", "-mno-avx512bf16", "-mno-avx512f", "-mno-avx"], ids=["all", "no-bf16", "avx2", "sse"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test once with kernels of all the instructions that this processor has, and without some, as other processors are."""
    command = _compiler_command()
    if request.param and (command is None or platform.machine() not in ("x86_64", "AMD64")):
        pytest.skip("names instructions of x86-64")
    if request.param and command is not None:
        monkeypatch.setenv("CC", " ".join([*command, request.param]))
    kernels = native, gated_kernels, sparse_kernels
    for each in kernels:
        each.cache_clear()
    yield
    for each in kernels:
        each.cache_clear()
