"""The panel without a browser: each control does what the method of its name does, and no error gets lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import workbench as wb
from workbench.session import Session
from workbench.ui import Panel
from workbench.ui.display import mimebundle, panel_of


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


@pytest.fixture
def panel(session: Session, tmp_path: Path) -> Iterator[Panel]:
    made = Panel(session, folder=tmp_path, confined=True)
    yield made
    made.close()


def test_a_size_in_writing_and_by_the_slider(panel: Panel, session: Session) -> None:
    panel.toolbar.size.value = "2.2 MB"
    assert session.script[-1] == "s.solve('2.2 MB')"
    assert session.totals.nbytes <= 2_200_000
    panel.toolbar.budget.value = 1.9
    assert session.totals.nbytes <= 1_900_000
    wait_until(lambda: abs(panel.toolbar.budget.value - session.totals.nbytes / 1e6) < 0.02)


def test_undo_redo_locks_and_policies(panel: Panel, session: Session) -> None:
    toolbar = panel.toolbar
    assert toolbar.undo.disabled
    # The controls follow when the edits pause; what they do is done at once.
    toolbar.policy.value = "threshold"
    assert session.plan.made_by["method"] == "threshold"
    assert toolbar.policy.value == toolbar.policy.options[0], "it can be chosen again"
    toolbar.lock.value = "modulation"
    assert len(session.locked) == 4
    toolbar.unlock.value = "all"
    assert session.locked == ()
    wait_until(lambda: not toolbar.undo.disabled)
    toolbar.undo.click()
    assert len(session.locked) == 4
    toolbar.redo.click()
    assert session.locked == ()


def test_what_cannot_be_done_is_shown_with_the_way_out(panel: Panel, session: Session) -> None:
    before = session.plan
    panel.toolbar.size.value = "20 parsecs"
    assert "write it as 2.5GB" in panel.strip.text
    panel.toolbar.size.value = "1 kB"
    assert "are the least" in panel.strip.text
    assert session.plan == before


def test_plans_are_saved_and_loaded_in_the_folder_only(
    panel: Panel, session: Session, tmp_path: Path
) -> None:
    session.set_bits("*attn1*", 3)
    plan = session.plan.choices
    panel.toolbar.save.click()
    assert (tmp_path / "plan.yaml").is_file()
    session.set_bits("*", 8)
    panel.toolbar.load.click()
    assert session.plan.choices == plan
    panel.toolbar.path.value = "../plan.yaml"
    panel.toolbar.save.click()
    assert not (tmp_path.parent / "plan.yaml").exists()
    assert "plan.yaml" in panel.strip.text


def test_an_export_says_beforehand_what_it_takes(panel: Panel, session: Session, tmp_path: Path) -> None:
    panel.toolbar.export.value = True
    assert f"{session.totals.nbytes:,} bytes" in panel.toolbar.ahead.value
    panel.toolbar.folder.value = "small"
    panel.toolbar.write.click()
    wait_until(lambda: "read back and compared" in panel.strip.text)
    assert wb.load(tmp_path / "small").plan.choices == session.plan.choices
    panel.toolbar.write.click()
    wait_until(lambda: "small" in panel.strip.text and "exists" in panel.strip.text)


def test_another_target(panel: Panel, session: Session) -> None:
    table = panel.table
    panel.toolbar.target.value = "parquet"
    wait_until(lambda: session.target.name == "parquet" and panel.table is not table)
    wait_until(lambda: "now for parquet" in panel.strip.text)
    assert session.script[-1] == "s.retarget('parquet')"


def test_figures_follow_the_edits_and_a_click_chooses(panel: Panel, session: Session) -> None:
    charts = panel.charts
    wait_until(lambda: bool(charts.heat.spec))
    before = charts.depth.spec
    session.set_bits("*", 6)
    wait_until(lambda: charts.depth.spec != before)
    charts._to_layer({"customdata": ["proj_out_2.weight", "head"], "x": 0, "y": 0.8})
    assert panel.table.selection == ("proj_out_2.weight",)
    assert charts.depth.chosen == ["proj_out_2.weight"]
    charts._to_size({"x": 4.0, "customdata": None})
    assert session.totals.bpw <= 4.0
    assert session.script[-1] == "s.solve(bpw=4.0)"


def test_the_chosen_layer_is_looked_at(panel: Panel) -> None:
    panel.table.current = 4
    wait_until(lambda: bool(panel.detail.weights.spec and panel.detail.time.spec))
    assert panel.detail.layer == panel.table.names[4]


def test_the_script_is_told(panel: Panel, session: Session) -> None:
    session.set_bits("*attn1*", 6)
    wait_until(lambda: panel.script.last == "s.set_bits('*attn1*', 6)")
    assert panel.script.whole.splitlines()[0] == "import workbench as wb"


def test_two_panels_stay_in_step_and_a_closed_one_lets_go(session: Session, tmp_path: Path) -> None:
    one, two = Panel(session, folder=tmp_path), Panel(session, folder=tmp_path)
    one.toolbar.size.value = "2.1 MB"
    wait_until(lambda: two.script.last == one.script.last == "s.solve('2.1 MB')")
    wait_until(lambda: two.toolbar.size.value == one.toolbar.size.value)
    one.close()
    session.set_bits("*", 5)
    wait_until(lambda: two.script.last == "s.set_bits('*', 5)")
    assert one.script.last == "s.solve('2.1 MB')"
    two.close()
    wait_until(lambda: not any(isinstance(thread, threading.Timer) for thread in threading.enumerate()))


def test_a_session_shows_itself_as_the_panel_and_as_a_table(session: Session) -> None:
    shown = mimebundle(session)
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert "<table>" in shown["text/html"]
    assert "proj_out_2.weight" in shown["text/plain"]
    assert panel_of(session) is panel_of(session)
    panel_of(session).close()


def test_nothing_heavy_is_imported_before_it_is_shown(cache: Path) -> None:
    program = (
        "import sys, workbench as wb\n"
        f"wb.open('zoo:digits-dit', target='mlx', calibration='zoo:digits-dit', cache={str(cache)!r})\n"
        "heavy = {'plotly', 'ipywidgets', 'anywidget', 'torch', 'IPython', 'jupyterlab'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
