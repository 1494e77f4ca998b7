"""The views that each cell shows, so that running a cell again closes what it showed before."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Protocol


class View(Protocol):
    """A view that is displayed."""

    def keep(self) -> None:
        """Have what the notebook keeps of it follow its session."""

    def close(self) -> None:
        """Take it from the page."""


class CellViews:
    """The views that the cells of a notebook show; what no cell shows any more is closed."""

    def __init__(self) -> None:
        self._now: list[View] = []
        self._by_cell: dict[str, list[View]] = {}
        self._all: weakref.WeakSet[View] = weakref.WeakSet()

    def note(self, view: View) -> None:
        """A view is displayed by the cell that runs."""
        if view not in self._now:
            self._now.append(view)

    def end_cell(self, cell: str | None) -> None:
        """A cell has run: what it showed before, and nobody shows now, is closed.

        Parameters
        ----------
        cell : str, optional
            Its identity, over all its runs; without one nothing is closed.
        """
        shown, self._now = self._now, []
        # What runs a notebook without a page stores what is there when a cell ends.
        self._all.update(shown)
        for view in self._all:
            view.keep()
        if cell is None:
            return
        before = self._by_cell.pop(cell, [])
        if shown:
            self._by_cell[cell] = shown
        still = [view for views in self._by_cell.values() for view in views]
        for view in before:
            if view not in still:
                view.close()


_views: CellViews | None = None


def note(view: View) -> None:
    """A view is displayed; outside a notebook's kernel nothing comes of it."""
    global _views
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return
    if _views is None:
        _views = CellViews()
        shell.events.register("post_run_cell", _end_cell)
    _views.note(view)


def _end_cell(result: Any) -> None:
    if _views is not None:
        _views.end_cell(getattr(result.info, "cell_id", None))
