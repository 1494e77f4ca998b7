"""Run notebooks and store their outputs: ``python notebooks/store_outputs.py [NAME.ipynb …]``, all without a name.

Figures are stored as pictures, which needs Kaleido and a Chromium (``pip install kaleido``); of the panel the table is
stored that readers without a kernel see, unless the cell is tagged ``not-stored``. Pictures may differ from machine to
machine; what a notebook prints may not.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
TEMPORARY = re.compile(re.escape(tempfile.gettempdir()) + r"/\w+/")
"""Where a notebook's temporary folder is on this machine, which is not stored."""


def store(path: Path) -> None:
    """Execute a notebook from top to bottom and replace its stored outputs."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}, store_widget_state=False
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "not-stored" in cell.metadata.get("tags", ()):
            cell.outputs = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(WIDGET, None)
            for kind in data.keys() & {"text/html", "text/plain"}:
                data[kind] = TEMPORARY.sub("", data[kind])
            if "image/png" in data:
                data.pop("text/html", None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if "data" not in one or any(one.data.values())]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)
    print(path.name)


if __name__ == "__main__":
    os.environ["PLOTLY_RENDERER"] = "png"
    chosen = [Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))
    for one in chosen:
        store(one)
