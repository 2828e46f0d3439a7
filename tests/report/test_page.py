"""The HTML page of a report, as a browser shows it at the width of a phone and of a desk, in light and in dark colours."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TINY_RECIPE, Tna
from tests.cli.conftest import tna as tna
from tests.report.conftest import Finish
from tnacli.recipe.parse.load import load, plan

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURE = """<script>
const lines = one => { const range = document.createRange(); range.selectNodeContents(one); return new Set(
  [...range.getClientRects()].filter(r => r.width).map(r => Math.round(r.top))).size };
parent.document.body.dataset.seen = JSON.stringify({
  width: innerWidth, needed: document.documentElement.scrollWidth, background: getComputedStyle(document.body).backgroundColor,
  text: getComputedStyle(document.body).color, broken: [...document.querySelectorAll('.n, .whole')].filter(
    one => lines(one) > 1 && one.tagName != 'TH').map(one => one.textContent),
});
</script>"""


@pytest.fixture
def page(tna: Tna, tmp_path: Path, out: Path, finish: Finish) -> Path:
    """The page of two runs of which one has no curve for its second seed."""
    pytest.importorskip("matplotlib")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY_RECIPE + "  never: {train: {epochs: 9}}\n")
    for name, by_seed in {"baseline": {0: 50.0, 1: 52.0}, "tna_t_snn": {0: 49.0, 1: 50.5}}.items():
        for run in plan(load(recipe), runs=[name], seeds=list(by_seed)):
            finish(run, by_seed[run.seed])
    file = tmp_path / "page.html"
    assert tna("report", recipe, "--seed", 0, "--seed", 1, "--out", out, "-o", file).code == 0
    return file


def test_it_says_command_settings_date_and_which_runs_have_no_curve(page: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))
    assert re.search(r"\$ tna report .*tiny\.yaml --seed 0 --seed 1 .* · tnacli \S+ · \d{4}-\d\d-\d\d \d\d:\d\d", text)
    assert "objective.kind=twin" in text
    assert "model.layout=4C3-AP2-6C3-AP2-12FC" in text
    assert "Without a curve: never: no epoch yet." in text


def test_it_draws_differences(page: Path) -> None:
    drawn = re.findall(r"<text[^>]*>([^<]+)</text>", page.read_text(encoding="utf-8"))
    assert "tna_t_snn - baseline" in drawn
    assert "-1.25 (-4.43 to +1.93), 2 seeds" in drawn


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium (Debian: apt install chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(page: Path, tmp_path: Path, width: int) -> None:
    """It is as wide as the window, no number is broken, and dark colours are others than light ones."""
    dark, light = (seen(page, tmp_path, width, scheme) for scheme in (0, 1))
    for one in (dark, light):
        assert one["width"] == width
        assert one["needed"] <= width
        assert one["broken"] == []
    assert (light["background"], light["text"]) == ("rgb(255, 255, 255)", "rgb(27, 27, 27)")
    assert (dark["background"], dark["text"]) == ("rgb(22, 22, 22)", "rgb(228, 228, 228)")


def seen(page: Path, folder: Path, width: int, scheme: int) -> dict[str, Any]:
    """What the browser makes of the page in a window of this width, in dark (0) or light (1) colours."""
    measured, text = folder / "measured.html", page.read_text(encoding="utf-8").replace("</body>", MEASURE + "</body>")
    # In a frame, as a window of Chromium is never narrower than 500 pixels.
    frame = f'<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{html.escape(text)}"></iframe>'
    measured.write_text(f"<!doctype html><meta charset=utf-8><body>{frame}</body>", encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,1000",
         "--dump-dom", f"--blink-settings=preferredColorScheme={scheme}",
         f"--user-data-dir={folder / 'profile'}", measured.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found is not None, done.stderr
    value: dict[str, Any] = json.loads(html.unescape(found[1]))
    return value
