"""The table in a browser and a real session behind it: what is on screen is what gets exported.

The page hands every message to the widget's own handlers and hears what they send, so both sides are the real ones.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import workbench as wb
from workbench.session import Session
from workbench.ui import LayerTable

ShowTable = Callable[..., Page]

SHOWN = """() => {
    const rows = [...document.querySelectorAll(".aq-body .aq-row:not([hidden])")];
    return Object.fromEntries(rows.map((row) => {
        const text = (key) => row.querySelector(`[data-key="${key}"]`).textContent;
        const bits = row.querySelector('[data-key="bits"]');
        const locked = row.querySelector(".aq-lock").getAttribute("aria-pressed") === "true";
        const name = row.querySelector('[data-key="name"]').title;
        const scheme = bits.querySelector("small").textContent.replace(/^\\d → /, "");
        return [name, [bits.querySelector("b").textContent, scheme,
            text("nbytes"), locked]];
    }));
}"""


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", target="parquet", cache=tmp_path) as session:
        yield session


@pytest.fixture
def open_table(
    show: ShowTable, session: Session, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Page]]:
    """A page with the table of the session; all rows in sight."""
    tables = []

    def open_it(**settings: Any) -> Page:
        table = LayerTable(session, height=1200)
        tables.append(table)
        outbox: list[dict[str, Any]] = []

        def keep(content: Any, buffers: Any = None) -> None:
            encoded = [base64.b64encode(bytes(one)).decode() for one in buffers or []]
            outbox.append({"content": content, "buffers": encoded})

        monkeypatch.setattr(table, "send", keep)

        def kernel(message: dict[str, Any]) -> list[dict[str, Any]]:
            if "state" in message:
                table.set_state(message["state"])
            else:
                table._handle_custom_msg(message["content"], [])
            answers = outbox[:]
            outbox.clear()
            return answers

        state = table.get_state()["data"]
        page = show(state=state, kernel=kernel, traits={"height": 1200}, **settings)
        page.set_viewport_size({"width": 1500, "height": 1300})
        page.wait_for_function("document.querySelectorAll('.aq-body .aq-row:not([hidden])').length === 33")
        return page

    yield open_it
    for table in tables:
        table.close()


def settled(page: Page) -> None:
    expect(page.locator(".aq-table")).to_have_attribute("data-pending", "0")


def agree(page: Page, session: Session) -> None:
    """Assert that the page shows the session's plan and totals."""
    settled(page)
    shown = page.evaluate(SHOWN)
    short = {"keep": "kept", "asymmetric": "asym", "symmetric": "sym"}
    for name, option in session.plan.choices.items():
        scheme = short[option.scheme] + (f" {option.group_size}" if option.group_size else "")
        assert shown[name] == [str(option.bits), scheme, f"{option.nbytes:,}", name in session.locked], name
    totals = session.totals
    assert page.locator('[data-total="nbytes"] b').inner_text() == f"{totals.nbytes / 1e6:.3f} MB"
    assert page.locator('[data-total="bpw"] b').inner_text() == f"{totals.bpw:.3f}"
    assert page.locator(".aq-table").get_attribute("data-version") == str(session.version)


def test_after_random_actions_screen_session_and_export_are_alike(
    open_table: Callable[..., Page], session: Session, tmp_path: Path
) -> None:
    session.solve(bpw=3.7)  # options that are in no menu
    page = open_table()
    agree(page, session)
    chance = random.Random(11)
    page.locator(".aq-grid").focus()
    for number in range(200):
        match chance.randrange(8):
            case 0:
                page.keyboard.press(chance.choice(["ArrowDown", "ArrowUp", "Home", "PageDown"]))
            case 1:
                page.keyboard.press(
                    chance.choice(["Shift+ArrowDown", "Shift+ArrowUp", "Shift+PageDown", " "])
                )
            case 2 | 3 | 4:
                page.keyboard.press(chance.choice("2345678"))
            case 5:
                page.keyboard.press(chance.choice(["l", "k"]))
            case 6:
                page.keyboard.press(chance.choice(["Control+z", "Control+Shift+Z", "Control+z"]))
            case 7:
                modifiers: Any = chance.choice([[], ["Shift"], ["Control"]])
                row = page.locator(f'.aq-body .aq-row[data-row="{chance.randrange(33)}"]')
                row.locator('[data-key="role"]').click(modifiers=modifiers)
        if number % 20 == 19:
            agree(page, session)
    agree(page, session)
    assert session.version > 60
    sent = page.evaluate("model.sent.filter((message) => message.type === 'edit').length")
    assert int(page.locator(".aq-table").get_attribute("data-acked") or 0) == sent + 1, (
        "one answer each, and hello's"
    )
    session.export(tmp_path / "out").result(120)
    assert wb.load(tmp_path / "out").plan == session.plan


def test_filter_columns_and_undo_by_the_session(open_table: Callable[..., Page], session: Session) -> None:
    page = open_table()
    page.locator(".aq-grid").focus()
    page.keyboard.press("/")
    page.keyboard.type('= "to_v" in name and bits == 4')
    expect(page.locator(".aq-shown")).to_have_text("3 of 33 layers")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.press("6")
    settled(page)
    assert session.where("bits == 6") == session.select("*to_v.weight")
    expect(page.locator(".aq-shown")).to_have_text("3 of 33 layers")
    page.get_by_label("filter and sort again").click()
    expect(page.get_by_text("No layer matches")).to_be_visible()
    page.keyboard.press("Control+z")
    page.keyboard.press("/")
    page.keyboard.type("= name.__class__")
    expect(page.locator(".aq-fault")).to_contain_text("is not allowed")
    page.keyboard.press("Escape")
    page.get_by_label("add a column by an expression").click()
    page.keyboard.type("cost")
    page.keyboard.press("Tab")
    page.keyboard.type("1e9 * damage / nbytes")
    page.keyboard.press("Enter")
    column = page.locator('.aq-body [data-key="=cost"]')
    expect(column.first).not_to_be_empty()
    agree(page, session)
    row = page.locator('.aq-body .aq-row[data-row="4"]')
    before = row.locator('[data-key="=cost"]').inner_text()
    row.locator('[data-key="role"]').click()
    page.keyboard.press("8")
    settled(page)
    assert row.locator('[data-key="=cost"]').inner_text() != before, "extra columns follow the plan"


def test_it_looks_as_it_should(open_table: Callable[..., Page], session: Session, results: Path) -> None:
    session.lock("role:modulation", bits=6)
    session.solve(bpw=4)
    page = open_table()
    page.set_viewport_size({"width": 1180, "height": 1000})
    page.screenshot(path=results / "table-session.png")
    agree(page, session)
