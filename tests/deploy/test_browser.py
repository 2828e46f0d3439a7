"""examples/digit.html in a headless Chromium: the page classifies drawn digits by onnxruntime-web as the packed engine does.

Runs where Chromium is installed and TNA_ORT_WEB names the folder `dist` of the npm package onnxruntime-web.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.conftest import Quickstart
from tnacli.deploy.onnx import onnx_bytes

PAGE = Path(__file__).parents[2] / "examples" / "digit.html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LIBRARY = os.environ.get("TNA_ORT_WEB")

pytestmark = [
    pytest.mark.skipif(not PAGE.exists(), reason="only in a checkout"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(quickstart: Quickstart, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("onnx", reason="needs the extra onnx")
    if LIBRARY is None or not Path(LIBRARY, "ort.wasm.min.mjs").exists():
        pytest.skip("needs TNA_ORT_WEB, the folder dist of the npm package onnxruntime-web")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(PAGE, folder)
    (folder / "ort").symlink_to(Path(LIBRARY).resolve())
    (folder / "digits.onnx").write_bytes(onnx_bytes(quickstart.packed))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/digit.html"
        server.shutdown()


@pytest.mark.parametrize("number", [0, 7, 123])
def test_a_drawn_digit_is_classified_as_by_the_packed_file(
    site: str, quickstart: Quickstart, number: int, tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    drawn = ",".join(map(str, quickstart.pixels[number].flatten().tolist()))
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
               "--virtual-time-budget=20000", "--dump-dom", f"{site}#{drawn}"]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<h1 id="answer" data-logits="([^"]+)">This is a (\d)</h1>', shown)
    assert found, shown[:1000]
    expected = quickstart.expected[number]
    assert int(found[2]) == int(expected.argmax())
    np.testing.assert_allclose(np.array(found[1].split(), float), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_the_page_normalises_as_the_file_says(quickstart: Quickstart) -> None:
    (mean, std) = re.findall(r"(?:MEAN|STD) = ([\d.]+)", PAGE.read_text(encoding="utf-8"))
    assert ((float(mean),), (float(std),)) == (quickstart.packed.about.input.mean, quickstart.packed.about.input.std)
