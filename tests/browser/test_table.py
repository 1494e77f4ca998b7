"""The layer table in a real Chromium, alone: generated layers, and a stub in the place of the kernel.

Guards what only a browser shows: which rows exist, keys and mouse, what is told to assistive software, themes, and
that an edit is on screen before anybody has answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

ShowTable = Callable[..., Page]


def row(page: Page, layer: int) -> Locator:
    return page.locator(f'.aq-body .aq-row[data-row="{layer}"]')


def cell(page: Page, layer: int, key: str) -> Locator:
    return row(page, layer).locator(f'[data-key="{key}"]')


def bits(page: Page, layer: int) -> str | None:
    return cell(page, layer, "bits").locator("b").text_content()


def click(page: Page, layer: int, *modifiers: Any) -> None:
    cell(page, layer, "role").click(modifiers=list(modifiers))


def chosen(page: Page) -> list[int]:
    """The layers that a user sees as chosen."""
    rows = page.locator('.aq-body .aq-row:not([hidden])[aria-selected="true"]')
    return sorted(rows.evaluate_all("rows => rows.map((row) => Number(row.dataset.row))"))


def seen(page: Page) -> list[int]:
    """Layers in the order on screen."""
    return page.locator(".aq-body .aq-row:not([hidden])").evaluate_all(
        "rows => rows.map((row) => [Number(row.dataset.position), Number(row.dataset.row)])"
        ".sort((a, b) => a[0] - b[0]).map((pair) => pair[1])"
    )


def sent(page: Page, kind: str = "edit") -> list[dict[str, Any]]:
    return page.evaluate("kind => model.sent.filter((message) => message.type === kind)", kind)


def total(page: Page, key: str) -> str:
    return page.locator(f'[data-total="{key}"] b').inner_text()


def filter_by(page: Page, text: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(text)


# ---- rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1_000, 20_000])
def test_only_what_is_in_sight_exists(show: ShowTable, count: int) -> None:
    page = show(count)
    grid = page.locator('[role="grid"]')
    expect(grid).to_have_attribute("aria-rowcount", str(count + 1))
    assert page.locator(".aq-body .aq-row").count() < 40
    page.locator(".aq-grid").focus()
    page.keyboard.press("End")
    expect(row(page, count - 1)).to_be_in_viewport()
    expect(row(page, count - 1)).to_have_attribute("aria-rowindex", str(count + 1))
    assert page.locator(".aq-body .aq-row").count() < 40
    assert seen(page) == list(range(seen(page)[0], count))
    page.keyboard.press("Home")
    expect(row(page, 0)).to_be_in_viewport()


def test_a_long_table_has_no_more_elements_than_a_short_one(show: ShowTable) -> None:
    short, long = (show(count).locator(".aq-table *").count() for count in (1_000, 20_000))
    assert long == short


DRAWN = """() => {
    const body = document.querySelector(".aq-body");
    const told = [];
    const watch = new MutationObserver((records) => told.push(...records));
    watch.observe(body, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-position"] });
    // Since it was asked last: rows drawn, and rows that were made or thrown away.
    return () => {
        const seen = [...told.splice(0), ...watch.takeRecords()];
        const made = seen.filter((one) => one.type === "childList" && one.target === body).length;
        return [seen.filter((one) => one.type === "attributes").length, made];
    };
}"""
"""Counts what a table draws; each row that is drawn is given its position."""


def test_scrolling_twenty_thousand_rows_draws_what_comes_into_sight(show: ShowTable) -> None:
    page = show(20_000)
    in_sight = page.locator(".aq-body .aq-row").count()
    before = page.evaluate("model.sent.length")
    steps = page.evaluate(
        f"""async (places) => {{
            const drawn = ({DRAWN})();
            const grid = document.querySelector(".aq-grid");
            const steps = [];
            for (const place of places) {{
                for (const part of [0.25, 0.5, 1]) {{  // a wheel tells of more than one place a frame
                    grid.scrollTop = place * part * 26;
                    grid.dispatchEvent(new Event("scroll"));
                }}
                const between = drawn();
                await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
                steps.push([...between, ...drawn()]);
            }}
            return steps;
        }}""",
        [9_000, 9_001, 9_004, 500, 19_000, 19_001],
    )
    assert [step[:2] for step in steps] == [[0, 0]] * 6, "nothing is drawn before the next frame"
    assert [step[2] for step in steps] == [in_sight, 1, 3, in_sight, in_sight, 1], (
        "once, what came into sight"
    )
    assert [step[3] for step in steps] == [0] * 6, "with the elements that are there"
    assert page.evaluate("model.sent.length") == before, "and the kernel is not asked"


# ---- edits ------------------------------------------------------------------------------------------------------


def test_keys_give_bits_before_the_kernel_answers(show: ShowTable) -> None:
    page = show()
    click(page, 3)
    click(page, 5, "Shift")
    before = total(page, "nbytes")
    for key in "2345678":
        page.keyboard.press(key)
        wanted = "8" if key == "7" else key  # 7 bits are not to be had: the next wider
        assert [bits(page, layer) for layer in (3, 4, 5)] == [wanted] * 3
    assert sent(page)[0] == {
        "type": "edit",
        "action": "bits",
        "rows": [3, 4, 5],
        "bits": 2,
        **{key: sent(page)[0][key] for key in ("id", "view", "turn")},
    }
    assert len(sent(page)) == 7, "one message an edit"
    assert len({message["id"] for message in sent(page)}) == 7
    assert total(page, "nbytes") != before
    expect(page.locator(".aq-totals")).to_have_class(re.compile("aq-estimate"))
    page.keyboard.press("k")
    assert cell(page, 3, "bits").inner_text().split() == ["✕", "16", "kept"]
    expect(page.get_by_role("status")).to_contain_text("3 layers: kept")


def test_an_edit_of_twenty_thousand_layers_draws_the_rows_in_sight_at_once(show: ShowTable) -> None:
    page = show(20_000)
    page.locator(".aq-grid").focus()
    page.keyboard.press("Control+a")
    in_sight = page.locator(".aq-body .aq-row").count()
    edits = page.evaluate(
        f"""() => {{
            const drawn = ({DRAWN})();
            return [..."23456823456"].map((key) => {{
                document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {{ key, bubbles: true }}));
                const rows = [...document.querySelectorAll(".aq-body .aq-row:not([hidden])")];
                const shown = new Set(rows.map((row) => row.querySelector('[data-key="bits"] b').textContent));
                return [[...shown], ...drawn()];
            }});
        }}"""
    )
    assert [shown for shown, _, _ in edits] == [[key] for key in "23456823456"], "when the key is handled"
    assert [drawn for _, drawn, _ in edits] == [in_sight] * 11
    assert not any(made for _, _, made in edits)
    assert len(sent(page)) == 11, "one message an edit"


def test_totals_are_those_of_the_shown_options(show: ShowTable) -> None:
    page = show(7)
    page.locator(".aq-grid").focus()
    page.keyboard.press("Control+a")
    page.keyboard.press("8")
    params = 4 * 1152 * 1152 + 2 * 4608 * 1152 + 6912 * 1152
    size = params + params / 128 * 4
    assert total(page, "bpw") == f"{8 * size / params:.3f}"
    assert total(page, "nbytes") == f"{(size + 4096) / 1e6:.3f} MB"
    assert total(page, "ratio") == f"{2 * params / (size + 4096):.2f}×"
    assert total(page, "below") == "0"
    page.keyboard.press("l")
    assert total(page, "locks") == "7"
    page.keyboard.press("l")
    assert total(page, "locks") == "0"


def test_the_kernel_has_the_last_word(show: ShowTable) -> None:
    page = show()
    was = bits(page, 2)
    click(page, 2)
    page.keyboard.press("2" if was != "2" else "3")
    page.keyboard.press("l")
    assert bits(page, 2) != was
    expect(page.locator(".aq-table")).to_have_attribute("data-pending", "2")
    first, second = sent(page)
    page.evaluate("id => reply({ ack: id, error: 'No room for this layer.' })", first["id"])
    assert bits(page, 2) == was, "rolled back"
    expect(page.get_by_role("alert")).to_contain_text("No room for this layer.")
    expect(cell(page, 2, "locked").locator("button")).to_have_attribute("aria-pressed", "true")
    confirmed = {
        "rows": [2, 4], "bits": [5, 6], "scheme": [0, 0], "group": [128, 128], "nbytes": [1000, 2000],
        "damage": [0.5, 0.25], "cosine": [0.9, 0.99], "code_entropy": [4, 5], "heat": [1, 2], "locked": [1, 0],
    }  # fmt: skip
    page.evaluate(
        "([id, rows]) => reply({ ack: id, rows, version: 2, totals: [7e8, 3, 4.25, 9, 0.02, 1e-9] })",
        [second["id"], confirmed],
    )
    assert (bits(page, 2), bits(page, 4)) == ("5", "6")
    assert cell(page, 4, "nbytes").inner_text() == "2,000"
    assert (total(page, "nbytes"), total(page, "damage"), total(page, "gap")) == (
        "700.000 MB",
        "9.00",
        "2.00 %",
    )
    expect(page.locator(".aq-table")).to_have_attribute("data-pending", "0")
    expect(page.locator(".aq-table")).to_have_attribute("data-version", "2")
    page.get_by_label("dismiss").click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_message_that_was_missed_is_asked_for(show: ShowTable) -> None:
    page = show()
    page.evaluate("reply({ base: 5, version: 6, ack: undefined })")
    assert sent(page, "hello")[-1]["version"] == 1


def test_edits_by_mouse(show: ShowTable) -> None:
    page = show()
    cell(page, 4, "locked").locator("button").click()
    click(page, 2)
    click(page, 3, "Control")
    page.get_by_role("group", name="edit the chosen layers").get_by_label("6 bits").click()
    page.get_by_label("keep the source dtype").click()
    page.get_by_label("undo").click()
    assert [(message["action"], message.get("rows"), message.get("bits")) for message in sent(page)] == [
        ("lock" if page.evaluate("model.sent[1].action") == "lock" else "unlock", [4], None),
        ("bits", [2, 3], 6),
        ("keep", [2, 3], None),
        ("undo", None, None),
    ]
    expect(page.locator(".aq-count")).to_have_text("2 chosen")


def test_the_menu_of_widths(show: ShowTable) -> None:
    page = show()
    click(page, 1)
    click(page, 3, "Shift")
    cell(page, 2, "bits").locator("button").click()
    menu = page.get_by_role("menu")
    expect(menu).to_be_visible()
    items = menu.get_by_role("menuitemradio")
    assert items.evaluate_all("items => items.map((item) => item.dataset.key)") == [
        "2",
        "3",
        "4",
        "5",
        "6",
        "8",
        "keep",
    ]
    checked = menu.locator('[aria-checked="true"]')
    assert checked.locator("b").inner_text() == bits(page, 2)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(menu).to_be_hidden()
    assert {**sent(page)[-1], "id": "", "view": "", "turn": 0} == {
        "view": "",
        "turn": 0,
        "type": "edit",
        "action": "bits",
        "rows": [1, 2, 3],
        "bits": 3,
        "id": "",
    }
    page.keyboard.press("Enter")
    expect(menu).to_be_visible()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(page.locator(".aq-grid")).to_be_focused()
    assert chosen(page) == [1, 2, 3], "Escape closes the menu only"
    page.keyboard.press("F2")
    page.keyboard.press("End")
    page.keyboard.press(" ")
    assert sent(page)[-1]["action"] == "keep"
    cell(page, 11, "bits").locator("button").click()
    assert chosen(page) == [11], "a row outside the selection is chosen first"
    cell(page, 8, "role").click()
    expect(menu).to_be_hidden()


# ---- choosing ---------------------------------------------------------------------------------------------------


def test_choosing_by_mouse(show: ShowTable) -> None:
    page = show()
    click(page, 2)
    assert chosen(page) == [2]
    click(page, 5, "Shift")
    assert chosen(page) == [2, 3, 4, 5]
    click(page, 8, "Control")
    click(page, 4, "Control")
    assert chosen(page) == [2, 3, 5, 8]
    click(page, 10)
    assert chosen(page) == [10]
    boxes = [cell(page, layer, "name").bounding_box() for layer in (1, 6)]
    assert boxes[0]
    assert boxes[1]
    page.mouse.move(boxes[0]["x"] + 40, boxes[0]["y"] + 9)
    page.mouse.down()
    page.mouse.move(boxes[1]["x"] + 60, boxes[1]["y"] + 9, steps=4)
    page.mouse.up()
    assert chosen(page) == [1, 2, 3, 4, 5, 6]
    page.wait_for_function("model.state.selected.length === 6")
    assert page.evaluate("[model.state.selected, model.state.current]") == [[1, 2, 3, 4, 5, 6], 6]
    assert page.evaluate("model.saved.filter((one) => 'selected' in one).length") <= 6, (
        "not at every step of a drag"
    )


def test_choosing_by_keyboard(show: ShowTable) -> None:
    page = show()
    page.locator(".aq-grid").focus()
    page.keyboard.press("ArrowDown")
    assert chosen(page) == [0]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    assert chosen(page) == [1, 2, 3]
    page.keyboard.press("Shift+ArrowUp")
    assert chosen(page) == [1, 2]
    page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    assert chosen(page) == []
    page.keyboard.press("Shift+PageDown")
    assert chosen(page)[0] == 3
    grid = page.locator(".aq-grid")
    active = grid.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("data-row") == str(chosen(page)[-1])
    page.keyboard.press("Control+a")
    expect(page.locator(".aq-count")).to_have_text("1,000 chosen")
    page.keyboard.press("Escape")
    assert chosen(page) == []


def test_the_selection_follows_the_kernel(show: ShowTable) -> None:
    page = show()
    page.evaluate("model.change('selected', [4, 6])")
    assert chosen(page) == [4, 6]
    page.evaluate("model.change('current', 700)")
    expect(row(page, 700)).to_be_in_viewport()
    page.evaluate("model.hear({ type: 'focus', row: 12 })")
    expect(row(page, 12)).to_be_in_viewport()
    assert page.evaluate("model.saved") == [], "what the kernel says is not told to it"
    page.locator(".aq-grid").focus()
    page.keyboard.press("3")
    assert sent(page)[-1]["rows"] == [4, 6]


def test_names_are_copied(show: ShowTable) -> None:
    page = show()
    click(page, 0)
    click(page, 1, "Shift")
    copied = page.evaluate(
        """() => {
            const event = new ClipboardEvent("copy", { clipboardData: new DataTransfer(), bubbles: true });
            document.activeElement.dispatchEvent(event);
            return event.clipboardData.getData("text/plain");
        }"""
    )
    assert copied == "transformer_blocks.0.attn.to_q.weight\ntransformer_blocks.0.attn.to_k.weight"


# ---- order ------------------------------------------------------------------------------------------------------


def test_sorting(show: ShowTable) -> None:
    page = show(200)
    header = page.locator('.aq-header [data-key="damage"]')
    button = header.get_by_role("button")
    button.click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    ascending = seen(page)
    assert ascending != list(range(len(ascending)))
    button.click()
    expect(header).to_have_attribute("aria-sort", "descending")
    descending = seen(page)
    values = [float(cell(page, layer, "damage").inner_text().replace("−", "-")) for layer in descending]
    assert values == sorted(values, reverse=True)
    assert page.evaluate("model.state.sort") == "-damage"
    click(page, descending[0])
    page.keyboard.press("8")
    assert seen(page) == descending, "rows do not run away while they are edited"
    page.evaluate("reply({ version: 2 })")
    page.get_by_label("filter and sort again").click()
    expect(page.get_by_label("filter and sort again")).to_be_hidden()
    button.focus()
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "none")
    assert seen(page)[:5] == [0, 1, 2, 3, 4]
    page.keyboard.press("ArrowRight")
    expect(page.locator('.aq-header [data-key="nbytes"]').get_by_role("button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator('.aq-header [data-key="nbytes"]')).to_have_attribute("aria-sort", "ascending")


def test_what_is_not_known_comes_last(show: ShowTable) -> None:
    page = show(200)
    button = page.locator('.aq-header [data-key="code_entropy"]').get_by_role("button")
    for _ in range(2):
        button.click()
        assert cell(page, seen(page)[0], "code_entropy").inner_text()
        page.locator(".aq-grid").focus()
        page.keyboard.press("End")
        assert cell(page, seen(page)[-1], "code_entropy").inner_text() == "", "kept layers have no codes"
        page.keyboard.press("Home")


def test_filter_by_words(show: ShowTable) -> None:
    page = show()
    page.locator(".aq-grid").focus()
    filter_by(page, "MLP blocks.1.")
    expect(page.locator(".aq-shown")).to_have_text("2 of 1,000 layers")
    assert seen(page) == [11, 12]
    page.wait_for_function("model.state.filter === 'MLP blocks.1.'")
    page.keyboard.press("Enter")
    expect(page.locator(".aq-grid")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.press("4")
    assert sent(page)[-1]["rows"] == [11, 12]
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    expect(page.locator(".aq-shown")).to_have_text("1,000 layers")
    filter_by(page, "no such layer")
    expect(page.get_by_text("No layer matches")).to_be_visible()


def test_edits_leave_alone_what_the_filter_hides(show: ShowTable) -> None:
    page = show()
    click(page, 3)
    click(page, 6, "Shift")
    filter_by(page, "mlp")
    expect(page.locator(".aq-count")).to_have_text("4 chosen · 2 hidden")
    page.keyboard.press("Enter")
    page.keyboard.press("5")
    assert sent(page)[-1]["rows"] == [4, 5]
    filter_by(page, "conv")
    page.keyboard.press("Enter")
    page.keyboard.press("6")
    assert len(sent(page)) == 1, "nothing is chosen that could be seen"


def test_filter_by_expression_is_the_kernels(show: ShowTable) -> None:
    page = show(50)
    page.locator(".aq-grid").focus()
    filter_by(page, "= bits <")
    page.wait_for_function("model.state.filter === '= bits <'")
    page.evaluate("model.hear({ type: 'filter', text: '= bits <', error: 'bits < cannot be read.' })")
    expect(page.get_by_text("bits < cannot be read.")).to_be_visible()
    expect(page.get_by_label("filter layers")).to_have_attribute("aria-invalid", "true")
    page.keyboard.type(" 4")
    page.wait_for_function("model.state.filter === '= bits < 4'")
    page.evaluate(
        "model.hear({ type: 'filter', text: '= bits < 4' },"
        " [new DataView(Uint8Array.from({ length: 50 }, (_, row) => row % 10 === 0).buffer)])"
    )
    assert seen(page) == [0, 10, 20, 30, 40]
    expect(page.locator(".aq-fault")).to_be_hidden()
    page.evaluate(
        "model.hear({ type: 'filter', text: '= old', error: 'An answer to what was asked before.' })"
    )
    expect(page.locator(".aq-fault")).to_be_hidden()


def test_extra_columns(show: ShowTable) -> None:
    page = show(50)
    page.get_by_label("add a column by an expression").click()
    page.keyboard.type("cost")
    page.keyboard.press("Tab")
    page.keyboard.type("damage.x")
    page.keyboard.press("Enter")
    asked = sent(page, "add_column")[0]
    assert (asked["title"], asked["expression"]) == ("cost", "damage.x")
    page.evaluate(
        "id => model.hear({ type: 'columns', ack: id, error: 'damage.x is not allowed.' })", asked["id"]
    )
    expect(page.get_by_text("damage.x is not allowed.")).to_be_visible()
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    asked = sent(page, "add_column")[1]
    page.evaluate(
        """id => {
            const { layout, view } = pack({ column_0: ["f8", Array.from({ length: 50 }, (_, row) => row / 8)] });
            const columns = [{ title: "cost", expression: "damage", kind: "number" }];
            model.hear({ type: "columns", ack: id, layout, columns }, [view]);
        }""",
        asked["id"],
    )
    expect(page.locator(".aq-form")).to_be_hidden()
    assert cell(page, 4, "=cost").inner_text() == "0.500"
    page.locator('.aq-header [data-key="=cost"] .aq-sort').click()
    page.locator('.aq-header [data-key="=cost"] .aq-sort').click()
    assert seen(page)[0] == 49
    page.get_by_label("remove column cost").click()
    assert sent(page, "remove_column")[0]["title"] == "cost"


def test_columns_are_resized(show: ShowTable) -> None:
    page = show(50)
    header = page.locator('.aq-header [data-key="role"]')
    before = header.bounding_box()
    grip = header.locator(".aq-grip").bounding_box()
    assert before
    assert grip
    page.mouse.move(grip["x"] + 3, grip["y"] + 9)
    page.mouse.down()
    page.mouse.move(grip["x"] + 43, grip["y"] + 9, steps=3)
    page.mouse.up()
    after, below = header.bounding_box(), cell(page, 3, "role").bounding_box()
    assert after
    assert below
    assert after["width"] == before["width"] + 40
    assert (below["x"], below["width"]) == (after["x"], after["width"])
    assert page.evaluate("model.state.widths.role") == after["width"]
    header.get_by_role("button").focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate("model.state.widths.role") == after["width"] - 8
    header.locator(".aq-grip").dblclick()
    assert page.evaluate("model.state.widths.role") == before["width"]


# ---- the host ---------------------------------------------------------------------------------------------------


def test_plain_keys_stay_inside_and_commands_of_the_host_do_not(show: ShowTable) -> None:
    page = show()
    click(page, 2)
    for key in (
        "b",
        "d",
        "Shift+M",
        "x",
        "4",
        "Control+z",
        "Control+Shift+Z",
        "Control+y",
        "Control+a",
        "Escape",
    ):
        page.keyboard.press(key)
    page.keyboard.press("/")
    for key in ("b", "0", "Control+a", "Control+z", "Enter"):
        page.keyboard.press(key)
    assert [key for key in page.evaluate("pressed") if key not in ("Control", "Shift")] == []
    page.keyboard.press("Control+s")
    page.keyboard.press("Control+Enter")
    assert [key for key in page.evaluate("pressed") if len(key) == 1 or key == "Enter"] == ["s", "Enter"]
    assert [message["action"] for message in sent(page)] == ["bits", "undo", "redo", "redo"]


def test_what_assistive_software_hears(show: ShowTable) -> None:
    page = show(30)
    grid = page.get_by_role("grid", name="layers")
    expect(grid).to_have_attribute("aria-multiselectable", "true")
    headers = page.get_by_role("columnheader")
    assert int(grid.get_attribute("aria-colcount") or 0) == headers.count() == 15
    assert page.locator('[role="columnheader"][aria-sort]').count() == 15
    click(page, 3)
    for layer in (3, 4):
        expect(row(page, layer)).to_have_attribute("role", "row")
        expect(row(page, layer)).to_have_attribute("aria-selected", str(layer == 3).lower())
        assert row(page, layer).get_by_role("gridcell").count() == 15
        expect(row(page, layer)).to_have_attribute("aria-rowindex", str(layer + 2))
    expect(cell(page, 3, "locked").get_by_role("button")).to_have_attribute(
        "aria-label", re.compile("lock transformer_blocks.0")
    )
    unnamed = page.locator("button, input").evaluate_all(
        "all => all.filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim())).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes(show: ShowTable, results: Path, theme: str) -> None:
    page = show(1000, theme="true" if theme == "light" else "false")
    expect(page.locator(".aq-table")).to_have_attribute("data-theme", theme)
    click(page, 3)
    click(page, 6, "Shift")
    page.keyboard.press("3")
    page.screenshot(path=results / f"table-{theme}.png")
    page.keyboard.press("Enter")
    page.screenshot(path=results / f"table-{theme}-menu.png")
    page.keyboard.press("Escape")
    page.get_by_label("add a column by an expression").click()
    page.evaluate(
        "model.hear({ type: 'error', error: 'The disk is full: free 2.1 GB or export elsewhere.' })"
    )
    page.screenshot(path=results / f"table-{theme}-strip.png")
    contrast = page.evaluate(
        """() => {
            const light = (text) => {
                const parts = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
                    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
                return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
            };
            const ground = light(getComputedStyle(document.querySelector(".aq-table")).backgroundColor);
            return [".aq-cell[data-key=name]", ".aq-cell[data-key=role]", ".aq-hot", ".aq-total span"].map((one) => {
                const ink = light(getComputedStyle(document.querySelector(`.aq-table ${one}`)).color);
                return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
            });
        }"""
    )
    assert min(contrast) > 4.5
    page.evaluate("theme => document.body.dataset.jpThemeLight = theme", str(theme != "light").lower())
    expect(page.locator(".aq-table")).to_have_attribute("data-theme", "dark" if theme == "light" else "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_without_a_host_the_system_decides(show: ShowTable, results: Path, scheme: str) -> None:
    page = show(100, theme=None, color_scheme=scheme, width=900)
    expect(page.locator(".aq-table")).to_have_attribute("data-theme", scheme)
    page.screenshot(path=results / f"table-alone-{scheme}.png")


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_reduced_motion(show: ShowTable, motion: str, moves: bool) -> None:
    page = show(30, reduced_motion=motion)
    durations = page.locator(".aq-table *").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).transitionDuration + getComputedStyle(one).animationName)"
    )
    assert any(duration != "0snone" for duration in durations) == moves


def test_a_kernel_that_is_gone_is_noticed(show: ShowTable) -> None:
    page = show()
    page.evaluate("model.closed = true")
    click(page, 1)
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text("no longer connected")
    expect(page.locator(".aq-table")).to_have_attribute("data-connection", "gone")
    expect(page.get_by_label("2 bits")).to_be_disabled()
    expect(page.get_by_label("undo")).to_be_disabled()
    expect(page.locator(".aq-table")).to_have_attribute("data-pending", "0")


def test_a_kernel_that_is_slow_is_waited_for(show: ShowTable) -> None:
    page = show()
    click(page, 1)
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text("has not answered yet", timeout=8000)
    expect(page.locator(".aq-shown")).to_contain_text("1 edit waits")
    page.keyboard.press("3")
    assert bits(page, 1) == "3"
    for message in sent(page):
        page.evaluate("id => reply({ ack: id })", message["id"])
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator(".aq-table")).to_have_attribute("data-pending", "0")


def test_an_idle_kernel_that_does_not_answer_is_asked_again(show: ShowTable) -> None:
    # Its main shell may be busy while a subshell says it is idle: then the request waits in the queue of the first.
    page = show()
    click(page, 1)
    for key in "23":
        page.keyboard.press(key)
    asked = "model.posts.filter((one) => one.type === 'edit').map((one) => [one.view, one.turn, one.bits])"
    page.wait_for_function("model.posts.filter((one) => one.type === 'edit').length === 6", timeout=12_000)
    first, second = page.evaluate(asked)[:2]
    assert page.evaluate(asked) == 3 * [first, second], "in their order, under the turns they had"
    assert (second[1] - first[1], first[2], second[2]) == (1, 2, 3)
    expect(page.locator(".aq-table")).to_have_attribute("data-connection", "slow")
    page.wait_for_function("model.widget_manager.kernel.inquiries === 1")
    page.evaluate("model.widget_manager.kernel.tell(['another', 'table'])")
    expect(page.get_by_label("2 bits")).to_be_enabled()
    assert bits(page, 1) == "3"
    for message in sent(page):
        page.evaluate("id => model.hear({ type: 'here', ack: id, version: 1 })", message["id"])
    expect(page.locator(".aq-table")).to_have_attribute("data-connection", "live")
    expect(page.locator(".aq-table")).to_have_attribute("data-pending", "0")
    posts = page.evaluate("model.posts.length")
    page.wait_for_timeout(4000)
    assert page.evaluate("model.posts.length") == posts, "nothing is asked for any more"


def test_a_kernel_that_does_not_know_the_table_ends_it(show: ShowTable) -> None:
    page = show()
    click(page, 1)
    page.keyboard.press("2")
    page.wait_for_function("model.widget_manager.kernel.inquiries === 1", timeout=8000)
    page.evaluate("model.widget_manager.kernel.tell(['another'])")
    expect(page.locator(".aq-table")).to_have_attribute("data-connection", "gone")
    expect(page.get_by_role("alert")).to_contain_text("Run its cell again")
    expect(page.get_by_label("2 bits")).to_be_disabled()


@pytest.mark.parametrize("status", ["restarting", "autorestarting", "dead", "terminating"])
def test_a_kernel_that_ends_ends_the_table(show: ShowTable, status: str) -> None:
    page = show(30)
    for harmless in ("busy", "idle", "unknown", "starting"):
        page.evaluate("status => model.widget_manager.kernel.become(status)", harmless)
    expect(page.locator(".aq-table")).not_to_have_attribute("data-connection", "gone")
    page.evaluate("status => model.widget_manager.kernel.become(status)", status)
    expect(page.locator(".aq-table")).to_have_attribute("data-connection", "gone")


def test_an_answer_that_was_lost_is_made_good(show: ShowTable) -> None:
    page = show()
    click(page, 1)
    page.keyboard.press("2")
    (edit,) = sent(page)
    hellos = len(sent(page, "hello"))
    page.evaluate("id => model.hear({ type: 'here', ack: id, version: 2 })", edit["id"])
    expect(page.locator(".aq-table")).to_have_attribute("data-pending", "0")
    assert [one["version"] for one in sent(page, "hello")[hellos:]] == [1], (
        "the plan that it led to is asked for"
    )


def test_a_table_that_is_closed_leaves_nothing_behind(show: ShowTable) -> None:
    page = show()
    page.evaluate("close()")
    assert page.evaluate("Object.values(model.listeners).reduce((sum, one) => sum + one.size, 0)") == 0
    assert page.evaluate("model.widget_manager.kernel.heard.size") == 0


def test_names_are_text(show: ShowTable) -> None:
    page = show(20, names={2: "<img src=x onerror=alert(1)>.weight"})
    expect(cell(page, 2, "name")).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator(".aq-table img").count() == 0
