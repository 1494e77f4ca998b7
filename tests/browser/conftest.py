"""A real Chromium, and pages that show the layer table alone: with generated layers, or bound to a real session."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

from workbench.ui.module import bundle
from workbench.ui.table.packing import pack

from .lab import Desk, Lab, notebook, started

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
ORIGIN = "http://panel.test/"
TRAITS = {
    "selected": [], "current": -1, "filter": "", "sort": "", "widths": {}, "column_order": [], "hidden_columns": [],
    "min_cosine": 0.95, "height": 440,
}  # fmt: skip
CHROMIUM = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--force-color-profile=srgb",
]  # fmt: skip

ShowTable = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one module: as long as it is open an event loop runs in this thread, which other tests forbid."""
    path = shutil.which("chromium")
    assert path, "The browser tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def results() -> Path:
    """Where pictures are kept, to be looked at."""
    RESULTS.mkdir(exist_ok=True)
    return RESULTS


def generated(count: int) -> tuple[dict[str, Any], bytes]:
    """Header and arrays of made-up layers, as `LayerTable.state` would have them."""
    rng = np.random.default_rng(count)
    parts = [
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "ff.net.0.proj",
        "ff.net.2",
        "norm1.linear",
    ]
    roles = ["attention.q", "attention.k", "attention.v", "attention.out", "mlp.in", "mlp.out", "modulation"]
    kind = np.arange(count) % len(parts)
    names = [f"transformer_blocks.{row // 7}.{parts[row % 7]}.weight" for row in range(count)]
    out = np.array([1152, 1152, 1152, 1152, 4608, 1152, 6912])[kind]
    cols = np.array([1152, 1152, 1152, 1152, 1152, 4608, 1152])[kind]
    params = (out * cols).astype("f8")
    bits = np.array([2, 3, 4, 5, 6, 8, 16])
    level = np.exp(rng.normal(0, 1.2, count))[:, None]
    damage = np.where(bits < 16, level * 4.0**-bits, 0.0)
    nbytes = np.where(bits < 16, params[:, None] * bits / 8 + params[:, None] / 128 * 4, params[:, None] * 2)
    present = rng.choice([0, 1, 2, 2, 2, 3, 4, 5, 6], count)
    menu = {
        "bits": np.tile(bits, count).astype("u1"),
        "scheme": np.tile(bits == 16, count).astype("u1"),
        "group": np.tile(np.where(bits < 16, 128, 0), count).astype("u4"),
        "nbytes": nbytes.ravel(),
        "damage": damage.ravel(),
        "cosine": 1 - damage.ravel() / 2,
        "code_entropy": np.where(bits < 16, 0.93 * bits, np.nan)[None].repeat(count, 0).ravel().astype("f4"),
    }
    chosen = np.arange(count) * len(bits) + present
    arrays = {
        "order": np.arange(count, dtype="u4"),
        "params": params,
        "role": kind.astype("u1"),
        "entropy": rng.uniform(0.5, 0.95, count).astype("f4"),
        "heterogeneity": rng.exponential(0.3, count).astype("f4"),
        "importance": np.exp(rng.normal(0, 1, count)).astype("f4"),
        "menu_start": (np.arange(count + 1) * len(bits)).astype("u4"),
        # 7 bits are not to be had: they are 8.
        "width_place": np.tile(np.array([0, 1, 2, 3, 4, 5, 5, 6]), count).astype("u1"),
        **{f"menu_{name}": values for name, values in menu.items()},
        **{name: values[chosen] for name, values in menu.items()},
        "heat": rng.exponential(2e-9, count),
        "locked": (rng.uniform(size=count) < 0.06).astype("u1"),
        "choice_entropy": rng.uniform(0, 1.6, count).astype("f4"),
        "totals": np.array(
            [menu["nbytes"][chosen].sum() + 4096, 3.6, 4.4, menu["damage"][chosen].sum(), 0.013, 2e-9]
        ),
    }
    layout, blob = pack(arrays)
    header = {
        "version": 1, "can_undo": True, "can_redo": False, "columns": [], "names": names, "roles": roles,
        "shapes": [f"{o}×{c}" for o, c in zip(out, cols, strict=True)], "schemes": ["asymmetric", "keep"],
        "source_bytes": int(2 * params.sum()), "layout": layout, "model_id": "table",
    }  # fmt: skip
    return header, blob


@pytest.fixture
def show(browser: Browser) -> Iterator[ShowTable]:
    """Open a page with the table: ``show(rows)``, or ``show(state=…, kernel=…)``; no error may reach its console."""
    contexts, faults = [], []

    def open_page(
        rows: int = 1000,
        *,
        state: dict[str, Any] | None = None,
        kernel: Callable[[Any], Any] | None = None,
        theme: str | None = "true",
        traits: dict[str, Any] | None = None,
        names: dict[int, str] | None = None,
        width: int = 1500,
        module: str = "table",
        **context: Any,
    ) -> Page:
        header, blob = (state["header"], state["blob"]) if state else generated(rows)
        for layer, name in (names or {}).items():
            header["names"][layer] = name
        files: dict[str, tuple[str, str | bytes]] = {
            "": ("text/html", (HERE / "page.html").read_text(encoding="utf-8")),
            "stub.js": ("text/javascript", (HERE / "stub.js").read_text(encoding="utf-8")),
            "table.js": ("text/javascript", bundle(f"{module}.js")),
            "table.css": ("text/css", bundle(f"{module}.css")),
            "header.json": ("application/json", json.dumps(header)),
            "traits.json": ("application/json", json.dumps({**TRAITS, **(traits or {})})),
            "blob.bin": ("application/octet-stream", blob),
        }

        def serve(route: Route) -> None:
            kind, body = files[route.request.url.removeprefix(ORIGIN)]
            route.fulfill(body=body, content_type=f"{kind}; charset=utf-8")

        def hear(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                faults.append(message.text)

        made = browser.new_context(viewport={"width": width, "height": 700}, **context)
        contexts.append(made)
        page = made.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.route("**/*", serve)
        if kernel:
            page.expose_function("kernel", kernel)
        page.goto(ORIGIN)
        page.wait_for_function("window.stubReady")
        if theme:
            page.evaluate("theme => document.body.dataset.jpThemeLight = theme", theme)
        page.evaluate("async () => { await window.show() }")
        page.wait_for_selector(".aq-table[data-ready] .aq-body .aq-row")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def encoded(content: Any, buffers: Any) -> dict[str, Any]:
    """A message of a widget as the page takes it."""
    return {"content": content, "buffers": [base64.b64encode(bytes(one)).decode() for one in buffers or []]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with started(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def open_desk(browser: Browser, lab: Lab) -> Iterator[Callable[..., Desk]]:
    """Open a notebook, with new cells unless they are left out; no error may reach the page's console."""
    desks = []

    def open_it(name: str, cells: list[str] | dict[str, Any] | None = None, **settings: Any) -> Desk:
        if cells is not None:
            document = cells if isinstance(cells, dict) else notebook(cells)
            (lab.folder / name).write_text(json.dumps(document))
        desks.append(Desk(browser, lab, name, **settings))
        return desks[-1]

    yield open_it
    faults = [fault for desk in desks for fault in desk.traffic.faults]
    for desk in desks:
        desk.close()
    assert faults == []
