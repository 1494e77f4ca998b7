"""The panel alone, served by Voila: it is there, it edits, and exports stay in their folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from safetensors.numpy import save_file

import workbench as wb

PATIENCE = 90_000


SLOW = """
import time, workbench.work
def slow(self, amount, quick=workbench.work.Progress.advance):
    time.sleep(0.5)
    quick(self, amount)
workbench.work.Progress.advance = slow
"""


@contextmanager
def served(folder: Path, model: str) -> Iterator[str]:
    """The address of the app, with all its files in a folder."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "XDG_CACHE_HOME")
    log = folder / "log"
    command = [sys.executable, "-m", "workbench", "app", model, "--no-browser", "--folder", "exports"]
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, env={**os.environ, **{name: str(folder / name) for name in names}}, cwd=folder,
            stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE / 1000
        while not (
            found := re.search(r"http://(?:127\.0\.0\.1|localhost):\d+/\S*token=\w+", log.read_text())
        ):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield found[0]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path, "zoo:digits-dit") as found:
        yield found


def test_the_panel_alone(browser: Browser, address: str, results: Path, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1500, "height": 1100}, color_scheme="dark")
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
    panel = page.locator(".aq-panel")
    expect(panel).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(panel).to_have_attribute("data-theme", "light")
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


def layers(count: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {
        f"blocks.{n}.attn.to_q.weight": rng.standard_normal((64, 256)).astype(np.float16)
        for n in range(count)
    }


def test_opening_is_shown_and_can_be_cancelled(browser: Browser, results: Path, tmp_path: Path) -> None:
    startup = tmp_path / "IPYTHONDIR" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "slow.py").write_text(SLOW)
    save_file(layers(200), tmp_path / "big.safetensors")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    with served(tmp_path, "big.safetensors") as found:
        page.goto(found)
        bar = page.locator(".aq-progress")
        expect(bar).to_contain_text("Opening big.safetensors", timeout=PATIENCE)
        expect(bar).to_contain_text(re.compile("layers.*s left"), timeout=PATIENCE)
        page.screenshot(path=results / "app-opening.png")
        bar.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("alert")).to_contain_text("Cancelled.", timeout=PATIENCE)
        expect(bar.get_by_role("button")).to_be_hidden()
    page.close()


def test_what_is_wrong_with_the_weights_is_said_in_the_page(browser: Browser, tmp_path: Path) -> None:
    tensors = layers(2)
    tensors["blocks.1.attn.to_q.weight"][3, 7] = np.nan
    save_file(tensors, tmp_path / "broken.safetensors")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    with served(tmp_path, "broken.safetensors") as found:
        page.goto(found)
        expect(page.get_by_role("alert")).to_contain_text("blocks.1.attn.to_q.weight", timeout=PATIENCE)
    page.close()
