"""The report in a real browser, headless Chromium, at desktop and phone width; skipped where it is not installed."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from releq_env.report import write_report
from tests.agents.reported import HOSTILE, run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install -y chromium")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --enable-logging=stderr"
)
MEASURE = """<script>
const wide = [...document.querySelectorAll("main *")].filter(
  (each) => !each.closest(".scroll, pre, svg") && each.getBoundingClientRect().right > innerWidth + 1);
parent.document.body.dataset.measured = JSON.stringify({
  window: innerWidth, page: document.documentElement.scrollWidth, wide: wide.map((each) => each.outerHTML.slice(0, 80)),
  styled: getComputedStyle(document.body).margin});
</script>"""


def opened(path: Path, width: int) -> tuple[str, str]:
    """Open a page, and return what it has become and what the browser said of it."""
    assert CHROMIUM is not None
    profile = path.with_suffix(".profile")
    options = [*QUIET.split(), f"--user-data-dir={profile}", f"--window-size={width},900", "--dump-dom"]
    command = [CHROMIUM, *options, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run(tmp_path_factory.mktemp("browser") / "run", "hostile")
    return write_report(folder)


@needs_browser
def test_what_the_browser_shows(report: Path) -> None:
    shown, console = opened(report, 1280)
    assert console == ""
    cells = re.findall(r'<td class="name">(.*?)</td>', shown, flags=re.DOTALL)
    assert [html.unescape(cell) for cell in cells] == HOSTILE
    chips = [int(bits) for bits in re.findall(r"<li><b>(\d+)</b>", shown)]
    assert chips == json.loads((report.parent / "best.json").read_text())["bitwidths"]
    assert shown.count("<svg ") == 2
    assert "NaN" not in shown


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(report: Path, width: int) -> None:
    text = report.read_text()
    policy = re.search(r"<meta http-equiv=.*?>", text)
    assert policy is not None
    text = text.replace(policy[0], "").replace("</body>", MEASURE + "</body>")
    framed = report.with_name(f"framed-{width}.html")  # a window of its own is at least 500 wide
    framed.write_text(
        f'<!doctype html><iframe style="border: 0" width={width} height=900 srcdoc="{html.escape(text)}">'
    )
    shown, console = opened(framed, 1400)
    found = json.loads(html.unescape(re.findall(r'data-measured="(.*?)"', shown)[0]))
    assert console == ""
    assert found["window"] == width
    assert found["page"] <= width
    assert found["wide"] == []
    assert found["styled"] == "0px"


@needs_browser
def test_scripts_do_not_run(report: Path) -> None:
    harmed = report.with_name("harmed.html")
    harmed.write_text(report.read_text().replace("</body>", "<script>document.title = 'harm'</script></body>"))
    shown, console = opened(harmed, 1280)
    assert "<title>harm" not in shown
    assert "Content Security Policy" in console
