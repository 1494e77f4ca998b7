"""A cell that runs again goes on with the session that it opened before, if it is the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.session import Session
from workbench.ui.cells.sessions import CellSessions


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Session]:
    """Open a checkpoint of three layers."""

    written: list[int] = []

    def made(seed: int = 0, target: str = "mlx", **settings: Any) -> Session:
        if written[-1:] != [seed]:
            rng = np.random.default_rng(seed)
            names = [f"blocks.{row}.proj.weight" for row in range(3)]
            tensors = {name: rng.standard_normal((64, 128)).astype(np.float32) for name in names}
            save_file(tensors, tmp_path / "model.safetensors")
            written.append(seed)
        return wb.open(tmp_path / "model.safetensors", target, cache=tmp_path / "cache", **settings)

    return made


def test_plan_undo_and_script_go_on(make: Callable[..., Session]) -> None:
    known = CellSessions()
    old = known.take("cell", "run 1", make())
    old.set_bits("blocks.1.*", 3)
    old.lock("blocks.1.*")
    old.retarget("parquet")
    new = known.take("cell", "run 2", make())
    assert new is not old
    assert (new.plan, new.locked, new.script, new.version) == (old.plan, old.locked, old.script, 3)
    heard: list[Any] = []
    old.observe(heard.append)
    for _ in range(3):
        assert new.undo()
    assert not new.undo()
    assert new.target.name == "mlx"
    assert {option.bits for option in new.plan.choices.values()} == {4}
    assert (old.target.name, old.version, heard) == ("parquet", 3, []), "the old session is left as it was"
    old.close()
    assert new.detail("blocks.1.proj.weight").rows > 0, "the files are the new session's to close"
    new.close()


def test_what_is_not_the_same_begins_anew(make: Callable[..., Session], tmp_path: Path) -> None:
    known = CellSessions()

    def opened(run: str, cell: str = "cell", fresh: bool = False, **settings: Any) -> Session:
        session = known.take(cell, run, make(**settings), fresh=fresh)
        version = session.version
        session.set_bits("*", 3)
        assert (version > 0) == (session.version > 1)
        return session

    first = [opened("1"), opened("1")]
    assert [session.version for session in first] == [1, 1], "opened twice in one run"
    assert opened("1", cell="another").version == 1
    second = opened("2")
    assert second.version == 2
    third = opened("3", fresh=True)
    assert third.version == 1
    fourth = opened("4", target="parquet")
    assert fourth.version == 1
    fifth = opened("5")
    assert fifth.version == 1, "not opened so in the last run"
    sixth = opened("6", seed=1)
    assert sixth.version == 1, "the file has other contents"
    seventh = opened("7", seed=1)
    assert seventh.version == 2
    seventh.close()
    eighth = opened("8", seed=1)
    assert eighth.version == 1, "it was closed"
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert opened("9", seed=1).version == 1, "the file was written anew, and the old session reads it no more"


def test_nothing_changed_is_nothing_to_go_on_with(make: Callable[..., Session]) -> None:
    known = CellSessions()
    first = known.take("cell", "1", make())
    second = make()
    assert known.take("cell", "2", second) is second
    first.close()
    second.close()
