"""Another export format: the plan goes with it as nearly as the format has it, and everybody hears."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.session import Change, Job, Session
from workbench.work import Waiting


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session(cache: Path) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", target="parquet", group_size=64, cache=cache) as session:
        yield session


def test_there_and_back(session: Session, tmp_path: Path) -> None:
    session.set_bits("*attn1*", 7)
    session.set_bits("role:mlp.*", 3)
    session.keep("proj_out_2.weight")
    session.lock("*to_v*")
    before, locked = session.plan, session.locked
    heard: list[Change] = []
    session.observe(heard.append)

    notes = session.retarget("mlx")
    assert session.target.name == session.plan.target == "mlx"
    offered = {
        (row["layer"], row["bits"], row["scheme"], row["group_size"]) for row in session.options.to_pylist()
    }
    for name, option in session.plan.choices.items():
        assert (name, option.bits, option.scheme, option.group_size) in offered
    assert {session.plan.choices[name].bits for name in session.select("*attn1*")} == {8}, "mlx has no 7 bits"
    assert {session.plan.choices[name].bits for name in session.select("role:mlp.*")} == {3}
    assert session.plan.choices["proj_out_2.weight"].is_kept
    assert session.locked == locked
    assert "12 layers got the next wider width" in " ".join(notes)
    assert notes[0] == "The plan is now for mlx. Undo goes back to parquet."
    [change] = heard
    assert change.rows == tuple(range(33))
    assert change.version == session.version
    assert change.totals == session.totals
    assert session.version == len(session.script)

    here = session.plan
    assert session.undo()
    assert session.plan == before, "with the options that the other format has"
    assert session.locked == locked
    assert heard[-1].rows == tuple(range(33))
    assert session.undo()
    assert not session.locked, "and further back"
    assert session.redo()
    assert session.redo()
    assert session.plan == here
    session.set_bits("*", 4)
    assert session.undo()
    assert session.plan == here

    report = session.export(tmp_path / "out").result(120)
    assert report.actual_bytes == session.totals.nbytes

    session.retarget("parquet")
    assert session.target.name == "parquet"
    after = {name: option.bits for name, option in session.plan.choices.items()}
    expected = {name: 8 if option.bits == 7 else option.bits for name, option in before.choices.items()}
    unlike = {name for name in after if after[name] != expected[name]}
    assert all(option.is_kept for name, option in session.plan.choices.items() if name in unlike), (
        "what mlx had to keep stays kept, all else comes back"
    )
    assert session.locked == locked
    assert session.plan.made_by["method"] == "from mlx"


def test_a_format_that_there_is_not_changes_nothing(session: Session) -> None:
    before = session.plan, session.version, session.script
    with pytest.raises(wb.ArgumentError, match="gguf2"):
        session.retarget("gguf2")
    assert (session.plan, session.version, session.script) == before


def test_a_format_that_cannot_hold_the_checkpoint_changes_nothing(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """A language model without the keys of llama.cpp: told at once, and the session stays what it is."""
    source = make_checkpoint({"model.layers.0.mlp.up_proj.weight": np.ones((64, 64), np.float32)})
    (source / "config.json").write_text(json.dumps({"architectures": ["DreamModel"], "model_type": "Dream"}))
    with pytest.raises(wb.ValidationError, match="how many layers and heads"):
        wb.open(source, target="gguf", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    with wb.open(source, target="mlx", cache=tmp_path / "cache") as session:
        before = session.plan, session.version, session.script
        with pytest.raises(wb.ValidationError, match="how many layers and heads"):
            session.retarget("gguf")
        assert (session.plan, session.version, session.script) == before


def test_it_can_be_cancelled(cache: Path, tmp_path: Path) -> None:
    with wb.open("zoo:digits-dit", target="parquet", cache=cache) as session:
        stop = threading.Event()
        stop.set()
        before = session.plan
        # Prices that are remembered need no time to be cancelled in: another group size is not.
        with wb.open("zoo:digits-dit", group_size=32, cache=tmp_path) as unmeasured:
            with pytest.raises(wb.CancelledError):
                unmeasured.retarget("mlx", cancel=stop)
            assert unmeasured.target.name == "parquet"
        assert session.plan == before


def test_in_the_background(session: Session) -> None:
    notes = session.retarget_job("mlx").result(120)
    assert session.target.name == "mlx"
    assert notes[0].startswith("The plan is now for mlx")


def test_whoever_waits_for_it_sees_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook sets what shows a job in the cell that waits for it; with a callback that is the caller's business."""
    watched: list[str] = []

    @contextmanager
    def watch(job: Job[Any]) -> Iterator[None]:
        watched.append(job.name)
        yield

    monkeypatch.setattr(Waiting, "watch", watch)
    with wb.open("zoo:digits-dit", target="parquet", group_size=64, cache=tmp_path) as unmeasured:
        notes = unmeasured.retarget("gguf")
        assert notes[0].startswith("The plan is now for gguf")
        assert watched == ["measuring options for gguf"]
        unmeasured.retarget("mlx", callback=lambda fraction, message: None)
        assert watched == ["measuring options for gguf"]


def test_a_scheme_that_nobody_asked_for_is_not_carried_along(session: Session) -> None:
    """Each format has its own default; what was set by hand goes along where the format has it."""
    session.set_bits("proj_out_1.weight", scheme="symmetric")
    session.retarget("compressed-tensors")
    stored = [option.scheme for option in session.plan.choices.values() if not option.is_kept]
    assert set(stored) == {"symmetric"}
    session.retarget("parquet")
    stored = [option.scheme for option in session.plan.choices.values() if not option.is_kept]
    assert set(stored) == {"asymmetric"}
    session.undo()
    session.undo()
    assert session.plan.choices["proj_out_1.weight"].scheme == "symmetric"
