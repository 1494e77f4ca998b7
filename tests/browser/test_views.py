"""Views come and go: two tabs of a notebook, a cell that runs again, another target, and Notebook 7."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, expect

from .lab import PATIENCE, Desk, notebook, started

CELLS = ["import workbench as wb\ns = wb.open('zoo:digits-dit')", "s"]
COUNT = "sum(type(one).__name__ == 'Panel' for one in __import__('ipywidgets').widgets.widget._instances.values())"


def version(desk: Desk, number: int) -> None:
    expect(desk.table).to_have_attribute("data-version", str(number), timeout=PATIENCE)
    desk.agree()


def test_two_tabs_of_a_notebook_show_one_plan(open_desk: Callable[..., Desk]) -> None:
    one = open_desk("tabs.ipynb", CELLS)
    one.run(0)
    one.run(1)
    one.wait_for_table()
    one.wait_for_charts()
    one.save()
    two = open_desk("tabs.ipynb")
    two.reload()
    one.choose(2)
    one.page.keyboard.press("6")
    version(one, 1)
    version(two, 1)
    two.choose(3)
    two.page.keyboard.press("Shift+ArrowDown")
    two.page.keyboard.press("7")
    version(two, 2)
    version(one, 2)
    two.solve_for("2.1 MB")
    two.button("Solve for all").click()
    version(one, 3)
    expect(one.page.locator(".aq-script")).to_have_attribute("data-last", "s.solve('2.1 MB')")
    two.reload()
    version(two, 3)
    one.choose(5)
    one.page.keyboard.press("l")
    version(two, 4)
    expect(two.row(5).locator(".aq-lock")).to_have_attribute("aria-pressed", "true")
    two.button("Undo").click()
    version(one, 5)
    expect(one.row(5).locator(".aq-lock")).to_have_attribute("aria-pressed", "false")
    two.wait_for_charts()


def test_a_cell_that_runs_again_leaves_no_view_behind(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk("again.ipynb", ["import workbench as wb", "s = wb.open('zoo:digits-dit')\ns", "s"])
    desk.run(0)
    for _ in range(3):
        desk.run(1)
        desk.wait_for_table()
        assert desk.ask(COUNT) == "1"
    desk.choose(1)
    desk.page.keyboard.press("5")
    version(desk, 1)
    desk.run(2)
    expect(desk.table).to_have_count(2)
    assert desk.ask(COUNT) == "1", "the same session's panel, twice"
    desk.run(1)
    assert desk.ask(COUNT) == "2", "the cell below shows the old session still"
    desk.run(2)
    assert desk.ask(COUNT) == "1"


def test_another_target_in_the_same_panel(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk("target.ipynb", CELLS)
    desk.run(0)
    desk.run(1)
    desk.wait_for_table()
    desk.choose(4)
    desk.page.keyboard.press("7")
    version(desk, 1)
    desk.page.get_by_label("target format").select_option("mlx")
    expect(desk.told("status")).to_contain_text("now for mlx", timeout=PATIENCE)
    version(desk, 2)
    assert desk.ask("s.target.name") == "'mlx'"
    expect(desk.page.get_by_label("target format")).to_have_value("mlx")
    expect(desk.row(4)).to_have_attribute("aria-selected", "true")
    desk.choose(5)
    desk.page.keyboard.press("3")
    version(desk, 3)
    desk.wait_for_charts()
    expect(desk.page.locator(".aq-budget")).to_be_enabled(timeout=PATIENCE)


def test_notebook_7(browser: Browser, tmp_path: Path, results: Path) -> None:
    with started(tmp_path, "notebook") as server:
        (server.folder / "seven.ipynb").write_text(json.dumps(notebook(CELLS)))
        desk = Desk(browser, server, "seven.ipynb")
        desk.run(0)
        desk.run(1)
        desk.wait_for_table()
        desk.wait_for_charts()
        desk.choose(2)
        # Notebook 7 hears of keys before the page does.
        desk.page.keyboard.press("Shift+ArrowDown")
        expect(desk.page.locator('.aq-row[aria-selected="true"]')).to_have_count(2)
        for key in "bx":
            desk.page.keyboard.press(key)
        expect(desk.page.locator(".jp-Cell")).to_have_count(2)
        desk.page.keyboard.press("6")
        version(desk, 1)
        desk.solve_for("2.2 MB")
        desk.button("Solve for all").click()
        version(desk, 2)
        desk.page.wait_for_timeout(1000)
        desk.page.screenshot(path=results / "notebook-7.png")
        desk.save()
        desk.reload()
        version(desk, 2)
        assert desk.traffic.faults == []
        desk.close()
