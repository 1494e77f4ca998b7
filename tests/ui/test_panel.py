"""The panel without a browser: each action does what the method of its name does, and no error gets lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.session import Session
from workbench.thermo import Constraints, solve, trace
from workbench.ui import LayerTable, Panel
from workbench.ui.cells.display import panel_of, show
from workbench.ui.cells.views import CellViews
from workbench.ui.table.packing import unpack


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session(cache: Path) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", target="mlx", calibration="zoo:digits-dit", cache=cache) as digits:
        yield digits


def test_what_was_found_on_opening_stands_in_the_panel_from_the_start(tmp_path: Path, cache: Path) -> None:
    weights = {"_orig_mod.blocks.0.to_q.weight": np.eye(64, dtype=np.float32)}
    save_file(weights, tmp_path / "model.safetensors")
    with wb.open(tmp_path / "model.safetensors", target="mlx", cache=cache) as session:
        panel = Panel(session)
        message = panel.state()["header"]["message_bar"]
        assert message["kind"] == "note"
        assert "_orig_mod. of torch.compile" in message["text"]
        assert panel.get_state()["data"]["header"]["message_bar"] == message
        panel.close()


class Asked:
    """A panel whose messages are kept instead of sent."""

    def __init__(self, panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.panel = panel
        self.sent: list[dict[str, Any]] = []
        monkeypatch.setattr(panel, "send", lambda content, buffers=None: self.sent.append(content))

    def do(self, act: str, **more: Any) -> dict[str, Any]:
        """Ask for an action as the browser does; its one answer."""
        return self.ask(type="do", act=act, **more)

    def ask(self, **message: Any) -> dict[str, Any]:
        ack = f"a{len(self.sent)}"
        self.panel._handle_custom_msg({**message, "id": ack}, [])
        (answer,) = [one for one in self.sent if one.get("ack") == ack]
        return answer

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.sent if one["type"] == kind]


@pytest.fixture
def panel(session: Session, tmp_path: Path) -> Iterator[Panel]:
    made = Panel(session, folder=tmp_path, confined=True)
    yield made
    made.close()


@pytest.fixture
def asked(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(panel, monkeypatch)


def test_each_action_is_a_method_and_a_line_of_python(asked: Asked, session: Session) -> None:
    asked.do("solve", size="2.2 MB")
    assert session.totals.nbytes <= 2_200_000
    asked.do("budget", nbytes=1_900_000)
    assert session.totals.nbytes <= 1_900_000
    asked.do("solve", bpw=4)
    asked.do("solve", temperature=1e-7)
    asked.do("follow", policy="threshold")
    assert session.plan.made_by["method"] == "threshold"
    asked.do("lock", role="modulation")
    assert len(session.locked) == 4
    asked.do("unlock", role="modulation")
    asked.do("lock", role="head")
    last = asked.do("unlock")
    assert session.locked == ()
    assert session.script == (
        "s.solve('2.2 MB')", "s.solve(1900000)", "s.solve(bpw=4.0)", "s.solve(temperature=1e-07)",
        "s.follow('threshold')", "s.lock('role:modulation')", "s.unlock('role:modulation')",
        "s.lock('role:head')", "s.unlock('*')",
    )  # fmt: skip
    assert last["script"] == ["s.unlock('*')"]
    assert (last["base"], last["version"]) == (8, 9)
    assert len(asked.told("plan")) == 9, "one message for each"


def test_below_the_end_of_the_slider_is_the_least_there_is(asked: Asked, session: Session) -> None:
    session.solve(temperature=float("inf"))
    least, nbytes = session.plan.choices, session.totals.nbytes
    session.solve(bpw=6)
    assert "error" not in asked.do("budget", nbytes=nbytes - 500)
    assert session.plan.choices == least


def test_what_cannot_be_done_is_answered_with_the_way_out(asked: Asked, session: Session) -> None:
    before = session.plan
    assert "write it as 2.5GB" in asked.do("solve", size="20 parsecs")["error"]
    assert "are the least" in asked.do("solve", size="1 kB")["error"]
    assert "understands no action" in asked.do("eval", code="1")["error"]
    assert "understands no action" in asked.do("solve", size=[1])["error"]
    assert "understands no message" in asked.ask(type="run")["error"]
    assert "no policy" in asked.do("follow", policy="magic")["error"]
    assert session.plan == before


def test_plans_are_saved_and_loaded_in_the_folder_only(
    asked: Asked, session: Session, tmp_path: Path
) -> None:
    session.set_bits("*attn1*", 3)
    plan = session.plan.choices
    assert "plan.yaml" in asked.do("save", path="plan.yaml")["note"]
    assert (tmp_path / "plan.yaml").is_file()
    session.set_bits("*", 8)
    assert "taken over" in asked.do("load", path="plan.yaml")["note"]
    assert session.plan.choices == plan
    assert "outside" in asked.do("save", path="../plan.yaml")["error"]
    assert str(tmp_path / "~") in asked.do("save", path="./~")["note"], "not the home"
    assert "is empty" in asked.do("save", path=" ")["error"]
    assert not (tmp_path.parent / "plan.yaml").exists()
    assert "nothing.yaml" in asked.do("load", path="nothing.yaml")["error"]


def test_what_would_lose_something_is_asked_first(asked: Asked, session: Session, tmp_path: Path) -> None:
    session.set_bits("*attn1*", 6)
    before, version = session.plan, session.version
    asks: list[dict[str, Any]] = [
        {"act": "solve", "size": "2.2 MB"}, {"act": "budget", "nbytes": 2_200_000}, {"act": "solve", "bpw": 4},
        {"act": "solve", "temperature": 1e-7}, {"act": "follow", "policy": "threshold"},
    ]  # fmt: skip
    for wanted in asks:
        question = asked.do(**wanted)["question"]
        assert question["text"] == "12 layers were set by hand and would change."
        assert all(choice["message"].items() >= wanted.items() for choice in question["choices"])
    assert (session.plan, session.version) == (before, version)
    question = asked.do("solve", size="2.2 MB")["question"]
    answer = asked.ask(**question["choices"][0]["message"])
    assert "question" not in answer
    assert len(session.locked) == 12
    assert {session.plan.choices[name].bits for name in session.locked} == {6}
    session.unlock()
    (_, replace) = asked.do("solve", size="2.2 MB")["question"]["choices"]
    asked.ask(**replace["message"])
    assert session.edited == ()

    asked.do("save", path="plan.yaml")
    asked.do("save", path="plan.yaml")
    saved = (tmp_path / "plan.yaml").read_bytes()
    session.set_bits("*", 5)
    [replace] = asked.do("save", path="plan.yaml")["question"]["choices"]
    assert (tmp_path / "plan.yaml").read_bytes() == saved
    assert "note" in asked.ask(**replace["message"])
    assert wb.Plan.load(tmp_path / "plan.yaml").choices == session.plan.choices
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not a plan" in asked.do("save", path="notes.txt")["error"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_export_says_beforehand_what_it_takes(asked: Asked, session: Session, tmp_path: Path) -> None:
    ahead = asked.ask(type="predict", folder="small")
    assert ahead["nbytes"] == session.totals.nbytes
    assert ahead["peak_bytes"] > 0
    assert re.search(r"\d+ s", ahead["time"])
    assert (ahead["folder"], ahead["exists"]) == (str(tmp_path / "small"), False)
    assert ahead["readers"] == list(session.readers)
    assert "outside" in asked.ask(type="predict", folder="../small")["error"]
    asked.do("export", folder="small")
    wait_until(lambda: "read back and compared" in asked.panel.message_bar.text)
    assert wb.load(tmp_path / "small").plan.choices == session.plan.choices
    jobs = asked.told("job")
    assert "export to small" in jobs[0]["job"]["text"]
    assert jobs[-1]["job"] is None
    wait_until(lambda: asked.panel.jobs.shown is None)
    assert asked.panel.actions.exported is not None
    assert str(tmp_path / "small") in asked.panel.message_bar.text
    assert str(tmp_path / "small") in asked.panel.actions.exported["lines"]
    assert asked.panel.state()["header"]["exported"] == asked.panel.actions.exported, "also after a reload"
    assert {one["job"]["place"] for one in jobs if one["job"]} == {"export"}
    assert asked.ask(type="predict", folder="small")["exists"]
    asked.do("export", folder="small")
    assert "" in [one["text"] for one in asked.told("message_bar")], (
        "a new action ends the message of the one before"
    )
    wait_until(lambda: asked.panel.message_bar.kind == "error")
    assert "exists" in asked.panel.message_bar.text
    state = asked.panel.get_state()["data"]["header"]
    assert state["message_bar"]["text"] == asked.panel.message_bar.text, (
        "a page that is loaded again shows it too"
    )
    asked.panel._handle_custom_msg({"type": "dismiss"}, [])
    assert asked.panel.get_state()["data"]["header"]["message_bar"]["text"] == ""


@pytest.mark.parametrize("view", [LayerTable, Panel])
def test_another_target_brings_its_own_options(
    view: type[LayerTable], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = view(session)
    states: list[Any] = []
    monkeypatch.setattr(table, "send_state", lambda key=None: states.append((key, table.state())))
    session.retarget("parquet")
    [(_, state)] = [one for one in states if one[0] == "data"]
    arrays = unpack(state["header"]["layout"], state["blob"])
    assert arrays["nbytes"].tolist() == session.thermodynamics["nbytes"].to_pylist()
    table._handle_custom_msg({"type": "edit", "id": "e", "action": "bits", "rows": [3], "bits": 7}, [])
    name = session.layers["name"][3].as_py()
    assert session.plan.choices[name].bits == 7, "which mlx has not"
    table.close()


@pytest.mark.parametrize("view", [LayerTable, Panel])
def test_what_is_said_before_another_target_is_told_is_of_that_target(
    view: type[LayerTable], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another thread answers the browser just then."""
    states, said, renewed = [], [], []

    def first(_: object) -> None:
        states.append(table.state())
        table._send_state(ack="a")

    session.observe(first)
    table = view(session)
    monkeypatch.setattr(table, "send", lambda message, buffers=None: said.append(message))
    monkeypatch.setattr(table, "send_state", lambda key=None: renewed.append(key))
    session.retarget("parquet")
    arrays = unpack(states[0]["header"]["layout"], states[0]["blob"])
    assert arrays["nbytes"].tolist() == session.thermodynamics["nbytes"].to_pylist()
    assert renewed.count("data") == 1
    assert [message["ack"] for message in said if message.get("ack")] == ["a"]
    assert all(message["version"] == session.version for message in said if message["type"] == "plan")
    table.close()


def test_the_target_is_changed_by_a_job(asked: Asked, session: Session) -> None:
    asked.do("retarget", target="parquet")
    wait_until(lambda: "now for parquet" in asked.panel.message_bar.text)
    assert session.target.name == "parquet"
    assert session.script[-1] == "s.retarget('parquet')"
    assert asked.panel.get_state()["data"]["header"]["target"] == "parquet"


def test_figures_follow_the_edits_in_one_message(
    panel: Panel, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: bool(panel.overview and panel.steps))
    assert all(json.loads(panel.overview[key])["data"] for key in ("front", "depth", "heat"))
    before, sent = panel.overview, []
    real = panel._send
    monkeypatch.setattr(
        panel, "_send", lambda message, buffers=None: (sent.append(message), real(message, buffers))
    )
    panel.current = 4
    session.set_bits("*", 6)
    wait_until(lambda: panel.overview != before and bool(panel.closeup))
    assert panel.closeup["layer"] == panel.names[4]
    assert json.loads(panel.closeup["weights"])["data"]
    assert json.loads(panel.closeup["time"])["data"]
    updates = [set(one["state"]) - {"current"} for one in sent if one["method"] == "update"]
    assert [one for one in updates if one] == [{"overview", "closeup"}]
    plans = [one for one in sent if one["method"] == "custom" and one["content"]["type"] == "plan"]
    assert len(plans) == 1


def test_the_steps_are_the_way_that_the_solver_begins_with(panel: Panel, session: Session) -> None:
    wait_until(lambda: panel.steps is not None)
    arrays = unpack(panel.steps["layout"], panel.steps["blob"])
    layers = session.layers.num_rows
    assert arrays["rows"][:layers].tolist() == list(range(layers))
    costs, front = session.costs, trace(session.costs)
    session.lock("role:modulation", bits=8)
    locked = session.snapshot.locked
    locks = np.where(locked, session.snapshot.rows - session.snapshot.measurements.starts, -1)
    fixed = trace(costs, Constraints(locks=locks))
    for budget in np.linspace(fixed.nbytes[0], fixed.nbytes[-1], 6).astype(int).tolist():
        present = session.thermodynamics["nbytes"].to_numpy()
        at = np.arange(layers)
        size = np.where(locked, present, arrays["nbytes"][:layers])
        for step in range(layers, len(arrays["rows"])):
            row = arrays["rows"][step]
            if locked[row]:
                continue
            if size.sum() + arrays["nbytes"][step] - size[row] > budget:
                break
            size[row], at[row] = arrays["nbytes"][step], step
        corner = fixed.choice_at(fixed.corner_within(budget))
        expected = costs.nbytes[np.arange(layers), corner]
        assert size.tolist() == expected.tolist()
        damage = arrays["damage"][at][~locked].sum()
        assert damage == pytest.approx(costs.damage[np.arange(layers), corner][~locked].sum())
        best = solve(costs, Constraints(locks=locks), nbytes=budget)
        assert best.damage <= costs.damage_of(corner)
    assert len(arrays["rows"]) == layers + len(front.row)


def test_two_panels_stay_in_step_and_a_closed_one_lets_go(session: Session, tmp_path: Path) -> None:
    one, two = Panel(session, folder=tmp_path), Panel(session, folder=tmp_path)
    wait_until(lambda: bool(one.overview and two.overview))
    before = two.overview
    one._handle_custom_msg({"type": "do", "id": "a", "act": "solve", "size": "2.1 MB"}, [])
    assert two._sent.version == one._sent.version == 1
    wait_until(lambda: two.overview != before)
    one.close()
    drawn = one.overview
    session.set_bits("*", 5)
    assert two._sent.version == 2
    assert one._sent.version == 1
    assert one.overview == drawn
    two.close()
    wait_until(lambda: not any(isinstance(thread, threading.Timer) for thread in threading.enumerate()))
    assert not session._observers


def test_a_session_shows_itself_as_the_panel_and_as_a_copy(session: Session, displayed: list[Any]) -> None:
    show(session)
    (_, widget), (_, copy) = displayed
    assert "application/vnd.jupyter.widget-view+json" in widget
    assert (widget["text/html"], widget["text/plain"]) == ("", ""), (
        "where no widget runs, the copy says it all"
    )
    assert copy.keys() == {"text/plain", "text/html"}, "JupyterLab shows nothing else beside a widget"
    assert "<table>" in copy["text/html"]
    assert "proj_out_2.weight" in copy["text/plain"]
    first = panel_of(session)
    assert panel_of(session) is first
    first.close()
    assert panel_of(session) is not first
    panel_of(session).close()


def test_nothing_heavy_is_imported_before_it_is_shown(cache: Path) -> None:
    program = (
        "import sys, workbench as wb\n"
        f"s = wb.open('zoo:digits-dit', target='mlx', calibration='zoo:digits-dit', cache={str(cache)!r})\n"
        "heavy = {'plotly', 'ipywidgets', 'anywidget', 'torch', 'IPython', 'jupyterlab'} & set(sys.modules)\n"
        "import workbench.ui\n"
        "heavy |= {'plotly'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_cell_showed_before_is_closed_when_it_runs_again() -> None:
    class View:
        closed = kept = 0

        def keep(self) -> None:
            self.kept += 1

        def close(self) -> None:
            self.closed += 1

    shown, old, other, new = CellViews(), View(), View(), View()
    for view in (old, other, old):
        shown.note(view)
    shown.end_cell("one")
    shown.note(other)
    shown.end_cell("two")
    shown.end_cell("three")
    assert (old.closed, other.closed) == (0, 0)
    assert (old.kept, other.kept) == (3, 3), "once after each cell, however often it is shown"
    shown.note(new)
    shown.end_cell("one")
    assert (old.closed, other.closed, new.closed) == (1, 0, 0), "another cell shows the other still"
    shown.end_cell("two")
    assert (old.closed, other.closed) == (1, 1)
    shown.note(new)
    shown.end_cell("one")
    assert new.closed == 0, "it shows the same one again"
