"""The browser's side of the panel: one ES module out of several files, as a widget must carry it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FRONTEND = Path(__file__).parent / "frontend"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
_COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)


@cache
def joined(name: str) -> str:
    """A module of the front end and what it imports, as one module.

    Parameters
    ----------
    name : str
        Its file, such as ``"table.js"``.

    Returns
    -------
    str
        The files, each after those it imports, without imports, named exports and lines of comment: names at the top of
        the files must differ.
    """
    found: dict[str, str] = {}

    def visit(file: str) -> None:
        if file in found:
            return
        text = (FRONTEND / file).read_text(encoding="utf-8")
        for imported in _IMPORT.findall(text):
            visit(imported)
        found[file] = _COMMENT.sub("", _EXPORT.sub("", _IMPORT.sub("", text)))

    visit(name)
    return "\n".join(found.values())


@cache
def style(name: str) -> str:
    """A style sheet of the front end."""
    return (FRONTEND / name).read_text(encoding="utf-8")
