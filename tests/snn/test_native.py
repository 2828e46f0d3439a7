"""Where compiled libraries lie: they are loaded and run, so nobody else may write there."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from tnacli.snn import native

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and permissions as POSIX has them")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder, and in it the name that anyone could guess."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    native._private_folder.cache_clear()
    return tmp_path / f"tnacli-{os.getuid()}"


def test_without_a_home_folder_a_private_one_is_made_and_used_again(shared: Path) -> None:
    for _ in range(2):
        assert native._private_folder() == shared
        assert stat.S_IMODE(shared.stat().st_mode) == 0o700
        native._private_folder.cache_clear()


@pytest.mark.parametrize("trap", ["writable", "link", "file", "another's"])
def test_a_folder_that_others_could_have_filled_is_not_used(
    shared: Path, trap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trap == "link":
        (shared.parent / "elsewhere").mkdir(mode=0o700)
        shared.symlink_to("elsewhere")
    elif trap == "file":
        shared.touch(mode=0o700)
    else:
        shared.mkdir(mode=0o700)
        if trap == "writable":
            shared.chmod(0o777)
        else:
            uid = os.getuid()
            monkeypatch.setattr(os, "getuid", lambda: uid + 1)
            shared.rename(shared.with_name(f"tnacli-{uid + 1}"))
    folder = native._private_folder()
    assert folder.name != f"tnacli-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not any(folder.iterdir())
