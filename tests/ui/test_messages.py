"""Each message that a view and its session send has the shape that is stated for both sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from workbench.session import Session
from workbench.ui import Panel
from workbench.ui.messages import FROM_BROWSER, HEADER, TO_BROWSER


@pytest.fixture
def panel(opened: Callable[..., Session], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Panel]:
    monkeypatch.setattr(Panel, "draw", lambda self: None)
    panel = Panel(opened(), folder=tmp_path)
    yield panel
    panel.close()


def test_what_is_sent_is_what_is_stated(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(panel, "send", lambda content, buffers=None: sent.append(content))
    HEADER.validate_python(panel.state()["header"])
    requests: list[dict[str, Any]] = [
        {"type": "hello", "version": 0},
        {"type": "hello"},
        {"type": "edit", "action": "bits", "rows": [3], "bits": 7},
        {"type": "edit", "action": "bits", "rows": [3], "bits": 4, "scheme": "affine", "group_size": 32},
        {"type": "edit", "action": "bits", "rows": [3]},
        {"type": "edit", "action": "undo"},
        {"type": "options", "row": 3},
        {"type": "add_column", "title": "cost", "expression": "8 * bytes / weights"},
        {"type": "add_column", "title": "cost", "expression": "("},
        {"type": "edit", "action": "lock", "rows": [0]},
        {"type": "remove_column", "title": "cost"},
        {"type": "do", "act": "solve", "size": "2 MB"},
        {"type": "do", "act": "solve", "size": "2 MB", "edits": "replace"},
        {"type": "do", "act": "save", "path": "plan.yaml"},
        {"type": "do", "act": "save", "path": "plan.yaml"},
        {"type": "do", "act": "load", "path": "gone.yaml"},
        {"type": "predict", "folder": "out"},
        {"type": "predict", "folder": ""},
        {"type": "do", "act": "export", "folder": "out"},
    ]
    for turn, request in enumerate(requests, start=1):
        asked = {**request, "id": f"v-{turn}", "view": "v", "turn": turn}
        FROM_BROWSER.validate_python(asked)
        panel._handle_custom_msg(asked, [])
    panel._handle_custom_msg(asked, [])  # asked again: it is only said to be here
    end = time.monotonic() + 60
    while panel.actions.exported is None or panel.jobs.shown is not None:
        assert time.monotonic() < end
        time.sleep(0.02)
    for request in (
        {"type": "filter", "text": "=bits < 4"},
        {"type": "filter", "text": "=("},
        {"type": "dismiss"},
    ):
        FROM_BROWSER.validate_python(request)
        panel._handle_custom_msg(request, [])
    panel.focus_layer(3)
    panel.show_error("An error.")
    for message in sent:
        TO_BROWSER.validate_python(message)
    HEADER.validate_python(panel.state()["header"])
    kinds = {message["type"] for message in sent}
    assert kinds == {
        "plan", "here", "options", "filter", "columns", "focus", "error", "message_bar", "job", "exported", "predicted",
    }  # fmt: skip
    assert {"question", "note", "error"} <= {key for message in sent for key in message}


def test_what_is_not_stated_is_no_message() -> None:
    for message in (
        {"type": "edit", "id": "a", "action": "explode"},
        {"type": "edit", "action": "undo"},
        {"type": "dismiss", "more": 1},
        {"type": "do", "id": "a", "act": "format_disk"},
    ):
        with pytest.raises(ValidationError):
            FROM_BROWSER.validate_python(message)
