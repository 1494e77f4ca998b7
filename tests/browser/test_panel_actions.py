"""The panel in a browser with a real session behind it, on a small Flux: nothing typed or set by hand gets lost.

A typed size was thrown away when the field lost the focus, a plan could overwrite any file, solving overwrote what was
set by hand, a width that a format lacks was given without a word, and progress stood far from where it was started.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import workbench as wb
from workbench.session import Session
from workbench.ui import Panel
from workbench.ui.messages import FROM_BROWSER, TO_BROWSER
from workbench.work import Progress

ShowTable = Callable[..., Page]
SECONDS = 60_000
TRAITS: dict[str, Any] = {"overview": {}, "closeup": {}, "validation": {}, "steps": None, "height": 320}


@pytest.fixture(scope="module")
def flux(flux_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flux") / "tiny-flux"
    flux_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session(flux: Path, cache: Path) -> Iterator[Session]:
    with wb.open(flux, target="mlx", group_size=64, cache=cache) as session:
        yield session


class Shown:
    """A page with the panel of a session; `folder` is where its plans and exports go."""

    def __init__(self, page: Page, panel: Panel, folder: Path) -> None:
        self.page, self.panel, self.folder = page, panel, folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    @property
    def strip(self) -> Any:
        return self.page.locator(".aq-strip")

    @property
    def size(self) -> Any:
        return self.page.get_by_label("size to solve for")

    @property
    def question(self) -> Any:
        return self.page.locator(".aq-question")

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def settled(self) -> None:
        expect(self.page.locator(".aq-table")).to_have_attribute("data-pending", "0")

    def choose(self, row: int, key: str = "") -> None:
        self.page.locator(f'.aq-body .aq-row[data-row="{row}"] [data-key="role"]').click()
        if key:
            self.page.keyboard.press(key)
            self.settled()

    def listen_until(self, done: Callable[[], bool]) -> None:
        """Let the page hear what the kernel says until something is the case."""
        end = time.monotonic() + SECONDS / 1000
        while not done():
            assert time.monotonic() < end
            self.page.evaluate("model.listen()")
            self.page.wait_for_timeout(30)


@pytest.fixture
def open_panel(
    show: ShowTable, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Shown]]:
    panels = []

    def open_it(**settings: Any) -> Shown:
        monkeypatch.setattr(Panel, "draw", lambda self: None)  # figures are not what is looked at
        folder = tmp_path / "work"
        folder.mkdir()
        panel = Panel(session, folder=folder)
        panels.append(panel)
        outbox: list[dict[str, Any]] = []

        def encoded(one: Any) -> str:
            return base64.b64encode(bytes(one)).decode()

        def keep(content: Any, buffers: Any = None) -> None:
            TO_BROWSER.validate_python(content)
            outbox.append({"content": content, "buffers": [encoded(one) for one in buffers or []]})

        def renew(key: Any = None) -> None:
            if key == "data":
                state = panel.state()
                outbox.append({"data": {"header": state["header"], "blob": encoded(state["blob"])}})

        monkeypatch.setattr(panel, "send", keep)
        monkeypatch.setattr(panel, "send_state", renew)

        def kernel(message: dict[str, Any]) -> list[dict[str, Any]]:
            if "state" in message:
                panel.set_state(message["state"])
            elif "content" in message:
                FROM_BROWSER.validate_python(message["content"])
                panel._handle_custom_msg(message["content"], [])
            answers = outbox[:]
            del outbox[: len(answers)]
            return answers

        page = show(state=panel.state(), kernel=kernel, traits=TRAITS, module="panel", **settings)
        return Shown(page, panel, folder)

    yield open_it
    for panel in panels:
        panel.close()


def test_solve_solves_for_what_stands_in_the_field(
    open_panel: Callable[..., Shown], session: Session
) -> None:
    page = open_panel()
    wanted = int(session.totals.nbytes * 0.8)
    page.size.fill(f"{wanted} B")
    page.get_by_label("filter layers").click()
    expect(page.size).to_have_value(f"{wanted} B")
    session.set_bits(session.select("*")[3], 6)  # something else changes the plan meanwhile
    session.undo()
    page.evaluate("model.listen()")
    expect(page.size).to_have_value(f"{wanted} B")
    page.get_by_role("button", name="Solve: the best plan").click()
    page.settled()
    assert session.script[-1] == f"s.solve('{wanted} B')"
    assert wanted * 0.95 < session.totals.nbytes <= wanted
    expect(page.size).not_to_have_value(f"{wanted} B")
    expect(page.size).to_have_value(page.locator('[data-total="nbytes"] b').inner_text())
    # A size that cannot be had stays to be corrected; its error goes when it was.
    page.size.fill("20 parsecs")
    page.size.press("Enter")
    expect(page.strip).to_contain_text("write it as 2.5GB")
    expect(page.size).to_have_value("20 parsecs")
    page.size.fill("900 MB")
    page.get_by_role("button", name="Solve: the best plan").click()
    page.settled()
    expect(page.strip).to_be_hidden()
    nbytes = session.totals.nbytes
    page.get_by_role("button", name="Solve: the best plan").click()
    page.settled()
    assert session.script[-1] == f"s.solve({nbytes})", (
        "what the field shows is rounded, what is solved for is not"
    )
    page.size.fill("1")
    page.size.press("Escape")
    expect(page.size).to_have_value(page.locator('[data-total="nbytes"] b').inner_text())
    price = page.get_by_role("textbox", name="T", exact=True)
    price.fill("1e-7")
    page.get_by_label("filter layers").click()
    expect(price).to_have_value("1e-7")
    price.press("Enter")
    page.settled()
    assert session.script[-1] == "s.solve(temperature=1e-07)"


def test_layers_set_by_hand_are_asked_about(open_panel: Callable[..., Shown], session: Session) -> None:
    page = open_panel()
    names = session.select("*")
    size = f"{int(session.totals.nbytes * 0.8)} B"
    page.choose(3, "8")
    before = session.plan
    page.size.fill(size)
    page.size.press("Enter")
    expect(page.question).to_contain_text(f"{names[3]} was set by hand and would change.")
    expect(page.button("Lock it and solve")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.question).to_be_hidden()
    assert session.plan == before
    expect(page.size).to_have_value(size)
    page.get_by_role("button", name="Solve: the best plan").click()
    page.button("Lock it and solve").click()
    page.settled()
    assert session.locked == (names[3],)
    assert session.plan.choices[names[3]].bits == 8
    assert session.script[-1] == f"s.solve('{size}', lock_edits=True)"
    page.choose(4, "8")
    page.choose(5, "8")
    page.size.fill(size)
    page.size.press("Enter")
    expect(page.question).to_contain_text("2 layers were set by hand")
    page.button("Solve for all").click()
    page.settled()
    assert session.locked == (names[3],)
    assert session.edited == ()
    page.size.press("Enter")
    page.settled()
    expect(page.question).to_be_hidden()
    page.choose(4, "2")
    page.get_by_label("take a simple policy").select_option("uniform")
    expect(page.question).to_contain_text("would change")
    page.button("Cancel").click()
    assert "follow" not in session.script[-1]


def test_a_plan_is_saved_over_a_plan_only_when_that_is_wanted(
    open_panel: Callable[..., Shown], session: Session
) -> None:
    page = open_panel()
    (page.folder / "model.safetensors").write_bytes(b"weights")
    page.get_by_role("button", name="Plan …").click()
    file = page.get_by_role("textbox", name="file")
    file.fill("model.safetensors")
    page.button("Save the plan to the file").click()
    expect(page.strip).to_contain_text("exists already and is not a plan")
    assert (page.folder / "model.safetensors").read_bytes() == b"weights"
    file.fill("plan.yaml")
    page.button("Save the plan to the file").click()
    expect(page.strip).to_contain_text(f"The plan is in {page.folder / 'plan.yaml'}")
    first = wb.Plan.load(page.folder / "plan.yaml")
    page.choose(3, "8")
    expect(page.strip).to_be_hidden()
    page.button("Save the plan to the file").click()
    expect(page.question).to_contain_text("is a plan already")
    page.button("Cancel").click()
    assert wb.Plan.load(page.folder / "plan.yaml") == first
    page.button("Save the plan to the file").click()
    page.button("Replace it").click()
    expect(page.strip).to_contain_text("The plan is in")
    assert wb.Plan.load(page.folder / "plan.yaml").choices == session.plan.choices
    assert session.script[-1] == f"s.save_plan({str(page.folder / 'plan.yaml')!r}, overwrite=True)"


def test_a_width_that_the_format_lacks_is_not_given_in_silence(
    open_panel: Callable[..., Shown], session: Session
) -> None:
    page = open_panel()
    seven = page.locator('.aq-width[data-bits="7"]')
    expect(seven).to_have_attribute("aria-label", "no 7 bits here: gives 8 bits or kept")
    expect(page.locator('.aq-width[data-bits="6"]')).to_have_attribute("aria-label", "6 bits (6)")
    page.choose(3)
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("7")
    expect(page.locator(".aq-voice")).to_contain_text("7 → 8 bits")
    page.settled()
    expect(page.strip).to_have_text("mlx has no 7 bits there: 7 → 8 bits affine 64 for 2 layers.×")
    cell = page.locator('.aq-body .aq-row[data-row="3"] [data-key="bits"]')
    expect(cell.locator("b")).to_have_text("8")
    expect(cell.locator("small")).to_have_text("7 → affine 64")
    assert session.script[-1].endswith("7)  # 7 → 8 bits affine 64 for 2 layers")
    expect(page.locator(".aq-script")).to_have_attribute("data-last", session.script[-1])
    page.keyboard.press("6")
    page.settled()
    expect(page.strip).to_be_hidden()
    expect(cell.locator("small")).to_have_text("affine 64")


def test_group_size_and_scheme_are_chosen_in_the_menu(
    open_panel: Callable[..., Shown], session: Session
) -> None:
    page = open_panel()
    page.choose(3)
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    menu = page.get_by_role("menu")
    expect(menu).to_contain_text("scheme and group size at 4 bits")
    page.screenshot(path=page.folder / "menu.png")
    menu.get_by_role("menuitemradio").filter(has_text="affine 32").click()
    page.settled()
    names = session.select("*")[3:5]
    assert {session.plan.choices[name].group_size for name in names} == {32}
    assert {session.plan.choices[name].bits for name in names} == {4}
    assert session.script[-1] == f"s.set_bits({list(names)!r}, 4, group_size=32, scheme='affine')"
    cell = page.locator('.aq-body .aq-row[data-row="3"] [data-key="bits"]')
    expect(cell.locator("small")).to_have_text("affine 32")


def test_names_are_a_choice_and_undo_goes_back_over_a_switch(
    open_panel: Callable[..., Shown], session: Session
) -> None:
    page = open_panel()
    names = page.get_by_label("names of the layers")
    expect(names).to_have_value("checkpoint")
    page.choose(3, "8")
    before = session.plan
    page.get_by_label("target format").select_option("gguf")
    page.listen_until(lambda: session.target.name == "gguf" and page.panel.jobs.shown is None)
    page.listen_until(lambda: "ComfyUI" in page.strip.inner_text())
    expect(page.strip).to_contain_text("The plan is now for gguf. Undo goes back to mlx.")
    expect(names).to_have_value("original")
    assert session.names == "original"
    assert any("double_blocks" in name for name in session.plan.choices)
    expect(page.locator(".aq-shown")).to_have_text(f"{len(session.plan.choices)} layers")
    names.select_option("checkpoint")
    page.listen_until(lambda: session.names == "checkpoint" and page.panel.jobs.shown is None)
    expect(names).to_have_value("checkpoint")
    assert session.target.name == "gguf"
    assert session.script[-2:] == ("s.retarget('gguf')", "s.retarget('gguf', names='checkpoint')")
    page.get_by_role("button", name="undo (Ctrl+Z)").click()
    expect(names).to_have_value("original")
    expect(page.strip).to_contain_text("The export format is gguf again, with original names.")
    page.get_by_role("button", name="undo (Ctrl+Z)").click()
    expect(page.get_by_label("target format")).to_have_value("mlx")
    assert session.plan == before
    expect(page.locator(".aq-shown")).to_have_text(f"{len(before.choices)} layers")


def test_progress_stands_where_it_was_started_and_the_end_says_how_to_load(
    open_panel: Callable[..., Shown], session: Session, monkeypatch: pytest.MonkeyPatch, results: Path
) -> None:
    page = open_panel(width=1100)
    go_on = threading.Event()
    real = Progress.advance

    def slow(self: Progress, amount: int) -> None:
        go_on.wait(0.05)
        real(self, amount)

    monkeypatch.setattr(Progress, "advance", slow)
    page.get_by_role("button", name="Export …").click()
    drawer = page.locator(".aq-drawer").filter(has=page.get_by_role("textbox", name="folder"))
    expect(drawer).to_contain_text(f"→ {page.folder / 'export'}")
    expect(drawer).to_contain_text(re.compile("(roughly|about) [0-9]+ s"))
    expect(drawer).to_contain_text("no program is known that runs this architecture")
    page.get_by_role("textbox", name="folder").fill("small")
    expect(drawer).to_contain_text(f"→ {page.folder / 'small'}")
    page.button("Write the export").click()
    page.listen_until(lambda: page.panel.jobs.shown is not None)
    page.evaluate("model.listen()")
    expect(drawer.locator(".aq-jobs")).to_contain_text("export to small")
    page.get_by_role("button", name="Export …").click()
    expect(page.locator(".aq-toolbar > .aq-slot .aq-jobs")).to_be_visible()
    page.get_by_role("button", name="Export …").click()
    expect(drawer.locator(".aq-jobs")).to_be_visible()
    edge = page.get_by_role("group", name="the job that runs")
    expect(edge).to_have_count(0)
    page.evaluate("document.body.style.paddingBottom = '2000px'; window.scrollTo(0, 1500)")
    expect(edge).to_contain_text("export to small")
    expect(edge.get_by_role("button", name="Cancel")).to_be_in_viewport()
    page.screenshot(path=results / "panel-job-away.png")
    edge.get_by_role("button", name="Scroll to the panel").click()
    expect(edge).to_have_count(0)
    drawer.get_by_role("button", name="Cancel").click()
    page.listen_until(lambda: "was cancelled" in page.strip.inner_text())
    assert list(page.folder.iterdir()) == []
    go_on.set()
    page.button("Write the export").click()
    expect(page.strip).to_be_hidden()
    page.listen_until(lambda: page.panel.actions.exported is not None and page.panel.jobs.shown is None)
    page.evaluate("model.listen()")
    where = page.folder / "small"
    expect(page.strip).to_contain_text(f"Written to {where}")
    lines = drawer.locator(".aq-lines").inner_text()
    assert str(where) in lines
    assert "mx.load" in lines
    page.wait_for_timeout(400)
    for theme, light in (("dark", "false"), ("light", "true")):
        page.evaluate("light => document.body.dataset.jpThemeLight = light", light)
        page.wait_for_timeout(300)
        page.screenshot(path=results / f"panel-export-{theme}.png")
    assert session.script[-1] == f"s.export({str(where)!r}).result()"
    expect(drawer).to_contain_text("is the last export; another one needs another name")
    (page.folder / "mine").mkdir()
    page.get_by_role("textbox", name="folder").fill("mine")
    expect(drawer).to_contain_text("exists already")
    page.get_by_role("textbox", name="folder").fill("")
    expect(drawer).to_contain_text("The field is empty")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.button("Copy the lines that load the export").click()
    expect(drawer.locator(".aq-copied")).to_have_text("copied")
    assert wb.load(where).plan.choices == session.plan.choices


@pytest.mark.parametrize("width", [1100, 1600])
def test_nothing_sticks_out_of_the_toolbar(
    open_panel: Callable[..., Shown], session: Session, results: Path, width: int
) -> None:
    page = open_panel(width=width)
    page.choose(3, "8")
    page.size.fill("300 kB")
    page.size.press("Enter")
    page.get_by_role("button", name="Export …").click()
    page.wait_for_timeout(300)
    for theme, light in (("dark", "false"), ("light", "true")):
        page.evaluate("light => document.body.dataset.jpThemeLight = light", light)
        page.wait_for_timeout(300)
        page.screenshot(path=results / f"panel-actions-{theme}-{width}.png")
    overflow = page.evaluate(
        """() => {
            const panel = document.querySelector(".aq-panel").getBoundingClientRect();
            return [...document.querySelectorAll(".aq-above *")].filter((one) => one.getClientRects().length)
                .filter((one) => one.getBoundingClientRect().right > panel.right + 1).map((one) => one.className);
        }"""
    )
    assert overflow == []
