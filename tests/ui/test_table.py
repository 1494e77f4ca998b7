"""The layer table without a browser: its messages, and that they say what the session is."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.session import Session
from workbench.ui import LayerTable
from workbench.ui.table.packing import pack, unpack


def test_the_state_is_packed_when_asked_for(session: Session, wire: Any) -> None:
    wire.agrees_with(session)
    session.set_bits("*attn1*", 6)
    header = wire.table.get_state()["data"]["header"]
    assert header["version"] == session.version == 1
    arrays = unpack(header["layout"], wire.table.get_state()["data"]["blob"])
    present = session.thermodynamics
    for key, column in {
        "damage": "damage",
        "heat": "temperature_up",
        "nbytes": "nbytes",
        "bits": "bits",
    }.items():
        assert arrays[key].tolist() == present[column].to_pylist()
    np.testing.assert_array_equal(arrays["choice_entropy"], present["entropy"].to_numpy().astype("f4"))
    assert header["names"] == session.layers["name"].to_pylist()
    assert [header["roles"][role] for role in arrays["role"]] == session.layers["role"].to_pylist()
    assert header["shapes"][0] == "256×1×2×2"
    assert "importance" not in arrays, "without a calibration nothing is known of time"


def test_the_menu_that_is_shipped_is_what_edits_do(session: Session, wire: Any) -> None:
    fixed = wire.fixed
    for column, (action, bits) in enumerate([*(("bits", b) for b in range(2, 9)), ("keep", 0)]):
        everything = list(range(len(wire.header["names"])))
        wire.edit(action, everything, **({"bits": bits} if bits else {}))
        wire.follow()
        place = fixed["menu_start"][:-1] + fixed["width_place"].reshape(-1, 8)[:, column]
        for key in ("bits", "scheme", "group", "nbytes", "damage"):
            np.testing.assert_array_equal(fixed[f"menu_{key}"][place], wire.plan[key])


def test_calibrated_sessions_show_what_time_does(
    opened: Callable[..., Session], wired: Callable[[LayerTable], Any]
) -> None:
    session = opened(calibration="zoo:digits-dit")
    table = LayerTable(session)
    wire = wired(table)
    for key in ("importance", "heterogeneity"):
        expected = np.array(session.layers[key].to_pylist(), np.float64).astype("f4")
        np.testing.assert_array_equal(wire.fixed[key], expected)
    table.close()


def test_random_edits_leave_browser_session_and_export_alike(
    session: Session, wire: Any, tmp_path: Path
) -> None:
    chance = random.Random(7)
    count = len(wire.header["names"])
    for number in range(200):
        rows = chance.sample(range(count), chance.randint(1, 12))
        action = chance.choice(["bits"] * 4 + ["keep", "lock", "unlock", "undo", "undo", "redo", "python"])
        before = len(wire.sent)
        if action == "python":
            chance.choice(
                [
                    lambda: session.solve(bpw=chance.uniform(3, 6)),
                    lambda: session.set_bits("*ff*", chance.randint(2, 8)),
                    session.undo,
                ]
            )()
        elif action in ("undo", "redo"):
            wire.edit(action)
        else:
            wire.edit(action, rows, **({"bits": chance.randint(2, 8)} if action == "bits" else {}))
        assert len(wire.sent) - before <= 1, "one message an edit"
        if number % 10 == 9:
            wire.agrees_with(session)
    wire.agrees_with(session)
    session.export(tmp_path / "out").result(120)
    written = wb.load(tmp_path / "out").plan
    assert list(written.choices.values()) == wire.options()
    names = wire.header["names"]
    assert written.locks == {names[row] for row in np.flatnonzero(wire.plan["locked"])}


@pytest.mark.parametrize(
    "edit",
    [
        {"action": "bits", "rows": [0], "bits": 9},
        {"action": "bits", "rows": [0], "bits": "4"},
        {"action": "bits", "rows": [0], "bits": True},
        {"action": "bits", "rows": [10_000], "bits": 4},
        {"action": "bits", "rows": [-1], "bits": 4},
        {"action": "bits", "rows": [0.0], "bits": 4},
        {"action": "bits", "rows": "all", "bits": 4},
        {"action": "bits", "rows": [], "bits": 4},
        {"action": "close", "rows": [0]},
        {"action": "__class__", "rows": [0]},
        {},
    ],
    ids=str,
)
def test_an_edit_that_cannot_be_made_is_answered_with_the_reason(
    session: Session, wire: Any, edit: dict[str, Any]
) -> None:
    plan, version = session.plan, session.version
    ((answer, arrays),) = wire.ask(type="edit", id="x", **edit)
    assert answer["type"] == "plan"
    assert answer["ack"] == "x"
    assert len(answer["error"]) > 20
    assert arrays["rows"].size == 0
    assert (session.plan, session.version) == (plan, version)
    wire.agrees_with(session)


@pytest.mark.parametrize(
    "message", [{}, {"type": "run"}, {"type": "filter"}, {"type": "filter", "text": 3}, [], "x"]
)
def test_what_is_no_message_is_answered(wire: Any, message: Any) -> None:
    wire.table._handle_custom_msg(message, [])
    ((answer, _),) = wire.read()
    assert "understands no message" in answer["error"]


def test_a_bug_is_told_in_the_table(session: Session, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(session, "do", broken)
    ((answer, _),) = wire.ask(type="edit", id="x", action="bits", rows=[1], bits=3)
    assert "out of cheese" in answer["error"]
    assert answer["ack"] == "x"


def test_undo_with_nothing_to_undo_says_so(wire: Any) -> None:
    answer, arrays = wire.edit("undo")
    assert answer["note"] == "There is nothing to undo."
    assert arrays["rows"].size == 0
    assert wire.edit("lock", [0])[0]["can_undo"]


def test_two_tables_of_a_session_stay_in_step(
    session: Session, wire: Any, wired: Callable[[LayerTable], Any]
) -> None:
    other = LayerTable(session)
    second = wired(other)
    wire.edit("bits", [1, 2, 3], bits=7)
    second.edit("lock", [2])
    session.set_bits("*", 5)
    wire.edit("undo")
    for one in (wire, second):
        one.agrees_with(session)
        assert len(one.sent) == 4, "one message an edit, whoever makes it"
    other.close()
    wire.edit("redo")
    assert len(second.sent) == 4, "a closed table follows no more"


def test_a_page_that_comes_late_asks_for_the_rest(session: Session, wire: Any) -> None:
    ((here, _),) = wire.ask(type="hello", id="h", version=session.version)
    assert here == {"type": "here", "ack": "h"}
    session.set_bits("*", 5)
    wire.heard = len(wire.sent)  # a message got lost
    ((whole, arrays),) = wire.ask(type="hello", id="h", version=0)
    assert (whole["ack"], whole["base"]) == ("h", 0)
    assert arrays["rows"].tolist() == list(range(len(wire.header["names"])))
    wire.agrees_with(session)


def test_edits_from_many_threads(session: Session, wire: Any) -> None:
    def hammer(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(20):
            rows = chance.sample(range(33), 5)
            message = {
                "type": "edit",
                "id": f"{seed}-{number}",
                "action": "bits",
                "rows": rows,
                "bits": 2 + seed,
            }
            if seed % 2:
                wire.table._handle_custom_msg(message, [])
            else:
                session.set_bits([wire.header["names"][row] for row in rows], 2 + seed)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert session.version == 80
    versions = [content["version"] for content, _ in wire.sent]
    assert versions == sorted(versions)
    assert [content["ack"] for content, _ in wire.sent if "ack" in content].count(None) == 0
    wire.agrees_with(session)


def test_filters_are_computed_by_the_session(session: Session, wire: Any) -> None:
    session.set_bits("*attn1*", 6)
    wire.table.filter = '= bits == 6 and "to_v" in name'
    content, (buffer,) = wire.sent[-1]
    assert content == {"type": "filter", "text": wire.table.filter}
    names = wire.header["names"]
    chosen = tuple(names[row] for row in np.flatnonzero(np.frombuffer(buffer, np.uint8)))
    assert chosen == session.select("*attn1.to_v.weight")
    sent = len(wire.sent)
    wire.table.filter = "to_v"
    assert len(wire.sent) == sent, "words are looked for in the browser"


def test_filters_take_headings_patterns_and_ones_own_columns(session: Session, wire: Any) -> None:
    names = np.array(wire.header["names"])

    def chosen(text: str) -> tuple[str, ...]:
        wire.table.filter = text
        content, (buffer,) = wire.sent[-1]
        assert content == {"type": "filter", "text": text}
        return tuple(names[np.frombuffer(buffer, np.uint8) > 0].tolist())

    wire.table.add_column("cost", "8 * bytes / weights")
    session.set_bits("role:attn.q", 3)
    assert chosen("bits < 4") == chosen("role:attention.q") == session.select("role:attn.q")
    assert chosen("*to_v* and NSR > 0") == session.select("*to_v*")
    assert chosen("not *attn*") == tuple(name for name in names.tolist() if "attn" not in name)
    assert chosen("Cost < 4.1") == session.where("bpw < 4.1")
    wire.table.filter = "role:atention.q"
    content, _ = wire.sent[-1]
    assert "Did you mean 'role:attention.q'?" in content["error"]


@pytest.mark.parametrize(
    "text",
    ["name.__class__", "__import__('os')", "damage ** 9999", "bits[0]", "bits", "x" * 10_000, "(" * 400],
)
def test_a_hostile_filter_is_answered_with_the_reason(wire: Any, text: str) -> None:
    wire.table.filter = f"={text}"
    ((answer, _),) = wire.read()
    assert answer["type"] == "filter"
    assert len(answer["error"]) > 20
    ((answer, _),) = wire.ask(type="add_column", id="c", title="t", expression=f"{text}.__class__")
    assert answer["ack"] == "c"
    assert len(answer["error"]) > 20
    assert wire.table.extra_columns == ()


def test_extra_columns_follow_the_plan(session: Session, wire: Any) -> None:
    ((answer, arrays),) = wire.ask(
        type="add_column", id="c", title="cost", expression="1e9 * damage / nbytes"
    )
    assert answer["columns"] == [{"title": "cost", "expression": "1e9 * damage / nbytes", "kind": "number"}]
    np.testing.assert_array_equal(arrays["column_0"], session.evaluate("1e9 * damage / nbytes"))
    wire.table.add_column("wide", "bits > 4")
    wire.edit("bits", list(range(10)), bits=8)
    content, arrays = wire.read()[-1]
    assert [column["kind"] for column in content["columns"]] == ["number", "truth"]
    np.testing.assert_array_equal(arrays["column_1"], session.evaluate("bits > 4"))
    header = wire.table.get_state()["data"]["header"]
    assert [column["title"] for column in header["columns"]] == ["cost", "wide"]
    wire.ask(type="remove_column", title="cost")
    assert [column.title for column in wire.table.extra_columns] == ["wide"]
    with pytest.raises(wb.ConfigurationError, match="needs a title"):
        wire.table.add_column("", "bits")
    with pytest.raises(wb.ConfigurationError, match="at most 12"):
        for number in range(12):
            wire.table.add_column(f"column {number}", "bits")


def test_selection_and_cursor_from_python(wire: Any) -> None:
    table, names = wire.table, wire.table.names
    table.select([names[3], 1])
    assert table.selected == [1, 3]
    assert table.selection == (names[1], names[3])
    table.focus_layer(names[7])
    assert table.current == 7
    assert wire.read()[-1][0] == {"type": "focus", "row": 7}
    with pytest.raises(wb.ConfigurationError, match="no layer 'nothing'"):
        table.select(["nothing"])


def test_packing_is_undone_by_unpacking() -> None:
    arrays = {
        "a": np.arange(5, dtype=np.uint8),
        "b": np.array([np.inf, np.nan, -0.0]),
        "c": np.zeros(0, np.uint32),
        "d": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    layout, blob = pack(arrays)
    assert all(offset % 8 == 0 for _, _, offset, _ in layout)
    for name, found in unpack(layout, blob).items():
        np.testing.assert_array_equal(found, arrays[name].ravel())
    with pytest.raises(TypeError, match="int64"):
        pack({"x": np.arange(3)})
