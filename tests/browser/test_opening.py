"""Opening in a real JupyterLab: how far it is stands in the cell, can be cancelled, and is gone at the end; and the
notebook that lab makes runs from top to bottom in it, on a model that is not of the zoo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from safetensors.numpy import save_file

import workbench as wb
from workbench.cli.lab_notebook import notebook_for
from workbench.session.opening import prepare

from .lab import CURRENT, PATIENCE, Desk, Lab

SLOW = """
import time, workbench as wb, workbench.work
quick = workbench.work.Progress.advance
def slow(self, amount):
    time.sleep(0.3)
    quick(self, amount)
workbench.work.Progress.advance = slow
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "not of the zoo.safetensors"
    rng = np.random.default_rng(0)
    save_file(
        {
            f"blocks.{n}.attn.to_q.weight": rng.standard_normal((256, 512)).astype(np.float16)
            for n in range(40)
        },
        path,
    )
    return path


def outputs(desk: Desk, cell: int) -> list[dict[str, Any]]:
    return list(
        desk.page.evaluate(
            f"(cell) => {{ {CURRENT} return panel.content.model.cells.get(cell).outputs.toJSON() }}", cell
        )
    )


def test_it_shows_in_the_cell_how_far_it_is(
    open_desk: Callable[..., Desk], model: Path, tmp_path: Path, results: Path
) -> None:
    line = f"s = wb.open({str(model)!r}, cache={str(tmp_path)!r})"
    desk = open_desk("opening.ipynb", [SLOW, line, "workbench.work.Progress.advance = quick\n" + line, "s"])
    page, bar = desk.page, desk.page.locator(".aq-progress")
    desk.run(0)

    # By the button, while the cell runs.
    desk.start(1)
    expect(bar).to_be_visible(timeout=PATIENCE)
    expect(bar).to_contain_text("Opening not of the zoo.safetensors")
    expect(bar).to_contain_text("profiling layers (step 1 of 2)")
    expect(bar).to_contain_text("s left")
    expect(bar).to_contain_text("MB/s")
    page.screenshot(path=results / "opening.png")
    bar.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("CancelledError").first).to_be_visible(timeout=PATIENCE)
    expect(bar).to_have_count(0)
    (error,) = (output for output in outputs(desk, 1) if output["output_type"] == "error")
    assert error["evalue"].startswith("Opening not of the zoo.safetensors was cancelled.")
    assert desk.ask("'s' in globals()") == "False"

    # By interrupting the cell.
    desk.start(1)
    expect(bar).to_contain_text("profiling layers", timeout=PATIENCE)
    desk.interrupt()
    (error,) = (output for output in outputs(desk, 1) if output["output_type"] == "error")
    assert error["ename"] == "CancelledError"

    # And the same line goes on from there; the bar leaves nothing behind.
    desk.run(2)
    expect(bar).to_have_count(0)
    assert [output for output in outputs(desk, 2) if output.get("data") != {}] == []
    desk.run(3)
    desk.wait_for_table()


def test_the_notebook_of_a_flux_runs_from_top_to_bottom(
    open_desk: Callable[..., Desk], lab: Lab, flux_model: Callable[..., Any], tmp_path: Path, results: Path
) -> None:
    pipeline = tmp_path / "tiny flux"
    flux_model().save_pretrained(pipeline / "transformer")
    (pipeline / "model_index.json").write_text(
        json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]})
    )
    ready = prepare(pipeline)
    with ready.checkpoint:
        document = notebook_for(str(pipeline), ready, {"target": ready.target.name})
    desk = open_desk("flux.ipynb", document)
    desk.command("notebook:run-all-cells")
    desk.wait_until_idle()
    desk.wait_for_table()
    desk.wait_for_charts()
    code = [place for place, cell in enumerate(document["cells"]) if cell["cell_type"] == "code"]
    printed = [desk.output(place) for place in code]
    assert any("verified: True" in text for text in printed)
    assert any("ComfyUI" in text for text in printed)
    desk.agree()
    desk.page.screenshot(path=results / "lab-flux.png", full_page=True)
    (folder,) = lab.folder.glob("tiny-flux-gguf-*bpw")
    assert wb.verify(folder, pipeline).ok
