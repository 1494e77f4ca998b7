"""plotly.js for the page, sent once for all charts of a kernel."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

import anywidget
import traitlets

from workbench.ui.module import bundle


class PlotlyLibrary(anywidget.AnyWidget):  # type: ignore[misc]
    """Carries plotly.js to the browser, compressed to 1.7 MB; it has nothing to show."""

    _esm = bundle("plotly_library.js")

    source = traitlets.Bytes().tag(sync=True)
    """plotly.min.js of the installed plotly, gzip."""

    def __init__(self) -> None:
        super().__init__(source=_compressed())


def library() -> PlotlyLibrary:
    """The library of this kernel, made on first use, and again where it was closed."""
    global _library
    if _library is None or _library.comm is None:
        _library = PlotlyLibrary()
    return _library


_library: PlotlyLibrary | None = None


@cache
def _compressed() -> bytes:
    return gzip.compress((files("plotly") / "package_data" / "plotly.min.js").read_bytes(), 1, mtime=0)
