"""Switching, solving and exporting a small Flux in a real JupyterLab, at the size of a laptop's window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import workbench as wb

from .lab import PATIENCE, Desk, Lab

STICKS_OUT = """() => {
    const panel = document.querySelector(".aq-panel").getBoundingClientRect();
    return [...document.querySelectorAll(".aq-above *")].filter((one) => one.getClientRects().length)
        .filter((one) => one.getBoundingClientRect().right > panel.right + 1).map((one) => one.className);
}"""


@pytest.fixture(scope="module")
def flux(flux_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flux") / "tiny-flux"
    flux_model().save_pretrained(folder)
    return folder


def test_a_flux_goes_to_gguf_and_back(
    open_desk: Callable[..., Desk], lab: Lab, flux: Path, results: Path, tmp_path: Path
) -> None:
    opening = f"import workbench as wb\ns = wb.open({str(flux)!r}, target='mlx', cache={str(tmp_path)!r})\ns"
    desk = open_desk("flux.ipynb", [opening], viewport=(1100, 800))
    page = desk.page
    desk.run(0)
    desk.wait_for_table()
    desk.choose(1)
    page.keyboard.press("7")
    desk.settle()
    expect(desk.told("status")).to_contain_text("mlx has no 7 bits there: 7 → 8 bits affine 128 for 1 layer")
    page.get_by_label("target format").select_option("gguf")
    expect(desk.told("status")).to_contain_text("Undo goes back to mlx", timeout=PATIENCE)
    expect(page.get_by_label("names of the layers")).to_have_value("original")
    assert desk.ask("s.names") == "'original'"
    assert page.evaluate(STICKS_OUT) == []
    desk.agree()
    desk.button("Undo").click()
    expect(page.get_by_label("target format")).to_have_value("mlx", timeout=PATIENCE)
    desk.button("Redo").click()
    expect(page.get_by_label("target format")).to_have_value("gguf", timeout=PATIENCE)
    desk.agree()

    # What was typed is solved for, also after the field has lost the focus.
    field = page.get_by_label("size to solve for")
    field.fill("3 MB")
    page.get_by_label("filter layers").click()
    desk.button("Solve: the best plan").click()
    desk.button("Lock it and solve").click()
    expect(page.locator(".aq-script")).to_have_attribute(
        "data-last", "s.solve('3 MB', lock_edits=True)", timeout=PATIENCE
    )
    desk.settle()
    desk.agree()

    desk.button("Export …").click()
    drawer = page.locator(".aq-drawer").filter(has=page.get_by_role("textbox", name="folder"))
    expect(drawer).to_contain_text(str(lab.folder / "export"))
    page.get_by_role("textbox", name="folder").fill("for-comfyui")
    desk.button("Write the export").click()
    expect(drawer).to_contain_text("read back and compared", timeout=PATIENCE)
    lines = drawer.locator(".aq-lines").inner_text()
    assert str(lab.folder / "for-comfyui") in lines
    assert "ComfyUI" in lines
    assert wb.verify(lab.folder / "for-comfyui", flux).ok
    assert page.evaluate(STICKS_OUT) == []
    for theme in ("Dark", "Light"):
        desk.theme(theme)
        page.wait_for_timeout(800)
        page.screenshot(path=results / f"lab-actions-{theme.lower()}.png")
