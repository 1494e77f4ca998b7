"""Columns of the layer table on a model with long names: which are in sight, in which order, and names told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import workbench as wb
from workbench.session import Session
from workbench.ui import LayerTable

from .test_table import cell, filter_by, seen

ShowTable = Callable[..., Page]

SHOWN_NAMES = """() => [...document.querySelectorAll('.aq-body .aq-row:not([hidden]) [data-key="name"]')].map(
    (cell) => ({ text: cell.textContent, name: cell.title, said: cell.getAttribute("aria-label"),
        cut: cell.scrollWidth > cell.clientWidth }))"""


@pytest.fixture(scope="module")
def session(unet: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with wb.open(
        unet / "model", target="mlx", group_size=32, calibration=unet / "calibration.parquet",
        cache=tmp_path_factory.mktemp("cache"),
    ) as opened:  # fmt: skip
        yield opened


@pytest.fixture(scope="module")
def state(session: Session) -> Iterator[dict[str, Any]]:
    table = LayerTable(session)
    yield table.get_state()["data"]
    table.close()


def every_name(page: Page, state: dict[str, Any]) -> dict[str, str]:
    """What all names look like, by their names."""
    found: dict[str, str] = {}
    page.locator(".aq-grid").focus()
    page.keyboard.press("Home")
    for _ in range(80):
        rows = page.evaluate(SHOWN_NAMES)
        assert [row for row in rows if row["cut"]] == [], "nothing is cut off by the column's edge"
        assert all(row["said"] == row["name"] for row in rows)
        found |= {row["name"]: row["text"] for row in rows}
        if len(found) == len(state["header"]["names"]):
            return found
        page.keyboard.press("PageDown")
    raise AssertionError(f"{len(found)} names seen")


def keys(page: Page) -> list[str]:
    return page.locator(".aq-header .aq-cell").evaluate_all("cells => cells.map((cell) => cell.dataset.key)")


def in_sight(page: Page, key: str) -> bool:
    """Whether a column is within what the table shows, without scrolling."""
    found: bool = page.evaluate(
        """key => {
            const grid = document.querySelector(".aq-grid").getBoundingClientRect();
            const cell = document.querySelector(`.aq-header [data-key="${key}"]`).getBoundingClientRect();
            return cell.left >= grid.left && cell.right <= grid.right;
        }""",
        key,
    )
    return found


@pytest.mark.parametrize("width", [1600, 1100, 800, 640])
def test_names_are_told_apart_and_what_counts_is_in_sight(
    show: ShowTable, state: dict[str, Any], width: int, results: Path
) -> None:
    page = show(state=state, width=width)
    shown = every_name(page, state)
    assert len(set(shown.values())) == len(shown) == 344
    for name, text in shown.items():
        numbers = [part for part in name.split(".") if part.isdigit()]
        assert [part for part in text.split(".") if part.isdigit()] == numbers, "numbers are never left out"
    assert [key for key in ("name", "bits", "damage", "nbytes") if not in_sight(page, key)] == []
    page.keyboard.press("Home")
    page.screenshot(path=results / f"columns-{width}.png")
    if width == 1600:
        assert "down_blocks.0.attentions.1.transformer_blocks.10.attn1.to_q" in shown.values(), (
            "there is room"
        )


def test_a_narrow_name_column_keeps_what_distinguishes(show: ShowTable, state: dict[str, Any]) -> None:
    page = show(state=state, traits={"widths": {"name": 40}})
    assert len(set(every_name(page, state).values())) == 344
    wide = show(state=state, traits={"widths": {"name": 600}})
    assert cell(wide, 0, "name").bounding_box()["width"] == 600  # type: ignore[index]


OTHER_NAMES = {
    "model.diffusion_model.blocks": [
        f"model.diffusion_model.blocks.{n}.linear_{m}.weight" for n in range(20) for m in (1, 2)
    ],
    "lora_unet_transformer_blocks": [
        f"lora_unet_transformer_blocks_{n}_attentions_{m}_to_q" for n in range(20) for m in (1, 12)
    ],
    "": ["a.weight", "a", *(f"very_long_name_of_a_layer_{n}.weight" for n in range(38))],
}
"""Names that begin alike, ones without dots, and ones alike but for the suffix; by what stands once above them."""


@pytest.mark.parametrize("head", OTHER_NAMES)
def test_other_ways_to_name_layers(show: ShowTable, head: str) -> None:
    names = OTHER_NAMES[head]
    page = show(40, names=dict(enumerate(names)), traits={"widths": {"name": 60}, "height": 1300})
    page.set_viewport_size({"width": 1500, "height": 1400})
    page.wait_for_function("document.querySelectorAll('.aq-body .aq-row:not([hidden])').length === 40")
    rows = page.evaluate(SHOWN_NAMES)
    assert len({row["text"] for row in rows}) == 40
    assert {row["name"] for row in rows} == set(names)
    assert not any(row["cut"] for row in rows)
    prefix = page.locator(".aq-prefix")
    assert (prefix.text_content() or "").startswith(head) if head else prefix.count() == 0


def test_block_2_stands_before_block_10(show: ShowTable, state: dict[str, Any]) -> None:
    page = show(state=state, width=1600)
    names = state["header"]["names"]
    assert names.index("down_blocks.0.attentions.0.transformer_blocks.10.attn1.to_k.weight") < names.index(
        "down_blocks.0.attentions.0.transformer_blocks.2.attn1.to_k.weight"
    ), "as safetensors writes them"

    def blocks() -> list[int]:
        return [int(names[row].split(".")[5]) for row in seen(page)]

    page.locator(".aq-grid").focus()
    filter_by(page, "attentions.0 transformer_blocks attn1.to_k down")
    expect(page.locator(".aq-shown")).to_contain_text("12 of 344")
    assert blocks() == list(range(12))
    name = page.locator('.aq-header [data-key="name"] .aq-sort')
    name.click()
    assert blocks() == list(range(12))
    name.click()
    assert blocks() == list(range(11, -1, -1))


def test_columns_are_hidden_and_moved_by_keyboard(show: ShowTable, state: dict[str, Any]) -> None:
    page = show(state=state)
    assert keys(page)[:5] == ["locked", "name", "bits", "damage", "nbytes"]
    page.locator('.aq-header [data-key="role"] .aq-sort').focus()
    page.keyboard.press("<")
    assert keys(page)[5:7] == ["role", "heat"]
    expect(page.locator('.aq-header [data-key="role"] .aq-sort')).to_be_focused()
    page.keyboard.press("h")
    assert "role" not in keys(page)
    page.keyboard.press("m")
    menu = page.get_by_role("menu", name="columns")
    expect(menu).to_be_visible()
    expect(menu.get_by_role("menuitemcheckbox", name="heat")).to_be_focused()
    expect(menu.get_by_role("menuitemcheckbox", name="role")).to_have_attribute("aria-checked", "false")
    page.keyboard.press("ArrowUp")
    expect(menu.get_by_role("menuitemcheckbox", name="role")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert keys(page)[:5] == ["locked", "name", "bits", "role", "damage"]
    expect(menu.get_by_role("menuitemcheckbox", name="layer")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    saved = page.evaluate("[model.state.column_order.slice(0, 4), model.state.hidden_columns]")
    assert saved == [["locked", "name", "bits", "role"], []], "told to the kernel, which a reload asks"


def test_columns_are_hidden_by_mouse_and_stay_so(
    show: ShowTable, state: dict[str, Any], results: Path
) -> None:
    page = show(state=state)
    page.get_by_role("button", name="show, hide and order the columns").click()
    menu = page.get_by_role("menu", name="columns")
    menu.get_by_role("menuitemcheckbox", name="bits", exact=True).click()
    menu.get_by_role("menuitemcheckbox", name="shape").click()
    menu.get_by_role("button", name="move role to the left").click()
    page.screenshot(path=results / "column-menu.png")
    left = keys(page)
    assert "bits" not in left
    assert "shape" not in left
    assert left.index("role") == left.index("heat") - 1
    cell(page, 3, "role").click()
    expect(menu).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menu", name="bits of")).to_be_visible()
    kept = page.evaluate(
        "({ column_order: model.state.column_order, hidden_columns: model.state.hidden_columns })"
    )
    again = show(state=state, traits=kept)
    assert keys(again) == left
    again.locator('.aq-header [data-key="damage"]').click(button="right")
    again.get_by_role("menuitem", name="All columns, as they were").click()
    assert len(keys(again)) == len(left) + 2


def test_the_symbols_are_explained(show: ShowTable, state: dict[str, Any], results: Path) -> None:
    about = {"uniform": "one width for all layers"}
    page = show(state={**state, "header": {**state["header"], "about_policies": about}})
    page.get_by_role("button", name="what the symbols mean").click()
    box = page.get_by_role("dialog", name="what the symbols mean")
    for term in ("heat", "S", "T", "D", "gap", "uniform"):
        entry = box.locator("dt", has_text=term).filter(has_text=term).first
        expect(entry).to_be_visible()
    expect(box).to_contain_text("damage given up for each bit saved")
    page.screenshot(path=results / "glossary.png")
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    for key, word in {
        "heat": "above T",
        "choice_entropy": "0 where one is clearly best",
        "damage": "damage D",
    }.items():
        title = page.locator(f'.aq-header [data-key="{key}"] .aq-sort').get_attribute("title") or ""
        assert word in title
