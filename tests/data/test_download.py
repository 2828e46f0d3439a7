"""Downloads against a server on this machine."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tnacli.data.download import Archive, fetch, unpack
from tnacli.data.source import no_progress
from tnacli.errors import DataError, StorageError

Serve = Callable[[Path], str]
CONTENT = bytes(range(256)) * 9000  # 2.3 MB: more than one block


def published(folder: Path, serve: Serve, content: bytes = CONTENT, name: str = "set.zip") -> Archive:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return Archive(name, (f"{serve(folder)}/{name}",), hashlib.md5(content).hexdigest())


def test_fetched_whole_with_progress(tmp_path: Path, serve: Serve) -> None:
    archive = published(tmp_path / "web", serve)
    seen: list[tuple[str, int, int]] = []
    path = fetch(archive, tmp_path / "new" / "folder", lambda *step: seen.append(step))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("downloading set.zip", len(CONTENT), len(CONTENT))
    assert len(seen) > 2
    assert [entry.name for entry in path.parent.iterdir()] == ["set.zip"]


def test_nothing_is_fetched_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(CONTENT)
    archive = Archive("set.zip", ("http://127.0.0.1:9/nobody",), hashlib.md5(CONTENT).hexdigest())
    assert fetch(archive, tmp_path, no_progress).read_bytes() == CONTENT


@pytest.mark.parametrize("have", [1, 1_000_000, len(CONTENT) - 1, len(CONTENT)])
def test_an_interrupted_download_goes_on(tmp_path: Path, serve: Serve, have: int) -> None:
    archive = published(tmp_path / "web", serve)
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:have])
    seen: list[int] = []
    assert fetch(archive, tmp_path, lambda what, done, total: seen.append(done)).read_bytes() == CONTENT
    assert all(done > have for done in seen)
    assert not (tmp_path / "set.zip.part").exists()


@pytest.mark.parametrize("left", [b"something else", b"x" * (len(CONTENT) + 7)])
def test_a_false_beginning_is_thrown_away(tmp_path: Path, serve: Serve, left: bytes) -> None:
    archive = published(tmp_path / "web", serve)
    (tmp_path / "set.zip.part").write_bytes(left)
    assert fetch(archive, tmp_path, no_progress).read_bytes() == CONTENT


def test_the_wrong_file_never_gets_the_name(tmp_path: Path, serve: Serve) -> None:
    archive = published(tmp_path / "web", serve)
    (tmp_path / "web" / "set.zip").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DataError, match="not the published file"):
        fetch(archive, tmp_path, no_progress)
    assert not (tmp_path / "set.zip").exists()
    assert not (tmp_path / "set.zip.part").exists()


def test_a_damaged_file_under_the_name_is_replaced(tmp_path: Path, serve: Serve) -> None:
    archive = published(tmp_path / "web", serve)
    (tmp_path / "set.zip").write_bytes(CONTENT[:100])
    assert fetch(archive, tmp_path, no_progress).read_bytes() == CONTENT


@pytest.fixture
def stubborn() -> Iterator[Callable[[int, dict[str, str], bytes], str]]:
    """A server that gives every request the same answer."""
    servers = []

    def start(code: int, headers: dict[str, str], body: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/set.zip"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("code", "headers", "body", "expected"), [
    (202, {"Content-Length": "0"}, b"", "answered 202 without the file"),
    (404, {"Content-Length": "0"}, b"", "Not Found"),
    (500, {"Content-Length": "0"}, b"", "Internal Server Error"),
    (200, {"Content-Length": "5000"}, b"too little", "ended after 10 of 5,000 bytes"),
    (206, {"Content-Range": "bytes 7-9/10", "Content-Length": "3"}, b"abc", "another part of the file"),
])  # fmt: skip
def test_refusals_are_told_and_the_next_address_is_tried(
    tmp_path: Path,
    serve: Serve,
    stubborn: Callable[[int, dict[str, str], bytes], str],
    code: int,
    headers: dict[str, str],
    body: bytes,
    expected: str,
) -> None:
    address = stubborn(code, headers, body)
    good = published(tmp_path / "web", serve)
    with pytest.raises(DataError) as caught:
        fetch(Archive("set.zip", (address,), good.md5), tmp_path / "to", no_progress)
    message = str(caught.value)
    assert expected in message
    assert address in message
    assert str(tmp_path / "to" / "set.zip") in message
    path = fetch(Archive("set.zip", (address, *good.urls), good.md5), tmp_path / "to", no_progress)
    assert path.read_bytes() == CONTENT


def test_a_server_that_cannot_go_on_starts_again(
    tmp_path: Path, stubborn: Callable[[int, dict[str, str], bytes], str]
) -> None:
    address = stubborn(200, {"Content-Length": str(len(CONTENT))}, CONTENT)
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:5000])
    archive = Archive("set.zip", (address,), hashlib.md5(CONTENT).hexdigest())
    assert fetch(archive, tmp_path, no_progress).read_bytes() == CONTENT


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not be downloaded:\n  http://127\.0\.0\.1:9/set\.zip: .*refused"):
        fetch(Archive("set.zip", ("http://127.0.0.1:9/set.zip",), "0" * 32), tmp_path, no_progress)


def test_no_place_to_write(tmp_path: Path, serve: Serve) -> None:
    archive = published(tmp_path / "web", serve)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="could not be written"):
        fetch(archive, tmp_path / "file", no_progress)


FILES = {"a/one.txt": b"1", "a/b/two.txt": b"22", "three": b""}


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(("make", "name"), [(make_zip, "x.zip"), (make_tar, "x.tar.gz")])
def test_unpacking_puts_every_file_in_place(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    archive = make(tmp_path / name, FILES)
    (tmp_path / "to" / "a").mkdir(parents=True)
    (tmp_path / "to" / "a" / "one.txt").write_bytes(b"left by an interrupted run")
    (tmp_path / "to" / "other.txt").write_bytes(b"mine")
    unpack(archive, tmp_path / "to")
    there = {
        str(path.relative_to(tmp_path / "to")): path.read_bytes()
        for path in (tmp_path / "to").rglob("*")
        if path.is_file()
    }
    assert there == {**FILES, "other.txt": b"mine"}
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["a", "other.txt", "three"]


def test_unpacking_gz(tmp_path: Path) -> None:
    (tmp_path / "images-ubyte.gz").write_bytes(gzip.compress(b"pixels"))
    unpack(tmp_path / "images-ubyte.gz", tmp_path / "raw")
    assert (tmp_path / "raw" / "images-ubyte").read_bytes() == b"pixels"


@pytest.mark.parametrize("evil", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt"])
@pytest.mark.parametrize(("make", "name"), [(make_zip, "x.zip"), (make_tar, "x.tar.gz")])
def test_names_that_lead_out_are_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str, evil: str
) -> None:
    archive = make(tmp_path / name, {"fine.txt": b"1", evil: b"2"})
    with pytest.raises(DataError, match="leads out of its folder; nothing was unpacked"):
        unpack(archive, tmp_path / "inner" / "to")
    assert list((tmp_path / "inner" / "to").iterdir()) == []
    assert not list(tmp_path.rglob("out.txt"))


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match="'link', which is no plain file"):
        unpack(tmp_path / "x.tar", tmp_path / "to")


@pytest.mark.parametrize(("make", "name"), [(make_zip, "x.zip"), (make_tar, "x.tar.gz")])
def test_a_damaged_archive_is_named_and_leaves_nothing(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    archive = make(tmp_path / name, {f"{number}.txt": bytes(range(250)) * 100 for number in range(5)})
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{name} is damaged"):
        unpack(archive, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []
