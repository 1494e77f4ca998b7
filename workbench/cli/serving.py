"""``workbench lab`` and ``app``: the panel in JupyterLab, or alone in a browser.

Everything that can be refused is refused before a server starts or a file is made.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.arguments import Calibration, Component, Effort, Keep, Names, Target
from workbench.errors import ArgumentError, ValidationError

if TYPE_CHECKING:
    from workbench.session.opening import Prepared

DEMO = "zoo:digits-dit"

TEMPLATE = "workbench"
"""Of the page that the app is served in."""

PAGE = """{% extends 'lab/index.html.j2' %}
{% block notebook_css %}
{{ super() }}
{% if resources.theme == 'light' %}
{{ resources.include_css("static/theme-dark.css") | string
   | replace("<link ", '<link media="(prefers-color-scheme: dark)" ') | safe }}
{% endif %}
{% endblock notebook_css %}
"""
"""Voila's own page, on which the dark colours come over the light ones where the browser prefers them."""


class Theme(StrEnum):
    """Colours of the app's page."""

    auto = "auto"
    light = "light"
    dark = "dark"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(lab)
    app.command("app")(serve)


Model = Annotated[
    str,
    typer.Argument(metavar="[MODEL]", help="A safetensors or GGUF file, an index, a folder, or zoo:NAME."),
]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")]
Port = Annotated[
    int | None,
    typer.Option(help="Port to listen on; by default any that is free.", metavar="N", min=1, max=65535),
]


def lab(
    model: Model = DEMO,
    folder: Annotated[
        Path, typer.Option(help="Where the notebook and its exports go.", metavar="FOLDER")
    ] = Path(),
    target: Target = None,
    component: Component = None,
    calibration: Calibration = None,
    keep: Keep = None,
    effort: Effort = None,
    names: Names = None,
    port: Port = None,
    browser: Browser = True,
) -> None:
    """Start JupyterLab on a new notebook made for a model: measure it, choose bits, export, verify, load.

    The notebook runs from top to bottom as it is. Jupyter's token stays on; its address, printed at the start,
    holds it.

    Example: workbench lab models/flux --target gguf
    """
    from workbench.cli import lab_notebook

    _require("jupyterlab", "JupyterLab is not installed. Install it: pip install jupyterlab")
    if port is not None:
        _require_free(port)
    with _checked(model, target, component, calibration, keep, effort, names) as (location, ready, given):
        document = lab_notebook.notebook_for(location, ready, given)
        stem = f"workbench-{lab_notebook.name_of(ready.checkpoint, component)}"
    notebook = lab_notebook.write_new(document, _made(folder), stem)
    print(f"{notebook}: a notebook for {model}")
    command = [sys.executable, "-m", "jupyterlab", str(notebook), "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"] if port else []
    command += [] if browser else ["--no-browser"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    raise typer.Exit(_run(command))


def serve(
    model: Model = DEMO,
    folder: Annotated[
        Path, typer.Option(help="Where plans and exports go, and nowhere else.", metavar="FOLDER")
    ] = Path("exports"),
    target: Target = None,
    component: Component = None,
    calibration: Calibration = None,
    keep: Keep = None,
    effort: Effort = None,
    names: Names = None,
    theme: Annotated[
        Theme, typer.Option(help="Colours of the page; auto: light or dark as the browser prefers.")
    ] = Theme.auto,
    port: Port = None,
    browser: Browser = True,
) -> None:
    """Serve the panel alone, by Voila, on 127.0.0.1 and with a token.

    Needs the extra app: pip install 'arrowquant-workbench[app]'

    Example: workbench app zoo:digits-dit --folder exports
    """
    from workbench.cli import lab_notebook

    _require(
        "voila",
        "Voila, which serves the panel, is not installed. Install it: pip install 'arrowquant-workbench[app]', or use "
        "workbench lab.",
    )
    if port is not None:
        _require_free(port)
    with _checked(model, target, component, calibration, keep, effort, names) as (location, _, given):
        document = lab_notebook.app_notebook(location, folder.absolute(), given)
    _made(folder)
    with tempfile.TemporaryDirectory(prefix="workbench-app-") as temporary:
        notebook = Path(temporary) / "workbench.ipynb"
        notebook.write_text(json.dumps(document), encoding="utf-8")
        command = [sys.executable, "-m", "voila", str(notebook), "--Voila.ip=127.0.0.1", "--token"]
        command += [f"--port={port or _free_port()}", "--strip_sources=True"]
        command += [] if browser else ["--no-browser"]
        paths = []
        if theme is Theme.auto:
            _write_template(Path(temporary) / "voila" / "templates" / TEMPLATE)
            command.append(f"--template={TEMPLATE}")
            paths = [temporary]
        else:
            command.append(f"--theme={theme.value}")
        raise typer.Exit(_run(command, paths))


def _write_template(folder: Path) -> None:
    """Write a template for Voila: its own page, and the dark colours where the browser prefers them."""
    folder.mkdir(parents=True)
    (folder / "conf.json").write_text(json.dumps({"base_template": "lab"}), encoding="utf-8")
    (folder / "index.html.j2").write_text(PAGE, encoding="utf-8")


@contextmanager
def _checked(
    model: str,
    target: str | None,
    component: str | None,
    calibration: str | None,
    keep: list[str] | None,
    effort: str | None,
    names: str | None,
) -> Iterator[tuple[str, Prepared, dict[str, Any]]]:
    """The model opened with what was asked for, as the notebook's first cell will open it.

    Yields
    ------
    tuple
        Where the model is, whatever the folder is that the kernel runs in; the model; and the arguments of
        `workbench.open`.
    """
    from workbench.session.opening import prepare

    asked = {
        "target": target, "component": component, "calibration": _absolute(calibration), "keep": keep or None,
        "effort": effort, "names": names,
    }  # fmt: skip
    given = {key: value for key, value in asked.items() if value is not None}
    ready = prepare(
        model, target, component=component, calibration=_absolute(calibration), effort=effort, names=names,
        keep=keep or (),
    )  # fmt: skip
    with ready.opened as opened:
        location = model if model.startswith("zoo:") else str(opened.path)
        # The notebook says what it is for, also where nobody did.
        yield location, ready, {"target": ready.target.name, **given}


def _absolute(calibration: str | None) -> str | None:
    if calibration is None or calibration.startswith("zoo:"):
        return calibration
    return str(Path(calibration).absolute())


def _require(module: str, otherwise: str) -> None:
    if find_spec(module) is None:
        raise ArgumentError(otherwise, key=module)


def _require_free(port: int) -> None:
    """Make sure that a server can listen on a port.

    Raises
    ------
    ArgumentError
        If it cannot.
    """
    with socket.socket() as listener:
        if os.name == "posix":  # as the servers do, for a port whose last connections have only just ended
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise ArgumentError(
                f"Port {port} {why}. Choose another, or leave --port out.", key="port", value=port
            ) from error


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _made(folder: Path) -> Path:
    """The folder, made if it was not there.

    Raises
    ------
    ValidationError
        If it cannot be made or written into; nothing was made then.
    """
    folder = folder.absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    why = None
    if not there.is_dir():
        why = f"{there} is a file"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = f"{there} cannot be written"
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or str(error)
    if why is not None:
        raise ValidationError(
            f"The folder {folder} cannot be used: {why}. Name another with --folder.", path=folder
        )
    return folder


def _run(command: list[str], jupyter_path: Sequence[str] = ()) -> int:
    """Run a server until it ends; Jupyter also looks for its templates in the folders of a path."""
    path = os.pathsep.join([*jupyter_path, *filter(None, [os.environ.get("JUPYTER_PATH")])])
    try:
        return subprocess.run(command, check=False, env={**os.environ, "JUPYTER_PATH": path}).returncode
    except KeyboardInterrupt:  # the server heard it too, and has ended
        return 0
