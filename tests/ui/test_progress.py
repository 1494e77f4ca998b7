"""What opening shows: how far it is, at what rate, how long it still takes; and how it is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.ui.progress import ProgressBar, Tracker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets what time it is for a tracker."""
    now = [100.0]
    monkeypatch.setattr("workbench.ui.progress.time.monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def test_a_tracker_tells_step_rate_and_time_left(clock: Callable[[float], None]) -> None:
    seen: list[tuple[float, str]] = []
    tracker = Tracker(2, lambda fraction, text: seen.append((fraction, text)))
    tracker.nbytes = 1_000_000_000
    tracker(0.0, "profiling layers")
    clock(2)
    tracker(0.2, "profiling layers")
    clock(2)
    tracker(1.0, "profiling layers")
    # A quarter was remembered: only what is done now says how fast it goes.
    tracker(0.25, "measuring options")
    clock(10)
    tracker(0.5, "measuring options")
    assert seen == [
        (0.0, "profiling layers (step 1 of 2): 0%"),
        (0.1, "profiling layers (step 1 of 2): 20%, 100 MB/s, 8 s left"),
        (0.5, "profiling layers (step 1 of 2): 100%"),
        (0.625, "measuring options (step 2 of 2): 25%"),
        (0.75, "measuring options (step 2 of 2): 50%, 25 MB/s, 20 s left"),
    ]


def test_a_tracker_without_bytes_tells_no_rate(clock: Callable[[float], None]) -> None:
    seen: list[str] = []
    tracker = Tracker(1, lambda fraction, text: seen.append(text))
    tracker(0.0, "writing")
    clock(100)
    tracker(0.01, "writing")
    assert seen[-1] == "writing: 1%, 2 h 45 min left"


def test_a_tracker_of_one_step_stays_in_it() -> None:
    """What is done may turn out to be more than was thought."""
    seen: list[tuple[float, str]] = []
    tracker = Tracker(1, lambda fraction, text: seen.append((fraction, text)))
    for fraction, message in ((0.5, "layer a"), (0.4, "layer b"), (1.0, "checking")):
        tracker(fraction, message)
    assert seen == [(0.5, "layer a: 50%"), (0.4, "layer b: 40%"), (1.0, "checking: 100%")]


def test_the_button_cancels() -> None:
    cancel = threading.Event()
    bar = ProgressBar("Opening a model", cancel.set)
    bar._handle_custom_msg({"type": "else"}, [])
    assert not cancel.is_set()
    bar._handle_custom_msg({"type": "cancel"}, [])
    assert cancel.is_set()
    assert bar.stopping
    bar.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    save_file(
        {f"blocks.{n}.attn.to_q.weight": rng.standard_normal((64, 256)).astype(np.float16) for n in range(4)},
        path,
    )
    return path


def executed(folder: Path, *cells: str) -> Any:
    """The notebook of cells after a kernel has run them in a folder, with no front end beside it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True, resources=where).execute()
    return notebook


@pytest.mark.filterwarnings("ignore")  # those of the client
def test_nothing_of_it_is_stored(model: Path, tmp_path: Path) -> None:
    opening = f"s = wb.open({str(model)!r}, cache={str(tmp_path)!r})"
    (_, cell) = executed(
        tmp_path, "import workbench as wb", f"print('before')\n{opening}\nprint('after')"
    ).cells
    kept = [output for output in cell.outputs if output.get("data") != {}]
    assert [output.get("text") for output in kept] == ["before\n", "after\n"]


INTERRUPTED = """
import os, signal, threading, workbench as wb, workbench.work
def advance(self, amount, real=workbench.work.Progress.advance):
    os.kill(os.getpid(), signal.SIGINT)
    real(self, amount)
workbench.work.Progress.advance = advance
"""


@pytest.mark.filterwarnings("ignore")  # those of the client
def test_interrupting_the_cell_cancels(model: Path, tmp_path: Path) -> None:
    line = f"s = wb.open({str(model)!r}, cache={str(tmp_path)!r})"
    again = "workbench.work.Progress.advance = advance.__defaults__[0]"
    notebook = executed(tmp_path, INTERRUPTED, line, f"{again}\n{line}\nprint(len(s.layers))")
    (error,) = (output for output in notebook.cells[1].outputs if output.output_type == "error")
    assert error.ename == "CancelledError"
    assert error.evalue.startswith("Opening model.safetensors was cancelled.")
    assert notebook.cells[2].outputs[-1].text == "4\n"


EXPORT = """
import time
def slow(self, amount, quick=workbench.work.Progress.advance):
    time.sleep(0.05)
    quick(self, amount)
workbench.work.Progress.advance = slow
real = s.export("out").result()
print(real.target)
"""


STOPPED = """
import os, signal, threading, time
waited = threading.Event()
def advance(self, amount, quick=workbench.work.Progress.advance):
    if not waited.is_set():
        waited.set()
        # Until the cell waits for the result; whoever sees no effect interrupts again.
        while "job" not in globals() or not job._followers or not job._future._condition._waiters:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        while not job._cancel.wait(5):
            os.kill(os.getpid(), signal.SIGINT)
    quick(self, amount)
workbench.work.Progress.advance = advance
job = s.export("stopped")
job.result()
"""


@pytest.mark.filterwarnings("ignore")  # those of the client
def test_waiting_for_an_export_shows_and_cancels_it(model: Path, tmp_path: Path) -> None:
    """Interrupting the cell that waits ends the job, and nothing is left behind."""
    line = f"import workbench as wb, workbench.work\ns = wb.open({str(model)!r}, cache={str(tmp_path / 'cache')!r})"
    opened = f"{line}\nreal_advance = workbench.work.Progress.advance"
    whole = executed(tmp_path, opened, EXPORT)
    assert whole.cells[1].outputs[-1].text == "parquet\n"
    assert [output for output in whole.cells[1].outputs[:-1] if output.get("data") != {}] == []

    stopped = executed(tmp_path, opened, STOPPED, "job.state")
    (error,) = (output for output in stopped.cells[1].outputs if output.output_type == "error")
    assert error.ename == "CancelledError"
    assert error.evalue == "export to stopped was cancelled; nothing was left half-written."
    assert stopped.cells[2].outputs[-1].data["text/plain"] == "'cancelled'"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "model.safetensors", "out"]


@pytest.mark.filterwarnings("ignore")  # those of the client
def test_verifying_shows_and_cancels(model: Path, tmp_path: Path) -> None:
    with wb.open(model, cache=tmp_path / "cache") as session:
        session.export(tmp_path / "out").result()
    line = f"wb.verify('out', {str(model)!r}).ok"
    whole, stopped = executed(tmp_path, "import workbench as wb", line, INTERRUPTED + line).cells[1:]
    assert whole.outputs[-1].data["text/plain"] == "True"
    assert [output for output in whole.outputs[:-1] if output.get("data") != {}] == []
    (error,) = (output for output in stopped.outputs if output.output_type == "error")
    assert (error.ename, error.evalue) == (
        "CancelledError", "Verifying out was cancelled. The export is as it was."
    )  # fmt: skip


def test_a_callback_hears_of_it_instead(model: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    with wb.open(model, cache=tmp_path, callback=lambda fraction, message: heard.append(message)) as session:
        assert len(session.layers) == 4
    assert set(heard) >= {"profiling layers", "measuring options"}


def test_scripts_whose_errors_go_to_a_file_show_nothing(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wb.open(model, cache=tmp_path).close()
    assert capfd.readouterr() == ("", "")
