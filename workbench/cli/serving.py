"""``workbench lab`` and ``app``: the panel in JupyterLab, or alone in a browser."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.arguments import TARGETS, Component, Effort, Names
from workbench.errors import ConfigurationError

QUICKSTART = "00_quickstart.ipynb"
"""The notebook that `lab` copies."""

DEMO = "zoo:digits-dit"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(lab)
    app.command("app")(serve)


Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on; by default any that is free.", metavar="N")
]


def lab(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="A checkpoint, or zoo:NAME.")] = DEMO,
    folder: Annotated[Path, typer.Option(help="Where the notebook goes.", metavar="FOLDER")] = Path(),
    port: Port = None,
    browser: Browser = True,
) -> None:
    """Start JupyterLab on a fresh copy of the quickstart notebook for a model.

    Jupyter's token stays on; its address, printed at the start, holds it.

    Example: workbench lab zoo:digits-dit
    """
    notebook = copy_quickstart(model, folder)
    print(f"{notebook}: the quickstart for {model}")
    command = [sys.executable, "-m", "jupyterlab", str(notebook), "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}"] if port else []
    command += [] if browser else ["--no-browser"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    raise typer.Exit(_run(command))


def serve(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="A checkpoint, or zoo:NAME.")] = DEMO,
    folder: Annotated[
        Path, typer.Option(help="Where plans and exports go, and nowhere else.", metavar="FOLDER")
    ] = Path("exports"),
    target: Annotated[str, typer.Option(help=f"Export format: {TARGETS}.", metavar="NAME")] = "parquet",
    component: Component = None,
    calibration: Annotated[
        str | None, typer.Option(help="Calibration records, or zoo:NAME.", metavar="FILE")
    ] = None,
    effort: Effort = None,
    names: Names = None,
    port: Port = None,
    browser: Browser = True,
) -> None:
    """Serve the panel alone, by Voila, on 127.0.0.1 and with a token.

    Needs the extra app: pip install 'arrowquant-workbench[app]'

    Example: workbench app zoo:digits-dit --folder exports
    """
    if find_spec("voila") is None:
        raise ConfigurationError(
            "Voila, which serves the panel, is not installed. Install it: pip install 'arrowquant-workbench[app]', or "
            "use workbench lab.",
            key="voila",
        )
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "target": target, "component": component, "calibration": calibration, "effort": effort, "names": names,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="workbench-app-") as temporary:
        notebook = Path(temporary) / "workbench.ipynb"
        notebook.write_text(json.dumps(_app_notebook(_absolute(model), folder, arguments)), encoding="utf-8")
        command = [sys.executable, "-m", "voila", str(notebook), "--Voila.ip=127.0.0.1", "--token"]
        command += [f"--port={port or _free_port()}", "--strip_sources=True"]
        command += [] if browser else ["--no-browser"]
        raise typer.Exit(_run(command))


def copy_quickstart(model: str, folder: Path) -> Path:
    """A fresh copy of the quickstart notebook that opens a model; it replaces no other file.

    Parameters
    ----------
    model : str
        A checkpoint, or ``zoo:NAME``.
    folder : Path
        Where it goes.

    Returns
    -------
    Path
        The notebook.
    """
    document = json.loads(_quickstart().read_text(encoding="utf-8"))
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            cell["source"] = source.replace(json.dumps(DEMO), json.dumps(_absolute(model)))
            cell["outputs"], cell["execution_count"] = [], None
    stem = re.sub(r"[^\w.-]+", "-", Path(model.removeprefix("zoo:")).name) or "model"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        path = folder.absolute() / f"workbench-{stem}{'' if number == 1 else f'-{number}'}.ipynb"
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(document, file, ensure_ascii=False, indent=1)
        except FileExistsError:
            continue
        return path
    raise ConfigurationError(f"{folder} has 999 notebooks for {model}; choose another folder.", key="folder")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _quickstart() -> Path:
    """The notebook: beside the package where it is installed, in the repository otherwise."""
    package = Path(__file__).parents[1]
    installed = package / "quickstart" / QUICKSTART
    return installed if installed.is_file() else package.resolve().parent / "notebooks" / QUICKSTART


def _absolute(model: str) -> str:
    return model if model.startswith("zoo:") else str(Path(model).absolute())


def _app_notebook(model: str, folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    given = "".join(f", {key}={value!r}" for key, value in arguments.items() if value is not None)
    source = (
        "import workbench as wb\n"
        "from workbench.ui import Panel\n"
        f"Panel(wb.open({model!r}{given}), folder={str(folder)!r}, confined=True)"
    )
    cell: dict[str, Any] = {
        "cell_type": "code", "id": "panel", "metadata": {}, "source": source, "outputs": [], "execution_count": None,
    }  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _run(command: list[str]) -> int:
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:  # the server heard it too, and has ended
        return 0
