"""The panel in a real JupyterLab, by mouse and keyboard: what is on screen is what the kernel has and what is exported.

The picture in the README is one of `test_it_looks_as_it_should`'s; to make it anew:

    PANEL_IMAGE=notebooks/images/panel.png python -m pytest tests/browser/test_lab.py -k looks
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from safetensors.numpy import save_file

import workbench as wb

from .lab import PATIENCE, Desk, Lab

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SLOW = """
import time, workbench.work
if not hasattr(workbench.work, "quick"):
    workbench.work.quick = workbench.work.Progress.advance
def slow(self, amount):
    time.sleep(0.2)
    workbench.work.quick(self, amount)
workbench.work.Progress.advance = slow
"""
CORNER = """(lambda front, beside: __import__("json").dumps(
    {{name: str(s.costs.bits[row, place]) for row, (name, place) in enumerate(zip(
        s.costs.names, front.choice_at(front.corner_within({budget} - beside))))}}
))(s.front, s.totals.nbytes - sum(option.nbytes for option in s.plan.choices.values()))"""
QUICK = "workbench.work.Progress.advance = workbench.work.quick"


@pytest.fixture(scope="module")
def many_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 301 layers in 43 blocks."""
    rng = np.random.default_rng(0)
    parts = (
        "attn1.to_q",
        "attn1.to_k",
        "attn1.to_v",
        "attn1.to_out.0",
        "ff.net.0.proj",
        "ff.net.2",
        "norm1.linear",
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "many-layers"
    folder.mkdir()
    tensors = {
        f"transformer_blocks.{block}.{part}.weight": (
            rng.standard_normal((64, 128)) * np.exp(rng.normal() - 3) * (1 + 9 * (rng.random((1, 128)) < 0.02))
        ).astype(np.float16)
        for block in range(43)
        for part in parts
    }  # fmt: skip
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"_class_name": "DiTTransformer2DModel"}))
    return folder


def drag_budget(page: Page, part: float) -> None:
    """Drag the budget to a part of its range, and hold it there."""
    box = page.locator(".aq-budget").bounding_box()
    assert box
    at = float(page.locator(".aq-budget").evaluate("one => (one.value - one.min) / (one.max - one.min)"))
    middle = box["y"] + box["height"] / 2
    # The handle, 16 pixels wide, stays within the box.
    page.mouse.move(box["x"] + 8 + at * (box["width"] - 16), middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + part * (box["width"] - 16), middle, steps=5)


def click_point(page: Page, chart: str, trace: int, point: int) -> None:
    """Click a mark of a figure."""
    place = page.evaluate(
        """([chart, trace, point]) => {
            const figure = document.querySelector(chart);
            figure.scrollIntoView({ block: "center" });
            const { x, y, xaxis = "x", yaxis = "y" } = figure._fullData[trace];
            const across = figure._fullLayout[xaxis.replace("x", "xaxis")];
            const up = figure._fullLayout[yaxis.replace("y", "yaxis")];
            const box = figure.getBoundingClientRect();
            return [box.x + across._offset + across.d2p(x[point]), box.y + up._offset + up.d2p(y[point])];
        }""",
        [chart, trace, point],
    )
    page.mouse.move(place[0] - 3, place[1] - 3)
    page.mouse.move(*place)
    page.wait_for_selector(".hoverlayer .hovertext")
    page.mouse.click(*place)


def test_the_quickstart_by_hand(open_desk: Callable[..., Desk], lab: Lab) -> None:
    # With stored outputs JupyterLab would not trust it, and after a reload show the table for those without widgets.
    document = json.loads((NOTEBOOKS / "00_quickstart.ipynb").read_text(encoding="utf-8"))
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    desk = open_desk("quickstart.ipynb", document)
    page = desk.page
    code = [place for place, cell in enumerate(document["cells"]) if cell["cell_type"] == "code"]
    desk.run(code[0])
    desk.wait_for_table()
    desk.wait_for_charts()
    desk.agree()

    # Bits of several rows by keyboard.
    before = desk.total("nbytes")
    names = list(desk.bits())
    desk.choose(2)
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("6")
    expect(page.locator('[data-total="nbytes"] b')).not_to_have_text(before)
    desk.agree()
    assert [name for name, bits in desk.bits().items() if bits == "6"] == names[2:5]
    expect(page.locator(".aq-script")).to_have_attribute("data-last", re.compile(r"s\.set_bits\(\[.*\], 6\)"))

    # The drill-down follows the cursor.
    expect(page.get_by_text("rows looked at")).to_be_visible(timeout=PATIENCE)
    desk.wait_for_charts(5)

    # Filter by a condition, and a bulk edit by a button.
    page.keyboard.press("/")
    page.keyboard.type('= "attn1" in name and bits < 5')
    expect(page.locator(".aq-shown")).to_contain_text("of 33 layers")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.get_by_label("3 bits").click()
    desk.agree()
    assert set(desk.bits().values()) == {"3"}
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    expect(page.locator(".aq-shown")).not_to_contain_text(" of ")

    # Undo, in the toolbar.
    version = int(desk.ask("s.version"))
    desk.button("Undo").click()
    assert "3" not in desk.bits().values(), "at once: what it takes back is known"
    expect(desk.table).to_have_attribute("data-version", str(version + 1))
    desk.agree()
    assert "3" not in desk.bits().values()

    # The budget, by the slider and in writing.
    shown = desk.total("nbytes"), desk.bits()
    drag_budget(page, 0.35)
    page.wait_for_function(
        "shown => document.querySelector('[data-total=nbytes] b').textContent !== shown", arg=shown[0]
    )
    assert desk.bits() != shown[1], "the plan follows the hand"
    budget = page.locator(".aq-budget").evaluate("one => one.valueAsNumber")
    corner = json.loads(desk.ask(CORNER.format(budget=budget)).strip("'"))
    assert desk.bits().items() <= corner.items(), "it is the corner of the front that the solver begins with"
    assert int(desk.ask("s.version")) == version + 1, "the kernel was not asked"
    page.mouse.up()
    expect(page.locator(".aq-question")).to_contain_text("3 layers were set by hand")
    assert int(desk.ask("s.version")) == version + 1, "nothing was done before it was asked"
    desk.button("Solve for all").click()
    expect(page.locator(".aq-script")).to_have_attribute("data-last", re.compile(r"s\.solve\(\d+\)"))
    desk.agree()
    desk.solve_for("2 MB")
    expect(page.locator(".aq-script")).to_have_attribute("data-last", "s.solve('2 MB')")
    desk.agree()
    solved = desk.total("nbytes")
    assert 1.99 < float(solved.removesuffix(" MB")) <= 2

    # What cannot be done is said, with the way out, and changes nothing.
    desk.solve_for("20 parsecs")
    expect(desk.told("alert")).to_contain_text("write it as 2.5GB")
    assert desk.total("nbytes") == solved
    desk.agree()
    page.get_by_label("dismiss").click()
    expect(desk.told("alert")).to_be_hidden()

    # A mark in a figure is a layer of the table.
    page.wait_for_timeout(600)  # the figures follow the edits after a pause
    click_point(page, ".aq-figures figure:nth-child(2) .aq-chart", 0, 1)
    expect(page.locator('.aq-row[aria-selected="true"]')).to_have_count(1)
    chosen = page.locator('.aq-row[aria-selected="true"] [data-key="name"]').get_attribute("title")
    assert chosen in names
    expect(page.get_by_text("rows looked at")).to_contain_text(str(chosen))

    # An export: cancelled, and then done.
    desk.ask(f"exec({SLOW!r})")
    desk.button("Export …").click()
    expect(page.locator(".aq-toolbar").get_by_text("at most 1,99")).to_be_visible()
    folder = page.get_by_role("textbox", name="folder")
    folder.fill("small")
    folder.press("Enter")
    expect(page.locator(".aq-jobs:visible").first).to_contain_text("export to small")
    page.locator(".aq-jobs:visible").first.get_by_role("button", name="Cancel").click()
    expect(desk.told("status")).to_contain_text("was cancelled; nothing was left", timeout=PATIENCE)
    assert not [path for path in lab.folder.iterdir() if "small" in path.name]
    desk.ask(f"exec({QUICK!r})")
    desk.button("Write").click()
    expect(desk.told("status")).to_contain_text("read back and compared", timeout=PATIENCE)
    exported = wb.load(lab.folder / "small")
    written = {name: str(option.bits) for name, option in exported.plan.choices.items()}
    assert desk.bits().items() <= written.items(), "the rows in sight are what was exported"
    assert wb.verify(lab.folder / "small", wb_path("digits-dit")).ok

    # The whole of the edits is Python to copy.
    desk.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy all").click()
    expect(page.get_by_text("copied")).to_be_visible()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0] == "import workbench as wb"
    assert lines[-2:] == ["s.solve('2 MB')", f"s.export({str(lab.folder / 'small')!r}).result()"]

    # Saved, loaded again: the same panel.
    stored = desk.save()
    desk.reload()
    desk.wait_for_charts()
    assert desk.bits().items() <= written.items()
    desk.agree()
    desk.choose(1)
    page.keyboard.press("8")
    desk.agree()
    assert desk.bits()[names[1]] == "8"

    # The rest of the notebook.
    for place in code[1:]:
        desk.run(place)
    assert "verified: True" in desk.output(code[5 - 1])
    desk.agree()
    desk.save()
    text = stored.read_text()
    assert len(text) < 300_000
    assert "widget-view+json" in text

    # A kernel that was restarted knows nothing of the table: it says so.
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    expect(desk.table).to_have_attribute("data-connection", "gone", timeout=PATIENCE)
    expect(desk.told("alert")).to_contain_text("Run its cell again")


def wb_path(name: str) -> Path:
    from workbench import zoo

    return zoo.locate(name)


def test_a_cell_that_computes_hinders_nobody(open_desk: Callable[..., Desk], lab: Lab) -> None:
    desk = open_desk(
        "busy.ipynb",
        [
            "import workbench as wb\ns = wb.open('zoo:digits-dit')\n" + SLOW,
            "s",
            # It also sends on the panel's comm, which shall not bind the panel to its shell.
            "s.set_bits(list(s.plan.choices)[1], 5)\nwhile True:\n    sum(range(1000))",
        ],
    )
    page = desk.page
    desk.run(0)
    desk.run(1)
    desk.wait_for_table()
    desk.wait_for_charts()
    desk.start(2)
    expect(desk.table).to_have_attribute("data-version", "1", timeout=PATIENCE)

    def busy() -> bool:
        return bool(
            page.evaluate(
                "window.jupyterapp.shell.currentWidget.content.widgets[2].promptNode.textContent.includes('*')"
            )
        )

    assert busy()
    before = desk.total("nbytes")
    desk.choose(1)
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("7")
    expect(page.locator('[data-total="nbytes"] b')).not_to_have_text(before)
    expect(desk.table).to_have_attribute("data-version", "2", timeout=PATIENCE)
    desk.settle()
    desk.solve_for("2.2 MB")
    desk.button("Solve for all").click()
    expect(desk.table).to_have_attribute("data-version", "3", timeout=PATIENCE)
    shown = desk.total("nbytes")
    drag_budget(page, 0.6)
    expect(page.locator('[data-total="nbytes"] b')).not_to_have_text(shown)
    page.mouse.up()
    expect(desk.table).to_have_attribute("data-version", "4", timeout=PATIENCE)
    desk.button("Export …").click()
    desk.button("Write").click()
    expect(page.locator(".aq-jobs:visible").first).to_contain_text("export to export")
    page.locator(".aq-jobs:visible").first.get_by_role("button", name="Cancel").click()
    expect(desk.told("status")).to_contain_text("was cancelled", timeout=PATIENCE)
    assert busy(), "all of that while the cell computed"
    desk.interrupt()
    desk.agree()
    assert not (lab.folder / "export").exists()


def test_it_looks_as_it_should(
    open_desk: Callable[..., Desk], many_layers: Path, results: Path, tmp_path: Path
) -> None:
    # Measured before, so that no page waits for it.
    wb.open("zoo:digits-dit", calibration="zoo:digits-dit", cache=tmp_path).close()
    desk = open_desk(
        "looks.ipynb",
        [
            f"import workbench as wb\ns = wb.open({str(many_layers)!r}, cache={str(tmp_path)!r})\n"
            "s.lock('role:modulation', bits=6)\ns.solve(bpw=4)\ns",
            f"s.close()\ns = wb.open('zoo:digits-dit', calibration='zoo:digits-dit', cache={str(tmp_path)!r})\n"
            "s.lock('role:modulation', bits=6)\ns.solve('2.4 MB')\ns",
        ],
    )  # fmt: skip
    page = desk.page
    desk.run(0)
    desk.wait_for_table()
    desk.wait_for_charts()
    desk.choose(3)
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("3")
    desk.solve_for("1 kB")
    desk.button("Solve for all").click()
    expect(desk.told("alert")).to_be_visible()
    desk.button("Export …").click()
    desk.wait_for_charts(5)
    page.wait_for_timeout(1500)
    for theme in ("Dark", "Light"):
        desk.theme(theme)
        page.wait_for_timeout(1000)
        page.screenshot(path=results / f"lab-many-layers-{theme.lower()}.png")
    overflow = page.evaluate(
        """() => {
            const panel = document.querySelector(".aq-panel").getBoundingClientRect();
            return [...document.querySelectorAll(".aq-panel *")]
                .filter((one) => !one.closest(".aq-grid, svg, .aq-voice") && one.getClientRects().length)
                .filter((one) => one.getBoundingClientRect().right > panel.right + 1)
                .map((one) => one.className);
        }"""
    )
    assert overflow == [], "nothing sticks out of the panel"
    page.set_viewport_size({"width": 2100, "height": 1400})
    page.wait_for_timeout(800)
    page.screenshot(path=results / "lab-many-layers-wide.png")

    page.set_viewport_size({"width": 1560, "height": 1500})
    page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    desk.run(1)
    desk.wait_for_table()
    desk.wait_for_charts()
    desk.choose(4)
    desk.wait_for_charts(6)
    page.wait_for_timeout(1200)
    for theme in ("Dark", "Light"):
        desk.theme(theme)
        page.wait_for_timeout(1000)
        path = results / f"panel-{theme.lower()}.png"
        page.locator(".aq-panel").screenshot(path=path)
    wanted = os.environ.get("PANEL_IMAGE")
    if wanted:
        picture = Image.open(results / "panel-light.png").convert("RGB")
        height = round(picture.height * 1400 / picture.width)
        small = picture.resize((1400, height), Image.Resampling.LANCZOS)
        # Greys are most of it; the colours of the widths must stay what they are.
        few = small.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(wanted, optimize=True)
        assert Path(wanted).stat().st_size <= 250_000
