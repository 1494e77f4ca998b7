"""The panel light and dark, in JupyterLab and in Voila, on a model with long names and a calibration."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import workbench as wb

from .lab import PATIENCE, Desk
from .test_columns import in_sight, keys
from .test_figures import BUTTONS, UPLOADS

MARKS = """() => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (text) => {
        const [r, g, b] = rgb(text).slice(0, 3).map((one) => one / 255)
            .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const groundOf = (one) => {
        while (one && (rgb(getComputedStyle(one).backgroundColor)[3] ?? 1) === 0) one = one.parentElement;
        return light(getComputedStyle(one).backgroundColor);
    };
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const found = { text: [], marks: [] };
    for (const chart of document.querySelectorAll(".aq-chart[data-drawn]")) {
        const ground = groundOf(chart);
        for (const text of chart.querySelectorAll(".xtick text, .legendtext")) {
            found.text.push(contrast(light(getComputedStyle(text).fill), ground));
        }
    }
    const depth = document.querySelector('.aq-chart[aria-label^="Entropy"]');
    for (const mark of depth.querySelectorAll(".scatterlayer .point")) {
        const { fill, opacity, fillOpacity } = getComputedStyle(mark);
        found.marks.push([contrast(light(fill), groundOf(depth)), Number(opacity) * Number(fillOpacity)]);
    }
    for (const swatch of document.querySelectorAll(".aq-body .aq-row:not([hidden]) .aq-swatch")) {
        const colour = light(getComputedStyle(swatch).backgroundColor);
        found.marks.push([contrast(colour, groundOf(swatch.parentElement)), 1]);
    }
    return found;
}"""


def check(page: Page, theme: str) -> None:
    """Assert that marks and texts stand out, and that nothing offers to upload."""
    expect(page.locator(".aq-panel")).to_have_attribute("data-theme", theme, timeout=PATIENCE)
    page.wait_for_timeout(1500)  # a host loads its colours after it has said which theme it is
    found = page.evaluate(MARKS)
    assert len(found["marks"]) > 600
    assert min(contrast for contrast, _ in found["marks"]) >= 3
    assert {opacity for _, opacity in found["marks"]} == {1}
    assert min(found["text"]) >= 4.5
    buttons = page.evaluate(BUTTONS, ".aq-panel .modebar-btn")
    assert buttons
    assert [button for button in buttons if any(word in button for word in UPLOADS)] == []


@pytest.fixture(scope="module")
def measured(unet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache in which the model's costs are, so that no page waits for them."""
    cache = tmp_path_factory.mktemp("cache")
    wb.open(unet / "model", target="mlx", calibration=unet / "calibration.parquet", cache=cache).close()
    return cache


def test_jupyterlab_light_and_dark(
    open_desk: Callable[..., Desk], unet: Path, measured: Path, results: Path
) -> None:
    opening = (
        f"wb.open({str(unet / 'model')!r}, target='mlx', calibration={str(unet / 'calibration.parquet')!r}, "
        f"cache={str(measured)!r})"
    )
    edits = "s.set_bits('role:attn.q', 2)\ns.set_bits('role:attn.k', 3)\ns.set_bits('*ff*', 6)\ns"
    desk = open_desk(
        "themes.ipynb", [f"import workbench as wb\ns = {opening}\n{edits}"], viewport=(1600, 1000)
    )
    page = desk.page
    desk.run(0)
    desk.wait_for_table()
    desk.wait_for_charts()
    for theme in ("Light", "Dark"):
        desk.theme(theme)
        for width, height in ((1600, 1000), (1100, 800)):
            page.set_viewport_size({"width": width, "height": height})
            check(page, theme.lower())
            page.screenshot(path=results / f"lab-unet-{theme.lower()}-{width}.png")
            assert [key for key in ("name", "bits", "damage", "nbytes") if not in_sight(page, key)] == []
    desk.choose(2)
    page.wait_for_timeout(500)
    check(page, "dark")
    page.locator(".aq-figures").screenshot(path=results / "lab-unet-dark-figures.png")
    page.locator('.aq-header [data-key="heat"] .aq-sort').focus()
    page.keyboard.press("h")
    page.locator('.aq-header [data-key="role"] .aq-sort').focus()
    page.keyboard.press("<")
    arranged = keys(page)
    assert "heat" not in arranged
    assert arranged[:5] == ["locked", "name", "bits", "damage", "role"]
    page.get_by_label("filter layers").fill("role:attn* and bits < 4 and *attentions.0*")
    expect(page.locator(".aq-shown")).to_have_text(re.compile(r"^84 of 344 layers$"), timeout=PATIENCE)
    desk.save()
    desk.reload()
    assert keys(page) == arranged, "as the columns were before"


@pytest.fixture
def address(unet: Path, tmp_path: Path) -> Iterator[str]:
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    log = tmp_path / "log"
    command = [
        sys.executable, "-m", "workbench", "app", str(unet / "model"), "--target", "mlx",
        "--calibration", str(unet / "calibration.parquet"), "--no-browser", "--folder", "exports",
    ]  # fmt: skip
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, env={**os.environ, **{name: str(tmp_path / name) for name in names}}, cwd=tmp_path,
            stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + PATIENCE / 1000
    while not (found := re.search(r"http://(?:127\.0\.0\.1|localhost):\d+/\S*token=\w+", log.read_text())):
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
    yield found[0]
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(30)


def test_voila_dark(browser: Browser, address: str, results: Path) -> None:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(2 * PATIENCE)
    page.goto(f"{address}&theme=dark")
    page.wait_for_selector(".aq-table[data-ready] .aq-body .aq-row")
    page.locator('.aq-body .aq-row[data-row="5"] [data-key="role"]').click()
    page.keyboard.press("2")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("3")
    expect(page.locator(".aq-table")).to_have_attribute("data-pending", "0", timeout=PATIENCE)
    page.wait_for_function("document.querySelectorAll('.aq-chart[data-drawn]').length >= 3")
    check(page, "dark")
    page.screenshot(path=results / "app-dark-1600.png")
    page.set_viewport_size({"width": 1100, "height": 800})
    check(page, "dark")
    page.screenshot(path=results / "app-dark-1100.png")
    assert [key for key in ("name", "bits", "damage", "nbytes") if not in_sight(page, key)] == []
    context.close()
