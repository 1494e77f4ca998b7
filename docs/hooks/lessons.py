"""The pages ``lessons/NAME.md``: the notebooks with the outputs that are stored in them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and its pictures."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text, pictures = page(path)
        files.append(File.generated(config, f"lessons/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"lessons/{name}", content=content))
    return files


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook, and the files of its pictures by name."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(_fenced(source, "python"))
        for text, picture in _outputs(cell["outputs"]):
            if picture:
                name = f"{path.stem}-{len(pictures)}.png"
                pictures[name] = picture
                text = f"![Output of the cell above]({name})"
            parts.append(text)
    title, *rest = parts
    note = f"The notebook [`{path.name}`](../../notebooks/{path.name}) with its stored outputs."
    heading, _, text = title.partition("\n")
    return "\n\n".join([heading, f"*{note}*", text, *rest]) + "\n", pictures


def _outputs(outputs: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Markdown, or a picture, of each output."""
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            yield "", base64.b64decode("".join(data["image/png"]))
        elif "text/html" in data:
            html = re.sub(r"<style>.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
            html = re.sub(r"\s*\n\s*", " ", html)
            yield f"<div>{html}</div>", b""
        else:
            yield _fenced("".join(output.get("text") or data["text/plain"]), "text"), b""


def _fenced(text: str, language: str) -> str:
    return f"````{language}\n{text.rstrip()}\n````"
