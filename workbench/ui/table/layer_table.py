"""`LayerTable`: the layers of a session as a table to look at and to edit, in one widget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import anywidget
import numpy as np
import traitlets

from workbench.errors import ArgumentError, ArrowQuantError, UsageError
from workbench.expressions.evaluation import mask
from workbench.expressions.parsing import is_condition
from workbench.session import Change, Session, Snapshot
from workbench.session.commands import Command, edit_of
from workbench.session.tables.columns import HEADINGS
from workbench.ui.answers import Question, note_on
from workbench.ui.cells import views
from workbench.ui.cells.static_copy import StaticCopy
from workbench.ui.module import bundle
from workbench.ui.table.extra_columns import ExtraColumn, added, evaluated
from workbench.ui.table.inbox import Inbox
from workbench.ui.table.packing import pack
from workbench.ui.table.rows import Arrays, Columns, changed


def _to_state(_: object, table: LayerTable) -> dict[str, Any]:
    return table.state()


class LayerTable(anywidget.AnyWidget):  # type: ignore[misc]
    """The layers of a session: look, filter, sort, choose, and give them bits.

    The browser gets all it needs to show edits and their totals at once, and reports them to the session; what the
    session then says takes their place. Right on the kernel's main thread and on others.

    Parameters
    ----------
    session : Session
        What is shown. Several tables of one session stay in step.
    **traits
        `min_cosine`, `height`, `filter`, `sort`, `selected`, `current`, `widths`, `column_order`, `hidden_columns`.

    Notes
    -----
    `workbench.ui.messages` states the messages both ways. An edit is answered by one `PlanChanged`, with the arrays of
    `Columns.present` for the layers that changed.
    """

    _esm = bundle("table.js")
    _css = bundle("table.css")

    data = traitlets.Any(None).tag(sync=True, to_json=_to_state)
    """All that the browser needs, packed whenever a page asks for it, so that a reload finds the present plan."""
    selected = traitlets.List(traitlets.Int()).tag(sync=True, echo_update=False)
    """The chosen layers, by index, rising; both ways."""
    current = traitlets.Int(-1).tag(sync=True, echo_update=False)
    """The layer under the cursor, by index; −1 for none; both ways."""
    filter = traitlets.Unicode().tag(sync=True, echo_update=False)
    """Words to find in name and role, or a condition over the columns, see `Session.where`; both ways.

    A condition begins with ``=``, or has a comparison, a glob or ``role:``."""
    sort = traitlets.Unicode().tag(sync=True, echo_update=False)
    """Key of the column to sort by, after ``-`` if falling, such as ``"-damage"``; empty for the checkpoint's order."""
    widths = traitlets.Dict().tag(sync=True, echo_update=False)
    """Pixels of columns that were resized, by key."""
    column_order = traitlets.List(traitlets.Unicode()).tag(sync=True, echo_update=False)
    """Keys of the columns from left to right; empty for the usual order."""
    hidden_columns = traitlets.List(traitlets.Unicode()).tag(sync=True, echo_update=False)
    """Keys of the columns that are not shown."""
    min_cosine = traitlets.Float(0.95, min=0, max=1).tag(sync=True)
    """The totals count the layers whose cosine is below this."""
    height = traitlets.Int(440, min=100).tag(sync=True)
    """Pixels of the rows and their header, at most."""

    is_kept = True
    """Whether a copy of the plan is displayed beside it, which the notebook keeps."""
    is_closed = False
    """Whether it was closed."""

    def __init__(self, session: Session, **traits: Any) -> None:
        self.session = session
        self._guard = threading.RLock()
        self._columns = Columns(session.snapshot)
        self._extra: tuple[ExtraColumn, ...] = ()
        self._sent = session.snapshot
        self._editing = threading.local()
        self._inbox = Inbox(self._respond, self._respond_again)
        # Before the comm opens: what changes from now on is sent after the state that it opens with.
        self._unobserve = session.observe(self._on_change)
        identity = uuid4().hex
        self.static_copy = StaticCopy(
            session, identity, self._opening, lambda error: self.show_error(str(error))
        )
        # Known before the comm opens, for what it opens with names it.
        super().__init__(model_id=identity, **traits)
        self.on_msg(self._on_message)
        self.observe(self._on_filter, "filter")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        views.note(self)
        return super()._repr_mimebundle_(**options)

    def _ipython_display_(self) -> None:
        """Display the widget, and in another output the copy of the plan that a notebook keeps."""
        from IPython.display import display

        bundle, metadata = self._repr_mimebundle_()
        if self.is_kept:  # where the widget does not run, the copy below it says all
            bundle |= {"text/html": "", "text/plain": ""}
        display(bundle, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
        if self.is_kept:
            self.static_copy.show()

    # ---- for the rest of the panel ----------------------------------------------------------------------------

    @property
    def names(self) -> Sequence[str]:
        """Names of the layers, in the order of their indices."""
        return tuple(self._columns.names)

    @property
    def selection(self) -> tuple[str, ...]:
        """Names of the chosen layers."""
        return tuple(self._columns.names[row] for row in self.selected)

    @property
    def extra_columns(self) -> tuple[ExtraColumn, ...]:
        """The columns that were added."""
        return self._extra

    def select(self, layers: Sequence[str | int]) -> None:
        """Choose layers, by name or index; none if empty."""
        self.selected = sorted({self._index(layer) for layer in layers})

    def focus_layer(self, layer: str | int) -> None:
        """Put the cursor on a layer, by name or index, and bring it into sight."""
        row = self._index(layer)
        self.current = row
        self.send({"type": "focus", "row": row})

    def add_column(self, title: str, expression: str) -> None:
        """Add a column by an expression, or another one under the same title.

        Raises
        ------
        ArgumentError
            If it is no expression over the layers' columns, or there are too many.
        """
        self._change_columns(
            added(self._extra, ExtraColumn(title, expression), self.session.snapshot.columns)
        )

    def remove_column(self, title: str) -> None:
        """Remove a column that was added."""
        self._change_columns(tuple(column for column in self._extra if column.title != title))

    def show_error(self, text: str) -> None:
        """Show a message in the table's strip until it is dismissed."""
        self.send({"type": "error", "error": text})

    def open(self) -> None:
        """Open the comm to the browser.

        JupyterLab addresses a message to the shell that shall receive it: a subshell, which busy cells leave free.
        ipykernel 7.4.0 takes it to the shell that last sent on the comm instead, a busy one or one that a page left
        behind (`Comm._reply_subshell_for`); this comm's messages go where they are addressed.
        """
        super().open()
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda data, addressed: addressed

    def keep(self) -> None:
        """Have the copy that the notebook keeps follow the session now."""
        self.static_copy.update()

    def close(self) -> None:
        """Stop following the session; the table in the page goes."""
        self.is_closed = True
        self._unobserve()
        self.static_copy.end()
        super().close()

    # ---- to the browser ---------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The value of `data`: a header of plain values, and all arrays in one buffer."""
        with self._guard:
            now, columns = self._matching()
            everything = np.arange(len(columns.names))
            header, arrays = self._at(now, 0)
            layout, blob = pack({**columns.fixed, **columns.present(now, everything), **arrays})
            header |= {
                "names": columns.names,
                "shapes": columns.shapes,
                "roles": columns.roles,
                "schemes": columns.schemes,
                "source_bytes": self.session.checkpoint.nbytes,
                "model_id": self._model_id,
                "layout": layout,
            }
        return {"header": header, "blob": blob}

    def _at(self, now: Snapshot, base: int) -> tuple[dict[str, Any], Arrays]:
        """What a message says besides the rows: version, undo, extra columns, and more since version `base`."""
        header: dict[str, Any] = {
            "version": now.version,
            "can_undo": now.can_undo,
            "can_redo": now.can_redo,
            "columns": [],
            **self._beside(now, base),
        }
        arrays: Arrays = {}
        if self._extra:
            for place, (column, values) in enumerate(evaluated(self._extra, now.columns)):
                header["columns"].append(column)
                arrays[f"column_{place}"] = values
        return header, arrays

    def _beside(self, now: Snapshot, base: int) -> dict[str, Any]:
        """Further fields of each change that a view around the table receives."""
        return {}

    def _send_state(self, *, whole: bool = False, even_if_known: bool = True, **said: Any) -> None:
        """Send the present plan: what changed since it was sent last, or all of it."""
        with self._guard:
            now, columns = self._matching()
            if columns is not self._columns:  # another target came in another thread, which will say so
                self._renew()
                now, columns = self._sent, self._columns
            before = self._sent
            if now.version <= before.version and not even_if_known:
                return
            layers = np.arange(len(columns.names)) if whole else changed(before, now)
            base = 0 if whole else before.version
            header, arrays = self._at(now, base)
            layout, blob = pack({**columns.present(now, layers), **arrays})
            self._sent = now
            self.send({"type": "plan", "base": base, "layout": layout, **header, **said}, [blob])

    @property
    def _opening(self) -> str:
        """The line of Python that opens the session."""
        return f"s = {self.session.opening}"

    def _on_change(self, _: Change) -> None:
        self.static_copy.ask()
        if self.session.snapshot.options is not self._columns.options:
            self._renew()
        # The answer to one's own edit has the change, in one message.
        elif not getattr(self._editing, "now", False):
            self._send_state(even_if_known=False)

    def _renew(self) -> None:
        """Another target has other options, and what was learnt other costs: the browser gets everything anew."""
        with self._guard:
            before = self._columns.names
            self._sent, self._columns = self._matching()
            if self._columns.names != before:  # an index means another layer now
                self.selected, self.current = [], -1
            self.send_state("data")

    def _matching(self) -> tuple[Snapshot, Columns]:
        """The session's present, and the columns of its options: new ones where another target has come meanwhile."""
        now = self.session.snapshot
        return now, self._columns if now.options is self._columns.options else Columns(now)

    # ---- from the browser -------------------------------------------------------------------------------------

    def _on_message(self, _: object, message: Any, __: object) -> None:
        self._inbox.put(message if isinstance(message, dict) else {"type": message})

    def _respond(self, message: Mapping[str, Any]) -> None:
        ack = message.get("id")
        try:
            self._answer(message, ack)
        except (ArrowQuantError, OSError) as error:
            self._fail(str(error), ack)
        except Exception as error:  # noqa: BLE001 - nobody would see it: a callback has no cell
            self._fail(f"This is a bug in the table: {error!r}. The plan is as it was before the edit.", ack)

    def _respond_again(self, message: Mapping[str, Any]) -> None:
        self.send({"type": "here", "ack": message.get("id"), "version": self.session.version})

    def _answer(self, message: Any, ack: str | None) -> None:
        match message:
            case {"type": "edit"}:
                command = edit_of(message, self._columns.names)
                self._make(lambda: self._do(command), ack)
            case {"type": "hello"}:
                self.static_copy.ask(anew=True)  # a page that comes back may keep an older copy
                if message.get("version", self._sent.version) == self.session.version:
                    self.send({"type": "here", "ack": ack})
                else:
                    self._send_state(ack=ack, whole=True)
            case {"type": "options", "row": int(row)} if 0 <= row < len(self._columns.names):
                now, columns = self._matching()
                self.send({"type": "options", "ack": ack, "row": row, "options": columns.variants(now, row)})
            case {"type": "filter", "text": str(text)}:
                self._send_mask(text)
            case {"type": "add_column", "title": str(title), "expression": str(expression)}:
                try:
                    new = added(self._extra, ExtraColumn(title, expression), self.session.snapshot.columns)
                except UsageError as error:
                    self.send({"type": "columns", "ack": ack, "error": str(error)})
                else:
                    self._change_columns(new, ack)
            case {"type": "remove_column", "title": str(title)}:
                self._change_columns(tuple(column for column in self._extra if column.title != title), ack)
            case _:
                raise ArgumentError(f"The table understands no message {message!r:.200}.", key="message")

    def _make(self, edit: Callable[[], str | Question], ack: str | None) -> None:
        """Make an edit that the browser asked for, and answer by one message."""
        self._editing.now = True
        try:
            answer = edit()
        finally:
            self._editing.now = False
        if isinstance(answer, Question):
            self._send_state(ack=ack, question=asdict(answer))
        else:
            self._send_state(ack=ack, note=answer)

    def _do(self, command: Command) -> str:
        before = self.session.snapshot
        return note_on(command, before, self.session.do(command))

    def _fail(self, error: str, ack: str | None) -> None:
        self._send_state(ack=ack, error=error)

    def _on_filter(self, change: Any) -> None:
        if is_condition(change["new"]):
            self._send_mask(change["new"])

    def _send_mask(self, text: str) -> None:
        try:
            known = self.session.snapshot.columns
            own = {header["title"]: values for header, values in evaluated(self._extra, known)}
            found = mask(text.strip().removeprefix("="), {**own, **known}, HEADINGS)
        except UsageError as error:
            self.send({"type": "filter", "text": text, "error": str(error)})
        else:
            self.send({"type": "filter", "text": text}, [found.astype("u1").tobytes()])

    def _change_columns(self, columns: tuple[ExtraColumn, ...], ack: str | None = None) -> None:
        with self._guard:
            self._extra = columns
            now = self.session.snapshot
            header, arrays = self._at(now, now.version)
            layout, blob = pack(arrays)
            self.send({"type": "columns", "ack": ack, "layout": layout, "columns": header["columns"]}, [blob])

    def _index(self, layer: str | int) -> int:
        if isinstance(layer, int) and 0 <= layer < len(self._columns.names):
            return layer
        if layer in self._columns.names:
            return self._columns.names.index(str(layer))
        raise ArgumentError(f"There is no layer {layer!r} in the table.", key="layer", value=layer)
