"""Sessions of a small checkpoint, and tables whose messages are kept instead of sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.session import Session
from workbench.ui import LayerTable
from workbench.ui.table.packing import unpack

Message = tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Session]]:
    """Open the zoo's model; with a calibration if asked."""
    cache = tmp_path_factory.mktemp("cache")
    sessions = []

    def open_it(**settings: Any) -> Session:
        session = wb.open("zoo:digits-dit", target="mlx", group_size=64, cache=cache, **settings)
        sessions.append(session)
        return session

    yield open_it
    for session in sessions:
        session.close()


@pytest.fixture
def session(opened: Callable[..., Session]) -> Session:
    return opened()


class Wire:
    """A table's comm: what it sends is kept, and what a browser would make of it."""

    def __init__(self, table: LayerTable, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table = table
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        self.state = table.get_state()["data"]
        monkeypatch.setattr(
            table, "send", lambda content, buffers=None: self.sent.append((content, list(buffers or [])))
        )
        self.edits = 0
        header = self.state["header"]
        arrays = unpack(header["layout"], self.state["blob"])
        self.version = header["version"]
        self.header = header
        self.fixed = arrays
        self.plan = {
            key: arrays[key].copy() for key in ("bits", "scheme", "group", "nbytes", "damage", "locked")
        }
        self.totals = arrays["totals"]
        self.heard = 0

    def ask(self, **message: Any) -> list[Message]:
        """Send a message as a browser does; returns the answers."""
        before = len(self.sent)
        self.table._handle_custom_msg(message, [])
        return self.read(before)

    def edit(self, action: str, rows: list[int] | None = None, **more: Any) -> Message:
        """An edit, and its one answer."""
        self.edits += 1
        asked = {"action": action, **({} if rows is None else {"rows": rows}), **more}
        (answer,) = self.ask(type="edit", id=f"e{self.edits}", **asked)
        assert answer[0]["ack"] == f"e{self.edits}"
        return answer

    def read(self, start: int = 0) -> list[Message]:
        """What was sent, unpacked."""
        return [
            (content, unpack(content["layout"], buffers[0]) if "layout" in content else {})
            for content, buffers in self.sent[start:]
        ]

    def follow(self) -> None:
        """Make of the messages what the browser's plan does."""
        for content, arrays in self.read(self.heard):
            if content["type"] == "plan":
                assert content["base"] <= self.version, "a message is missing"
                for key, values in self.plan.items():
                    values[arrays["rows"]] = arrays[key]
                self.version = content["version"]
                self.totals = arrays["totals"]
        self.heard = len(self.sent)

    def options(self) -> list[wb.Option]:
        """The plan that the browser shows."""
        schemes = self.header["schemes"]
        keys = zip(*(self.plan[key].tolist() for key in ("bits", "scheme", "group", "nbytes")), strict=True)
        return [wb.Option(bits, schemes[scheme], group, int(nbytes)) for bits, scheme, group, nbytes in keys]

    def agrees_with(self, session: Session) -> None:
        """Assert that the browser shows the session's plan, locks and totals."""
        self.follow()
        assert self.options() == list(session.plan.choices.values())
        names = self.header["names"]
        assert {names[row] for row in np.flatnonzero(self.plan["locked"])} == set(session.locked)
        assert self.version == session.version
        totals = session.totals
        expected = [totals.nbytes, totals.ratio, totals.bpw, totals.damage, totals.gap, totals.temperature]
        assert self.totals.tolist() == expected


@pytest.fixture
def wire(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    table = LayerTable(session)
    yield Wire(table, monkeypatch)
    table.close()


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> Callable[[LayerTable], Wire]:
    return lambda table: Wire(table, monkeypatch)


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What is displayed, and what takes its place later: the display id of each, if it has one, and what it shows."""
    found: list[tuple[Any, Any]] = []

    def note(bundle: Any, *, display_id: Any = None, **_: Any) -> None:
        found.append((display_id, bundle))

    monkeypatch.setattr("IPython.display.display", note)
    monkeypatch.setattr("IPython.display.update_display", note)
    return found
