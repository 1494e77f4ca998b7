"""The panel alone, served by Voila: it is there, it edits, and exports stay in their folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import workbench as wb

PATIENCE = 90_000


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    log = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "workbench",
        "app",
        "zoo:digits-dit",
        "--no-browser",
        "--folder",
        "exports",
    ]
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


def test_the_panel_alone(browser: Browser, address: str, results: Path, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1500, "height": 1100})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".aq-table[data-ready] .aq-body .aq-row")
    page.wait_for_function("document.querySelectorAll('.aq-chart[data-drawn]').length >= 3")
    before = page.locator('[data-total="nbytes"] b').inner_text()
    page.locator('.aq-body .aq-row[data-row="4"] [data-key="role"]').click()
    page.keyboard.press("8")
    expect(page.locator(".aq-table")).to_have_attribute("data-version", "1")
    expect(page.locator('[data-total="nbytes"] b')).not_to_have_text(before)
    page.screenshot(path=results / "app.png")
    toolbar = page.locator(".aq-toolbar")
    toolbar.get_by_role("button", name="Export …").click()
    folder = page.get_by_role("textbox", name="folder")
    folder.fill("../elsewhere")
    folder.press("Enter")
    expect(page.locator('.aq-strip[role="alert"]')).to_contain_text("elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    folder.fill("small")
    toolbar.get_by_role("button", name="Write").click()
    expect(page.locator('.aq-strip[role="status"]')).to_contain_text(
        "read back and compared", timeout=PATIENCE
    )
    assert wb.verify(tmp_path / "exports" / "small", "zoo:digits-dit").ok
    assert faults == []
    context.close()
