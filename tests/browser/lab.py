"""A real JupyterLab, or Notebook 7, for tests and benchmarks: its server, and a page with one notebook."""

from __future__ import annotations

import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, WebSocket, expect
from playwright.sync_api import TimeoutError as TookTooLong

PATIENCE = 60_000
"""Milliseconds until a test gives a server, a kernel or a page up."""

HARMLESS = (
    "preload",  # the browser's advice about the server's own fonts
    "ResizeObserver loop",
    "(reading 'schema')",  # Notebook 7 itself, before it has read its settings
)
"""Parts of console messages that say nothing of the panel."""


@dataclass(frozen=True)
class Lab:
    """A server that runs."""

    address: str
    token: str
    folder: Path
    """Where its notebooks are."""
    server: int
    """Its process."""
    application: str
    """``"jupyterlab"`` or ``"notebook"``."""


@dataclass
class Traffic:
    """What went between a page and the kernels, and what the page complained of."""

    comm: list[tuple[float, str, str]] = field(default_factory=list)
    """Time, ``"sent"`` or ``"received"``, and the type of each comm message of a widget."""
    faults: list[str] = field(default_factory=list)

    def since(self, moment: float, *ways: str) -> int:
        """Comm messages after a moment of `time.monotonic`; of both ways unless some are named."""
        return sum(when >= moment and (not ways or way in ways) for when, way, _ in self.comm)


def environment(folder: Path) -> dict[str, str]:
    """Variables that keep a server's settings, data and kernels' caches in a folder."""
    own = {
        name: str(folder / name.lower())
        for name in (
            "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR", "XDG_CACHE_HOME",
        )
    }  # fmt: skip
    return {**os.environ, **own, "JUPYTER_PREFER_ENV_PATH": "0"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def started(folder: Path, application: str = "jupyterlab") -> Iterator[Lab]:
    """A JupyterLab, or a Notebook 7, with all its files in a folder, until the block ends."""
    root = folder / "notebooks"
    root.mkdir(parents=True)
    settings = folder / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    token, port = secrets.token_hex(16), free_port()
    command = [
        sys.executable, "-m", application, "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}",
    ]  # fmt: skip
    if application == "jupyterlab":
        command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url="]
    # The option of this name is not heard by Notebook 7.
    page = folder / "jupyter_config_dir" / "labconfig"
    page.mkdir(parents=True)
    (page / "page_config.json").write_text(json.dumps({"exposeAppInBrowser": True}))
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment(folder), stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api?token={token}", server, folder / "server.log")
        yield Lab(address, token, root, server.pid, application)
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address: str, server: subprocess.Popen[Any], log: Path) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        else:
            return


def message_type(payload: bytes) -> str:
    """The type that a message's header states.

    References
    ----------
    Jupyter server's kernel websocket protocol ``v1.kernel.websocket.jupyter.org``: a count, so many offsets of 64 bits,
    and the parts: channel, header, parent header, metadata, content, buffers.
    """
    start, end = struct.unpack_from("<2Q", payload, 16)
    return str(json.loads(payload[start:end])["msg_type"])


def notebook(cells: Sequence[str]) -> dict[str, Any]:
    """A notebook of code cells."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [
            {"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "source": source, "outputs": [],
             "execution_count": None}
            for number, source in enumerate(cells)
        ],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip


CURRENT = """const panel = window.jupyterapp.shell.currentWidget;
const soon = (promise, seconds = 60) => Promise.race([promise, new Promise((_, reject) =>
    setTimeout(() => reject(new Error("JupyterLab did not answer")), 1000 * seconds))]);
"""


class Desk:
    """A page of a JupyterLab with one notebook open.

    Parameters
    ----------
    browser : Browser
    lab : Lab
    name : str
        The notebook, in the server's folder.
    viewport : width and height in pixels
    """

    def __init__(
        self, browser: Browser, lab: Lab, name: str, viewport: tuple[int, int] = (1500, 1500)
    ) -> None:
        self.lab, self.name = lab, name
        self.traffic = Traffic()
        self.context = browser.new_context(viewport={"width": viewport[0], "height": viewport[1]})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("websocket", self._listen)
        workspace = f"lab/workspaces/w{secrets.token_hex(4)}/tree"
        place = {"jupyterlab": workspace, "notebook": "notebooks"}[lab.application]
        self.address = f"{lab.address}/{place}/{name}?token={lab.token}"
        self.page.goto(self.address)
        self.wait_until_idle()
        for side in ("Left", "Right"):
            self.page.evaluate(f"window.jupyterapp.shell.collapse{side}?.()")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(message.text)

    def _note(self, fault: str) -> None:
        if not any(part in fault for part in HARMLESS):
            self.traffic.faults.append(fault)

    def _listen(self, socket: WebSocket) -> None:
        if "/channels" not in socket.url:
            return

        def note(way: str) -> Any:
            def noted(payload: str | bytes) -> None:
                assert isinstance(payload, bytes), "JupyterLab speaks Jupyter's binary protocol"
                kind = message_type(payload)
                if kind.startswith("comm_"):
                    self.traffic.comm.append((time.monotonic(), way, kind))

            return noted

        socket.on("framesent", note("sent"))
        socket.on("framereceived", note("received"))

    # ---- the notebook ---------------------------------------------------------------------------------------------

    def wait_until_idle(self) -> None:
        """Wait until the notebook is there and its kernel has nothing to do."""
        self.page.wait_for_function("window.jupyterapp?.restored")
        self.page.evaluate("async () => { await window.jupyterapp.restored }")
        self.page.wait_for_function(
            f"""() => {{
                {CURRENT}
                const kernel = panel?.sessionContext?.session?.kernel;
                return panel?.context?.isReady && kernel?.connectionStatus === "connected" && kernel.status === "idle";
            }}"""
        )

    def command(self, name: str, **arguments: Any) -> None:
        """Run a command of JupyterLab, and wait for it."""
        self.page.evaluate(
            f"async ([name, given]) => {{ {CURRENT} await soon(window.jupyterapp.commands.execute(name, given)) }}",
            [name, arguments],
        )

    def start(self, cell: int) -> None:
        """Run a cell without waiting for it."""
        self.page.evaluate(
            f"""(cell) => {{
                {CURRENT}
                panel.content.activeCellIndex = cell;
                window.jupyterapp.commands.execute("notebook:run-cell");
            }}""",
            cell,
        )

    def run(self, cell: int) -> str:
        """Run a cell to its end; its printed output."""
        self.page.evaluate(
            f"""async (cell) => {{
                {CURRENT}
                panel.content.activeCellIndex = cell;
                await soon(window.jupyterapp.commands.execute("notebook:run-cell"));
            }}""",
            cell,
        )
        return self.output(cell)

    def interrupt(self) -> None:
        """Interrupt the kernel until it has nothing to do."""
        for _ in range(30):
            self.command("notebook:interrupt-kernel")
            self.page.wait_for_timeout(500)
            status = f"() => {{ {CURRENT} return panel.sessionContext.session.kernel.status }}"
            if self.page.evaluate(status) == "idle":
                return
        raise AssertionError("the kernel goes on, however often it is interrupted")

    def output(self, cell: int) -> str:
        """What a cell printed, and its errors."""
        outputs = self.page.evaluate(
            f"(cell) => {{ {CURRENT} return panel.content.model.cells.get(cell).outputs.toJSON() }}", cell
        )
        assert not [one for one in outputs if one["output_type"] == "error"], outputs
        return "".join("".join(one["text"]) for one in outputs if one["output_type"] == "stream")

    def ask(self, code: str) -> str:
        """What an expression is in the kernel, as text; the notebook does not change."""
        return str(
            self.page.evaluate(
                f"""async (code) => {{
                    {CURRENT}
                    const asked = {{
                        code: "", user_expressions: {{ found: code }}, store_history: false, silent: true,
                    }};
                    let reply;
                    for (let tries = 0; tries < 100; tries += 1) {{
                        reply = await soon(panel.sessionContext.session.kernel.requestExecute(asked).done);
                        // After an interrupt the kernel turns away what it is asked, for a moment.
                        if (reply.content.status !== "aborted") break;
                        await new Promise((resume) => setTimeout(resume, 100));
                    }}
                    const {{ found }} = reply.content.user_expressions;
                    if (found.status !== "ok") throw new Error(JSON.stringify(found));
                    return found.data["text/plain"];
                }}""",
                code,
            )
        )

    def save(self) -> Path:
        """Save the notebook; its file."""
        self.command("docmanager:save")
        return self.lab.folder / self.name

    def theme(self, name: str) -> None:
        """Change the theme: ``"Light"`` or ``"Dark"``."""
        self.command("apputils:change-theme", theme=f"JupyterLab {name}")
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light", arg=str(name == "Light").lower()
        )

    # ---- the panel ------------------------------------------------------------------------------------------------

    @property
    def table(self) -> Locator:
        return self.page.locator(".aq-table")

    def wait_for_table(self, patience: float = PATIENCE) -> None:
        self.page.wait_for_selector(".aq-table[data-ready] .aq-body .aq-row", timeout=patience)

    def reload(self) -> None:
        """Load the page again, and wait for the panel.

        The widget manager asks the kernel for all its models and gives up after 4 seconds (ipywidgets' own limit),
        which a machine with other work may take: then a user loads the page once more, and so does this.
        """
        for attempt in range(3):
            self.page.reload()
            self.wait_until_idle()
            try:
                self.wait_for_table(20_000)
            except TookTooLong:
                if attempt == 2:
                    raise
            else:
                return

    def wait_for_charts(self, count: int = 3) -> None:
        self.page.wait_for_function(
            "count => document.querySelectorAll('.aq-chart[data-drawn]').length >= count", arg=count
        )

    def row(self, layer: int) -> Locator:
        """The row of a layer."""
        return self.page.locator(f'.aq-body .aq-row[data-row="{layer}"]:not([hidden])')

    def choose(self, layer: int, *modifiers: Any) -> None:
        """Click a layer."""
        self.row(layer).locator('[data-key="role"]').click(modifiers=list(modifiers))

    def bits(self) -> dict[str, str]:
        """The bits on screen, by name of layer."""
        return dict(
            self.page.locator(".aq-body .aq-row:not([hidden])").evaluate_all(
                """rows => rows.map((row) => [row.querySelector('[data-key="name"]').title,
                    row.querySelector('[data-key="bits"] b').textContent])"""
            )
        )

    def total(self, key: str) -> str:
        """One of the totals on screen."""
        return self.page.locator(f'[data-total="{key}"] b').inner_text()

    def settle(self) -> None:
        """Wait until the kernel has answered all edits."""
        expect(self.table).to_have_attribute("data-pending", "0", timeout=PATIENCE)

    def agree(self) -> None:
        """Assert that the page shows the kernel's plan."""
        self.settle()
        plan = json.loads(
            self.ask("__import__('json').dumps({n: o.bits for n, o in s.plan.choices.items()})").strip("'")
        )
        shown = self.bits()
        assert shown
        assert shown == {name: str(plan[name]) for name in shown}
        assert self.total("nbytes") == f"{int(self.ask('s.totals.nbytes')) / 1e6:.3f} MB"

    def told(self, role: str) -> Locator:
        """The panel's message: an ``"alert"`` or a ``"status"``."""
        return self.page.locator(f'.aq-strip[role="{role}"]')

    def button(self, name: str) -> Locator:
        """A button of the toolbar."""
        return self.page.locator(".aq-toolbar").get_by_role("button", name=name)

    def solve_for(self, size: str) -> None:
        """Write a size into the toolbar, and Enter."""
        field = self.page.get_by_label("size to solve for")
        field.fill(size)
        field.press("Enter")

    def close(self) -> None:
        """Leave the page, and end its kernel."""
        self.page.evaluate(
            f"async () => {{ {CURRENT} await soon(panel?.sessionContext?.shutdown(), 15).catch(() => null) }}",
        )
        self.context.close()
