"""The pages in a real browser, narrow, wide and dark: a picture of each, and what the browser says of it.

Skipped where there is no Chromium (Debian: apt-get install chromium). With PAGES_SEEN=DIR the pictures stay
there to be looked at.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from esctl.bench.report.page import page as bench_page
from esctl.observe.timeline.page import page as timeline_page
from esctl.playbook.page import page as playbook_page
from tests.esctl.bench.test_report import TIME, failover, produce, soak
from tests.esctl.observe.test_timeline import WHOLE
from tests.esctl.playbook.runs import a_long_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: pages are only looked at as text"),
]
HEIGHT = 1600
LEAST_WINDOW = 500
"""Chromium's window is no narrower: a narrow page is looked at within a frame."""
MEASURED = {"a.json": produce(), "b.json": produce(90.0), "f.json": failover(), "s.json": soak()}
PAGES: dict[str, Callable[[], str]] = {
    "timeline": lambda: timeline_page(WHOLE, "Timeline of failover", ["a note"]),
    "playbook": lambda: playbook_page(a_long_run()),
    "bench": lambda: bench_page(MEASURED, TIME),
}
ASK = """
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument, wide = page.documentElement.clientWidth;
  const size = one => parseFloat(getComputedStyle(one).fontSize);
  const scale = one => {
    const box = one.ownerSVGElement.viewBox.baseVal, drawn = one.ownerSVGElement.clientWidth;
    return box && box.width && drawn ? drawn / box.width : 1; };
  const out = [...page.querySelectorAll("body *")]
    .filter(one => !one.closest(".wide") && !one.closest("svg svg"))
    .filter(one => one.getBoundingClientRect().right > wide + 1)
    .map(one => one.tagName + " " + one.getAttribute("class"));
  const texts = [...page.querySelectorAll("svg text")].filter(one => one.getClientRects().length);
  const told = {over: page.documentElement.scrollWidth - wide, out: out.slice(0, 5),
    texts: texts.map(one => size(one) * scale(one)), text: size(page.querySelector("p")),
    ground: getComputedStyle(page.body).backgroundColor};
  document.body.append(Object.assign(document.createElement("output"), {textContent: JSON.stringify(told)}));
});
"""


def browse(page: str, width: int, directory: Path, *, dark: bool, what: str) -> str:
    """Open the page in a frame of that width, and do what the switch `what` says."""
    frame = directory / "frame.html"
    size = f"width: {width}px; height: {HEIGHT}px"
    style = f"body {{ margin: 0 }} iframe {{ border: 0; {size}; display: block }} output {{ display: none }}"
    head = f'<!DOCTYPE html><meta name="color-scheme" content="light dark"><style>{style}</style>'
    frame.write_text(f'{head}<script>{ASK}</script><iframe srcdoc="{escape(page)}"></iframe>')
    words = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", what]
    words += [f"--user-data-dir={directory / 'profile'}"]
    words += [f"--window-size={max(width, LEAST_WINDOW)},{HEIGHT}"]
    words += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    done = subprocess.run([*words, frame.as_uri()], check=True, capture_output=True, text=True, timeout=100)
    return done.stdout


@pytest.mark.parametrize("name", list(PAGES))
@pytest.mark.parametrize(("width", "dark"), [(400, False), (1280, False), (1280, True)])
def test_a_page_fits_its_screen_and_its_charts_are_written_as_large_as_its_text(
    name: str, width: int, dark: bool, tmp_path: Path
) -> None:
    page = PAGES[name]()
    document = browse(page, width, tmp_path, dark=dark, what="--dump-dom")
    found = re.search(r"<output>(.*?)</output>", document, re.DOTALL)
    assert found is not None
    told: dict[str, Any] = json.loads(unescape(found[1]))
    assert told["over"] == 0, "nothing has to be scrolled sideways"
    assert told["out"] == []
    assert len(told["texts"]) > 1
    sizes = [size / told["text"] for size in told["texts"]]
    assert 0.65 < min(sizes) <= max(sizes) < 1.2, (min(sizes), max(sizes))
    brightness = max(int(part) for part in re.findall(r"\d+", told["ground"])[:3])
    assert (brightness < 60) is dark
    picture = tmp_path / f"{name}-{width}{'-dark' if dark else ''}.png"
    browse(page, width, tmp_path, dark=dark, what=f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    if kept := os.environ.get("PAGES_SEEN"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, kept)
