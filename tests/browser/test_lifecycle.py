"""A panel through the life of its notebook: cells that run for long, kernels that end, pages that come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from safetensors.numpy import save_file

from .lab import PATIENCE, Desk, notebook, started

BUSY = "window.jupyterapp.shell.currentWidget.content.widgets[{}].promptNode.textContent.includes('*')"
LATE_SUBSHELL = """seconds => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const create = kernel.requestCreateSubshell.bind(kernel);
    const later = (reply) => new Promise((resume) => setTimeout(() => resume(reply), 1000 * seconds));
    kernel.requestCreateSubshell = (...given) => ({ done: create(...given).done.then(later) });
}"""
"""JupyterLab has widgets heard by a subshell, but what it sends before it has one waits for the cell that runs."""


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 24 layers in 6 blocks."""
    rng = np.random.default_rng(5)
    parts = ("attn.to_q", "attn.to_k", "ff.net.0.proj", "ff.net.2")
    folder = tmp_path_factory.mktemp("checkpoints") / "six-blocks"
    folder.mkdir()
    save_file(
        {
            f"blocks.{block}.{part}.weight": rng.normal(0, 2.0 ** -(block % 4), (320, 512)).astype(np.float16)
            for block in range(6)
            for part in parts
        },
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps({"_class_name": "DiTTransformer2DModel"}))
    return folder


def opening(path: Path, variable: str = "s") -> str:
    """A cell that opens a checkpoint, its measurements remembered beside it."""
    return f"import workbench as wb\n{variable} = wb.open({str(path)!r}, 'mlx', cache={str(path.parent / 'cache')!r})"


def test_a_long_cell_that_starts_before_the_panel_has_settled(
    open_desk: Callable[..., Desk], blocks: Path
) -> None:
    done = blocks.parent / "done"
    wait = (
        f"import time\nfrom pathlib import Path\nwhile not Path({str(done)!r}).exists():\n    time.sleep(0.1)"
    )
    desk = open_desk("long.ipynb", [opening(blocks) + "\ns", wait])
    page = desk.page
    page.evaluate(LATE_SUBSHELL, 3)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    desk.wait_for_table()
    desk.choose(2)
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("3")
    page.keyboard.press("6")
    expect(desk.table).to_have_attribute("data-version", "2", timeout=PATIENCE)
    desk.settle()
    assert page.evaluate(BUSY.format(1)), "while the cell runs"
    expect(desk.told("alert")).to_be_hidden()
    done.touch()
    page.wait_for_function("!" + BUSY.format(1), timeout=PATIENCE)
    desk.choose(4)
    page.keyboard.press("8")
    expect(desk.table).to_have_attribute("data-version", "3")
    desk.agree()
    assert desk.ask("[o.bits for o in s.plan.choices.values()][2:5]") == "[6, 6, 8]", (
        "each edit once, in order"
    )
    assert desk.ask("s.script[0].endswith('3)') and s.script[1].endswith('6)')") == "True"


def stored(file: Path) -> list[str]:
    """The HTML of the copies of a plan in a notebook's file."""
    outputs = [output for cell in json.loads(file.read_text())["cells"] for output in cell["outputs"]]
    found = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    return [html for html in found if "aq-stored" in html]


def press(desk: Desk, view: int, layer: int, key: str) -> None:
    """Press a key on a layer, in one of several views."""
    table = desk.table.nth(view)
    table.locator(f'.aq-body .aq-row[data-row="{layer}"]:not([hidden]) [data-key="role"]').click()
    desk.page.keyboard.press(key)


def restart(desk: Desk) -> None:
    desk.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    for view in desk.table.all():
        expect(view).to_have_attribute("data-connection", "gone", timeout=PATIENCE)


def versions(desk: Desk, number: int) -> None:
    for view in desk.table.all():
        expect(view).to_have_attribute("data-version", str(number), timeout=PATIENCE)
        expect(view).to_have_attribute("data-pending", "0", timeout=PATIENCE)


def a_life(desk: Desk, results: Path) -> None:
    """Three views of one session: edited, loaded again, without their kernel, and run again."""
    page, copies = desk.page, desk.page.locator(".aq-stored")
    for cell in (0, 1, 2):
        desk.run(cell)
    expect(desk.table).to_have_count(3, timeout=PATIENCE)
    press(desk, 1, 2, "3")
    versions(desk, 1)
    expect(copies.filter(has_text="3 bits: 1, 4 bits: 23")).to_have_count(3, timeout=PATIENCE)
    assert not any(copy.is_visible() for copy in copies.all()), "the views show it"
    assert all("3 bits: 1, 4 bits: 23" in copy for copy in stored(desk.save()))

    # JupyterLab does not know after a reload which outputs an update is for.
    desk.reload()
    expect(desk.table).to_have_count(3, timeout=PATIENCE)
    press(desk, 0, 4, "8")
    versions(desk, 2)
    last = "3 bits: 1, 4 bits: 22, 8 bits: 1"
    expect(copies.filter(has_text=last)).to_have_count(3, timeout=PATIENCE)
    file = desk.save()
    assert [last in copy for copy in stored(file)] == [True] * 3
    assert file.stat().st_size < 300_000
    assert desk.traffic.faults == [], "the page misses no model while its kernel lives"

    restart(desk)
    assert page.locator(".aq-strip").first.inner_text().startswith("This table is no longer connected")
    page.reload()
    desk.wait_until_idle()
    expect(copies).to_have_count(3, timeout=PATIENCE)
    for copy in copies.all():
        copy.scroll_into_view_if_needed()
        expect(copy).to_contain_text(last)
        expect(copy).to_contain_text("Run the cell again to edit")
        expect(copy.locator("svg")).to_have_count(2)
    failed = page.get_by_text("model not found")
    expect(failed).to_have_count(3)
    assert not any(one.is_visible() for one in failed.all())
    copies.first.scroll_into_view_if_needed()
    page.screenshot(path=results / f"restarted-{desk.lab.application}.png")
    assert all("model not found" in fault for fault in desk.traffic.faults)
    desk.traffic.faults.clear()

    # A new session is not touched by what is left of the old one.
    desk.run(0)
    desk.run(1)
    expect(desk.table).to_have_count(2, timeout=PATIENCE)
    press(desk, 1, 1, "5")
    versions(desk, 1)
    expect(copies.filter(has_text="4 bits: 23, 5 bits: 1")).to_have_count(2, timeout=PATIENCE)
    copies.nth(2).scroll_into_view_if_needed()
    expect(copies.nth(2)).to_be_visible()
    expect(copies.nth(2)).to_contain_text(last)
    desk.save()
    assert file.stat().st_size < 300_000
    assert desk.traffic.faults == []


CELLS = ("s\nfrom IPython.display import display\ndisplay(s, s)", "s")


def test_a_notebook_shows_the_last_plan_with_or_without_its_kernel(
    open_desk: Callable[..., Desk], blocks: Path, results: Path
) -> None:
    a_life(open_desk("life.ipynb", [opening(blocks), *CELLS]), results)


def test_so_does_notebook_7(browser: Browser, blocks: Path, results: Path, tmp_path: Path) -> None:
    with started(tmp_path, "notebook") as server:
        (server.folder / "life.ipynb").write_text(json.dumps(notebook([opening(blocks), *CELLS])))
        desk = Desk(browser, server, "life.ipynb")
        a_life(desk, results)
        desk.close()


def test_running_the_cell_again_goes_on_with_its_plan(open_desk: Callable[..., Desk], blocks: Path) -> None:
    desk = open_desk("again.ipynb", [opening(blocks) + "\ns", opening(blocks, "other")])
    assert desk.run(0) == ""
    desk.wait_for_table()
    press(desk, 0, 3, "3")
    versions(desk, 1)
    press(desk, 0, 5, "8")
    versions(desk, 2)
    assert "its plan after 2 edits" in desk.run(0)
    desk.wait_for_table()
    versions(desk, 2)
    desk.agree()
    assert (desk.bits()["blocks.0.ff.net.2.weight"], desk.table.count()) == ("3", 1)
    desk.button("Undo").click()
    versions(desk, 3)
    desk.agree()
    assert desk.run(1) == "", "another cell opens another session"
    assert desk.ask("other.version") == "0"
