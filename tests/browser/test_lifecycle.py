"""A panel through the life of its notebook: cells that run for long, kernels that end, pages that come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect
from safetensors.numpy import save_file

from .lab import PATIENCE, Desk

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
    desk = open_desk("long.ipynb", [opening(blocks) + "\ns", "import time\ntime.sleep(25)"])
    page = desk.page
    page.evaluate(LATE_SUBSHELL, 3)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    desk.wait_for_table()
    desk.choose(2)
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("3")
    page.keyboard.press("6")
    expect(desk.table).to_have_attribute("data-version", "2", timeout=18_000)
    desk.settle()
    assert page.evaluate(BUSY.format(1)), "while the cell runs"
    expect(desk.told("alert")).to_be_hidden()
    page.wait_for_function("!" + BUSY.format(1), timeout=PATIENCE)
    desk.choose(4)
    page.keyboard.press("8")
    expect(desk.table).to_have_attribute("data-version", "3")
    desk.agree()
    assert desk.ask("[o.bits for o in s.plan.choices.values()][2:5]") == "[6, 6, 8]", (
        "each edit once, in order"
    )
    assert desk.ask("s.script[0].endswith('3)') and s.script[1].endswith('6)')") == "True"
