"""The validation tab without a browser: it runs the plan in the model, shows what was measured, and learns from it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import workbench as wb
from workbench import zoo
from workbench.errors import CancelledError, ConfigurationError, ValidationError
from workbench.session import Session
from workbench.ui import Panel
from workbench.ui.charts import validation_tab
from workbench.zoo.digits_dit.sample import denoise, load

from .test_panel import Asked, wait_until

Run = Callable[[int], torch.Tensor]


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load(zoo.locate("digits-dit"), torch.float32)
    torch.set_num_threads(threads)


@pytest.fixture
def run(model: tuple[Any, Any]) -> Run:
    return lambda number: denoise(*model, [3, 7], number, 2)


@pytest.fixture
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", calibration="zoo:digits-dit", num_time_groups=2) as digits:
        yield digits


@pytest.fixture
def asked(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    panel = Panel(session, folder=tmp_path)
    yield Asked(panel, monkeypatch)
    panel.close()


def validate(asked: Asked, **settings: Any) -> dict[str, Any]:
    """Run a validation by the tab, and wait until it is drawn."""
    return asked.do("validate", **{"runs": 1, "activations": "none", "alone": False, **settings})


def test_without_a_model_it_says_what_is_missing(
    asked: Asked, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: bool(asked.panel.validation))
    assert "wb.live.attach(s, model, run)" in asked.panel.validation["lacking"]
    assert "wb.live.attach(s, module, run)" in validate(asked)["error"]
    assert "no validation" in asked.do("learn")["error"]
    with pytest.raises(ConfigurationError, match="no model to run its plan in"):
        session.validate()
    monkeypatch.setattr(validation_tab, "find_spec", lambda name: None)
    assert "pip install" in validation_tab.lacking(session)


def test_the_plan_is_run_shown_and_learnt_from(asked: Asked, session: Session, model: Any, run: Run) -> None:
    session.set_bits("*", 3)
    wb.live.attach(session, model[0], run)
    wait_until(lambda: asked.panel.validation.get("lacking") == "")
    own = {name: value.clone() for name, value in model[0].state_dict().items()}
    validate(asked, runs=2)
    wait_until(lambda: "facts" in asked.panel.validation)
    assert asked.told("job")[0]["job"]["text"].startswith("validation in the running model")
    assert all(torch.equal(value, own[name]) for name, value in model[0].state_dict().items())
    found = wb.live.compare(model[0], run, session, runs=2)
    shown = asked.panel.validation
    facts = dict(shown["facts"])
    assert facts["final error, measured"] == f"{found.error:.3g} over 2 runs"
    assert facts["measured / predicted"] == f"{found.ratio:.2f}"
    assert facts["rank correlation"].startswith(f"{found.rank_correlation:.3f}")
    for name in ("scatter", "groups", "growth", "samples"):
        assert json.loads(shown[name])["data"], name
    assert len(json.dumps(shown)) < 150_000
    assert (shown["stale"], shown["can_learn"]) == ("", True)

    assert "Solve again" in asked.do("learn")["note"]
    assert session.totals.damage == pytest.approx(found.error, rel=1e-5)
    wait_until(lambda: not asked.panel.validation["can_learn"])
    assert "has learnt" in asked.panel.validation["stale"]
    damage = session.totals.damage
    asked.do("learn")
    assert session.totals.damage == damage, "learning twice from one measurement is learning once"
    session.set_bits("*", 4)
    wait_until(lambda: "another" in asked.panel.validation["stale"])
    assert session.script[1:4] == (
        "wb.live.attach(s, module, run)",
        "s.validate(runs=2).result()",
        "s.learn(s.validation)",
    )


def test_every_panel_of_a_session_shows_its_proof(
    session: Session, model: Any, run: Run, tmp_path: Path
) -> None:
    one, two = Panel(session, folder=tmp_path), Panel(session, folder=tmp_path)
    wb.live.attach(session, model[0], run)
    found = session.validate(1, activations="int8-static").result()
    assert session.validation is found
    assert session.script[-1] == "s.validate(runs=1, activations='int8-static').result()"
    wait_until(lambda: "facts" in one.validation and "facts" in two.validation)
    assert ("activations", "int8-static") in map(tuple, two.validation["facts"])
    one.close()
    two.close()


def test_a_proof_can_be_cancelled_and_what_fails_is_told(
    asked: Asked, session: Session, model: Any, run: Run
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(number: int) -> torch.Tensor:
        started.set()
        assert go_on.wait(60)
        return run(number)

    wb.live.attach(session, model[0], slow)
    validate(asked, runs=50)
    assert started.wait(60)
    with pytest.raises(ConfigurationError, match="Wait for it, or cancel it"):
        session.validate()
    asked.do("cancel")
    go_on.set()
    wait_until(lambda: "was cancelled" in asked.panel.message_bar.text)
    assert session.validation is None
    assert not model[0]._forward_hooks

    wb.live.attach(session, model[0], lambda number: run(number)[:, :, 99, 99])
    validate(asked)
    wait_until(lambda: asked.panel.message_bar.kind == "error")
    assert "run(0), which generates with the model, failed: IndexError" in asked.panel.message_bar.text
    assert "bug" not in asked.panel.message_bar.text
    wb.live.attach(session, model[0], lambda number: [1.0])
    with pytest.raises(ValidationError, match=r"run\(0\) gave a list; let it return the final output"):
        session.validate().result()
    with pytest.raises(ValidationError, match="none of its 33 layers"):
        wb.live.attach(session, torch.nn.Linear(2, 2), run)


def test_texts_have_no_pictures(session: Session, model: Any, run: Run) -> None:
    wb.live.attach(
        session, model[0], lambda number: run(number).flatten(1), metrics=lambda outputs: {"loss": 1.5}
    )
    session.validate(runs=1).result()
    shown = validation_tab.shown(session)
    assert "samples" not in shown
    assert ("loss", "1.5 → 1.5") in shown["facts"]


def test_cancelling_the_job_of_a_session(session: Session, model: Any, run: Run) -> None:
    wb.live.attach(session, model[0], run)
    job = session.validate(runs=1000)
    job.cancel()
    with pytest.raises(CancelledError):
        job.result(60)


def test_the_tab_needs_no_torch() -> None:
    program = (
        "import sys, workbench as wb\n"
        "from workbench.ui.charts import validation_tab\n"
        "s = wb.open('zoo:digits-dit')\n"
        "validation_tab.shown(s)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
