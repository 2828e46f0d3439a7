"""Where compiled libraries lie: they are loaded and run, so nobody else may write there, and another place does as well."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tnacli.cli import checks
from tnacli.native import compile as native
from tnacli.native.compile import compiled
from tnacli.snn import native as training

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and permissions as POSIX has them"),
    pytest.mark.skipif(native.find_compiler() is None, reason="no C compiler on this machine"),
]


@pytest.fixture(autouse=True)
def _kernels_are_wanted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TNA_NATIVE", raising=False)
    yield
    native._private_folder.cache_clear()
    training.native.cache_clear()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder, and in it the name that anyone could guess."""
    (tmp_path / "shared").mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "shared"))
    native._private_folder.cache_clear()
    return tmp_path / "shared" / f"tnacli-{os.getuid()}"


@pytest.fixture
def cache(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that TNA_CACHE names, not made yet."""
    monkeypatch.setenv("TNA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return 42; }\n")
    return path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The libraries that were loaded."""
    paths: list[Path] = []
    load = ctypes.CDLL

    def noted(name: str) -> ctypes.CDLL:
        library = load(name)
        paths.append(Path(name))
        return library

    monkeypatch.setattr(ctypes, "CDLL", noted)
    return paths


def no_exec(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """As if file systems that no program may be run from were mounted at `folders`: libraries can be written, not loaded."""
    load = ctypes.CDLL

    def refused(name: str) -> ctypes.CDLL:
        if any(Path(name).is_relative_to(folder) for folder in folders):
            assert Path(name).stat().st_size > 0
            raise OSError(f"{name}: failed to map segment from shared object")
        return load(name)

    monkeypatch.setattr(ctypes, "CDLL", refused)


def answer(kernels: native.Native) -> int:
    assert kernels.library is not None, kernels.reason
    return int(kernels.library.answer())


def test_a_library_is_compiled_once_into_a_cache_that_nobody_else_can_write(
    source: Path, cache: Path, loaded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0)  # which lets everyone write everything
    try:
        kernels = compiled(source)
    finally:
        os.umask(before)
    assert answer(kernels) == 42
    assert kernels.not_cached is None
    assert loaded[0].parent == cache / "kernels"
    for path in (cache, cache / "kernels", loaded[0]):
        assert path.stat().st_mode & 0o022 == 0
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: pytest.fail("compiled again"))
    assert answer(compiled(source)) == 42
    assert loaded[0] == loaded[1]
    assert [path.suffix for path in (cache / "kernels").iterdir()] == [".so"]


def test_a_linker_that_makes_its_own_file_lets_nobody_else_write_it(
    source: Path, cache: Path, loaded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    linker = source.with_name("linker")
    linker.write_text(
        '#!/bin/sh\numask 0\nfor word; do case "$word" in *.so) rm -f "$word";; esac; done\n'
        f'{native.find_compiler()} "$@" && for word; do case "$word" in *.so) chmod 777 "$word";; esac; done\n'
    )
    linker.chmod(0o700)
    monkeypatch.setenv("CC", str(linker))
    assert answer(compiled(source)) == 42
    assert stat.S_IMODE(loaded[0].stat().st_mode) == 0o700
    compiled(source)
    assert loaded[0] == loaded[1]


def below_a_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache.parent / "file").write_text("")
    monkeypatch.setenv("TNA_CACHE", str(cache.parent / "file" / "cache"))


def read_only(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so the system's refusal is put in its place."""
    (cache / "kernels").mkdir(parents=True, mode=0o755)
    make = tempfile.mkstemp

    def refused(suffix: str, prefix: str, folder: Path) -> tuple[int, str]:
        if folder == cache / "kernels":
            raise OSError(30, "Read-only file system", str(folder))
        return make(suffix, prefix, folder)

    monkeypatch.setattr(tempfile, "mkstemp", refused)


def programs_cannot_be_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_exec(monkeypatch, cache)


def nowhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("TNA_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)


def others_write_the_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "kernels").mkdir(parents=True)
    (cache / "kernels").chmod(0o775)


def others_write_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    cache.chmod(0o777)  # and so can put another folder of kernels in place of ours


def a_link(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    (cache.parent / "elsewhere").mkdir(mode=0o700)
    (cache / "kernels").symlink_to(cache.parent / "elsewhere")


def another_s(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "kernels").mkdir(parents=True, mode=0o755)
    of_another(monkeypatch, cache / "kernels")


def of_another(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As if `folder` belonged to another user."""
    look = Path.lstat

    def seen(path: Path) -> os.stat_result:
        facts = look(path)
        return facts if path != folder else os.stat_result((*facts[:4], os.getuid() + 1, *facts[5:]))

    monkeypatch.setattr(Path, "lstat", seen)


UNFIT = {
    below_a_file: "Not a directory",
    read_only: "Read-only file system",
    programs_cannot_be_run: "failed to map segment",
    nowhere: "there is no home folder",
    others_write_the_folder: "others can write to",
    others_write_the_cache: "others can write to",
    a_link: "is a link",
    another_s: "belongs to another user",
}


@pytest.mark.parametrize(("unfit", "why"), UNFIT.items(), ids=lambda what: getattr(what, "__name__", ""))
def test_where_the_cache_does_not_do_a_private_folder_is_used_and_doctor_says_so(
    unfit: Callable[[Path, pytest.MonkeyPatch], None], why: str, source: Path, cache: Path, shared: Path,
    loaded: list[Path], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    unfit(cache, monkeypatch)
    for _ in range(2):
        kernels = compiled(source)
        assert answer(kernels) == 42
        assert loaded.pop().parent == shared
        assert why in (kernels.not_cached or "")
    assert stat.S_IMODE(shared.stat().st_mode) == 0o700
    monkeypatch.setattr(training, "_SOURCE", source)
    monkeypatch.setattr(training, "_bind", lambda library: None)
    training.native.cache_clear()
    (finding,) = checks._kernels()
    assert (finding.status, finding.fix is not None and "TNA_CACHE" in finding.fix) == ("warning", True)
    assert str(shared) in finding.found
    assert why in finding.found


def test_where_no_place_does_there_are_no_kernels_and_every_reason_is_given(
    source: Path, cache: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_exec(monkeypatch, cache, shared)
    kernels = compiled(source)
    assert kernels.library is None
    for place in (cache, shared):
        assert str(place) in kernels.reason


def test_a_file_that_another_could_have_written_is_not_loaded_but_made_anew(
    source: Path, cache: Path, loaded: list[Path]
) -> None:
    compiled(source)
    path = loaded.pop()
    for tampered in (0o720, 0o702):
        source.with_name("evil.c").write_text("int answer(void) { return 666; }\n")
        path.unlink()
        subprocess.run(
            [str(native.find_compiler()), "-shared", "-fPIC", "-o", path, source.with_name("evil.c")], check=True
        )
        path.chmod(tampered)
        inode = path.stat().st_ino
        compiled(source)
        assert loaded.pop() == path
        assert path.stat().st_mode & 0o022 == 0
        assert path.stat().st_ino != inode
        assert b"evil.c" not in path.read_bytes()
    link = path.with_name("link.so")
    path.rename(link)
    path.symlink_to(link)
    compiled(source)
    assert not path.is_symlink()


def test_a_damaged_library_is_no_reason_to_do_without(
    source: Path, cache: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as unloaded:  # by its name, a library is loaded once in a process
        no_exec(unloaded, cache)
        compiled(source)
    (path,) = (cache / "kernels").iterdir()
    path.write_bytes(b"half")
    kernels = compiled(source)
    assert answer(kernels) == 42
    assert f"{path}: file too short" in (kernels.not_cached or "")


@pytest.mark.parametrize(("above", "fit"), [(0o755, True), (0o775, False), (0o777, False), (0o1777, True)])
def test_a_folder_that_others_can_replace_is_not_used(
    above: int, fit: bool, source: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests' own folders are below one that nobody else gets into, where it does not matter what they may."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(above)
        monkeypatch.setenv("TNA_CACHE", str(Path(public) / "cache"))
        assert (compiled(source).not_cached is None) == fit
        Path(public).chmod(0o700)
        (Path(public) / "group").mkdir()
        (Path(public) / "group").chmod(0o775)
        monkeypatch.setenv("TNA_CACHE", str(Path(public) / "group" / "cache"))
        assert compiled(source).not_cached is None


def test_a_compiler_that_fails_is_named(source: Path, cache: Path) -> None:
    source.write_text("no C")
    kernels = compiled(source)
    assert kernels.library is None
    assert "could not compile answer.c" in kernels.reason
    assert list((cache / "kernels").iterdir()) == []


@pytest.mark.parametrize("trap", ["writable", "link", "file", "another's"])
def test_a_private_folder_that_others_could_have_filled_is_not_used(
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
            of_another(monkeypatch, shared)
    folder = native._private_folder()
    assert folder.name != f"tnacli-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not any(folder.iterdir())


def compiler_that_knows_no(source: Path, *flags: str) -> Path:
    """The machine's compiler, with an error for each of `flags`; it writes its arguments into `arguments` beside it."""
    program = source.with_name("cc-without")
    refusals = "".join(
        f"case \" $* \" in *' {flag} '*) echo 'clang: error: unsupported option {flag}' >&2; exit 1;; esac\n"
        for flag in flags
    )
    program.write_text(
        f'#!/bin/sh\necho "$@" > {source.with_name("arguments")}\n{refusals}exec {native.find_compiler()} "$@"\n'
    )
    program.chmod(0o700)
    return program


@pytest.mark.parametrize(
    ("unknown", "used", "said"),
    [
        ([], "-march=native", "compiled by cc-without"),
        (["-march=native"], "-mcpu=native", "compiled by cc-without"),
        (["-march=native", "-mcpu=native"], "-fopenmp", "compiled by cc-without, not for this very processor"),
    ],
)
def test_a_compiler_gets_the_flags_that_it_knows(
    unknown: list[str], used: str, said: str, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(compiler_that_knows_no(source, *unknown)))
    kernels = compiled(source)
    assert answer(kernels) == 42
    assert kernels.reason == said
    arguments = source.with_name("arguments").read_text().split()
    assert {used, "-fopenmp"} <= {*arguments}
    assert not {*unknown} & {*arguments}


def test_arguments_in_cc_reach_the_compiler(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_text("int answer(void) { return ANSWER; }\n")
    monkeypatch.setenv("CC", f"{native.find_compiler()} -DANSWER=7")
    assert answer(compiled(source)) == 7
    monkeypatch.setenv("CC", f"{native.find_compiler()} -DANSWER=8")
    assert answer(compiled(source)) == 8


def test_a_compiler_at_a_path_with_a_space_is_found(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = source.with_name("my tools")
    folder.mkdir()
    program = compiler_that_knows_no(source).rename(folder / "my-cc")
    monkeypatch.setenv("CC", str(program))
    assert compiled(source).reason == "compiled by my-cc"


def test_a_quotation_mark_alone_in_cc_names_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc 'half")
    assert native.find_compiler() == (shutil.which("gcc") or shutil.which("clang"))


def test_the_compilers_own_words_are_told(source: Path, cache: Path) -> None:
    source.write_text("int answer(void) {\n    return nothing_of_this_name;\n}\n")
    reason = compiled(source).reason
    assert "could not compile answer.c: " in reason
    assert "error" in reason
    assert "nothing_of_this_name" in reason
    assert "\n" not in reason
