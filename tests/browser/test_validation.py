"""The validation tab in a real JupyterLab: a plan is run in the model, looked at, cancelled and learnt from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, expect

from .lab import PATIENCE, Desk

OPEN = """
import time
import torch
import workbench as wb
from workbench import zoo
from workbench.zoo.digits_dit.sample import denoise, load

torch.set_num_threads(1)
model, scheduler = load(zoo.locate("digits-dit"), torch.float32)
pause = 0

def run(number):
    time.sleep(pause)
    return denoise(model, scheduler, range(8), number, 6)

s = wb.open("zoo:digits-dit", calibration="zoo:digits-dit", num_time_groups=3)
s.set_bits("*", 3)
s
"""


def pane(desk: Desk) -> Locator:
    return desk.page.get_by_role("tabpanel", name="Validation", exact=True)


def facts(desk: Desk) -> dict[str, str]:
    return dict(
        pane(desk)
        .locator(".aq-facts")
        .evaluate(
            """one => [...one.querySelectorAll("dt")].map((name) =>
                [name.textContent, name.nextSibling.textContent])"""
        )
    )


def test_a_plan_is_proved_by_hand(open_desk: Callable[..., Desk], results: Path) -> None:
    desk = open_desk("validation.ipynb", [OPEN, "wb.live.attach(s, model, run)"], viewport=(1500, 1900))
    page = desk.page
    desk.run(0)
    desk.wait_for_table()
    desk.wait_for_charts()

    # Without a model it says how to give it one.
    page.get_by_role("tab", name="Validation", exact=True).click()
    expect(pane(desk)).to_contain_text("wb.live.attach(s, model, run)")
    expect(page.get_by_role("tabpanel", name="Figures", exact=True)).to_be_hidden()
    expect(pane(desk).get_by_role("button", name="Run the plan")).to_be_hidden()
    desk.run(1)
    run = pane(desk).get_by_role("button", name="Run the plan")
    learn = pane(desk).get_by_role("button", name="Correct the predicted")
    expect(run).to_be_enabled(timeout=PATIENCE)
    expect(learn).to_be_disabled()

    # A validation that is cancelled.
    desk.ask("exec('pause = 0.5')")
    pane(desk).get_by_label("runs").fill("50")
    run.click()
    expect(page.locator(".aq-jobs:visible").first).to_contain_text(
        "validation in the running model", timeout=PATIENCE
    )
    expect(run).to_be_disabled()
    page.locator(".aq-jobs:visible").first.get_by_role("button", name="Cancel").click()
    expect(desk.told("status")).to_contain_text("was cancelled", timeout=PATIENCE)
    expect(run).to_be_enabled()

    # One that is not.
    desk.ask("exec('pause = 0')")
    pane(desk).get_by_label("runs").fill("2")
    run.click()
    expect(pane(desk).locator(".aq-facts")).to_contain_text("over 2 runs", timeout=PATIENCE)
    assert facts(desk)["measured / predicted"] == desk.ask("f'{s.validation.ratio:.2f}'").strip("'")
    expect(pane(desk).locator(".aq-chart[data-drawn]")).to_have_count(4, timeout=PATIENCE)
    expect(pane(desk).locator(".aq-chart image")).to_have_count(1)
    expect(page.locator(".aq-script")).to_have_attribute("data-last", "s.validate(runs=2).result()")
    for theme in ("Dark", "Light"):
        desk.theme(theme)
        page.wait_for_timeout(1500)
        page.screenshot(path=results / f"validation-{theme.lower()}.png")

    # Learning makes the prediction what was measured, for all layers at once.
    learn.click()
    expect(learn).to_be_disabled()
    expect(pane(desk)).to_contain_text("has learnt from it", timeout=PATIENCE)
    assert float(desk.ask("s.totals.damage / s.validation.error")) > 0.999
    desk.agree()
    desk.solve_for("1.9 MB")
    desk.button("Solve for all").click()
    desk.settle()
    expect(pane(desk)).to_contain_text("the plan is another since", timeout=PATIENCE)

    # A mark is a layer of the table, and after a reload all is there again.
    page.get_by_role("tab", name="Validation", exact=True).press("ArrowLeft")
    expect(page.get_by_role("tabpanel", name="Figures", exact=True)).to_be_visible()
    desk.wait_for_charts(7)
    desk.save()
    desk.reload()
    page.get_by_role("tab", name="Validation", exact=True).click()
    expect(pane(desk).locator(".aq-facts")).to_contain_text("over 2 runs")
