"""A command is one value for method, script, browser and undo, and nothing that a browser sends is trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import workbench as wb
from workbench.session import Session
from workbench.session.commands import (
    Command,
    Edit,
    Follow,
    Keep,
    Lock,
    Redo,
    SetBits,
    SetOption,
    Solve,
    Undo,
    Unlock,
    act_of,
    edit_of,
)
from workbench.thermo import Goal

NAMES = ("a.weight", "b.weight", "c.weight")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", target="mlx", cache=tmp_path_factory.mktemp("cache")) as session:
        yield session


EDITS: list[Edit] = [
    SetBits("*attn1*", 7),
    SetBits(("proj_out_1.weight", "role:mlp.*"), group_size=32),
    Keep("proj_out_2.weight"),
    Lock("role:modulation"),
    Lock("*to_v*", bits=6),
    Unlock(),
    Solve(Goal(bpw=4.5, min_cosine=0.9), floors={"*attn1*": 3}, ties=(("*to_q*", "*to_k*"),)),
    Solve(Goal(size="2.6 MB"), lock_edits=True),
    Follow("threshold"),
    Follow("uniform", "3MB"),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.to_python())
def test_the_line_of_an_edit_is_the_edit(edit: Edit, session: Session) -> None:
    before = session.snapshot.state
    expected = edit.apply(before)
    exec(edit.to_python(), {"s": session, "wb": wb})
    after = session.snapshot.state
    assert (after.choice, after.locks, after.by_hand, after.notes) == (
        expected.choice, expected.locks, expected.by_hand, expected.notes,
    )  # fmt: skip
    assert after.plan == expected.plan
    assert session.script[-1].partition("  #")[0] == edit.to_python()
    assert session.undo()
    assert session.snapshot.state is before, "an edit changes no state, it makes one"


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ({"action": "bits", "rows": [0, 2], "bits": 5}, SetBits((NAMES[0], NAMES[2]), 5)),
        (
            {"action": "bits", "rows": [1], "bits": 4, "scheme": "Q4_0", "group_size": 32},
            SetBits((NAMES[1],), 4, 32, "Q4_0"),
        ),
        ({"action": "keep", "rows": [1]}, Keep((NAMES[1],))),
        ({"action": "lock", "rows": [1]}, Lock((NAMES[1],))),
        ({"action": "unlock", "rows": [1]}, Unlock((NAMES[1],))),
        ({"action": "undo"}, Undo()),
        ({"action": "redo", "rows": []}, Redo()),
    ],
    ids=str,
)
def test_an_edit_of_the_table_is_a_command(message: dict[str, Any], command: Command) -> None:
    assert edit_of(message, NAMES) == command


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ({"act": "solve", "size": " 2 MB "}, Solve(Goal(size="2 MB"))),
        ({"act": "solve", "size": 2_000_000, "edits": "lock"}, Solve(Goal(size=2_000_000), lock_edits=True)),
        ({"act": "budget", "nbytes": 7}, Solve(Goal(size=7))),
        ({"act": "solve", "bpw": 4}, Solve(Goal(bpw=4.0))),
        ({"act": "solve", "temperature": 1e-7}, Solve(Goal(temperature=1e-7))),
        ({"act": "follow", "policy": "uniform"}, Follow("uniform")),
        ({"act": "lock", "role": "head"}, Lock("role:head")),
        ({"act": "unlock"}, Unlock("*")),
        ({"act": "export", "folder": "out"}, None),
        ({"act": "__class__"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_an_action_of_the_toolbar_is_a_command(message: dict[str, Any], command: Command | None) -> None:
    assert act_of(message, NAMES) == command


@pytest.mark.parametrize(
    "message",
    [
        {"action": "unlock"},
        {"action": "keep", "rows": [3]},
        {"action": "keep", "rows": [True]},
        {"action": "keep", "role": "head"},
        {"action": "bits", "rows": [0], "bits": 4, "scheme": 5},
        {"action": "bits", "rows": [0], "bits": 4, "group_size": 32.0},
        {"action": ["bits"], "rows": [0]},
        {"action": "solve", "rows": [0]},
    ],
    ids=str,
)
def test_what_is_no_edit_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(wb.ArgumentError):
        edit_of(message, NAMES)


@pytest.mark.parametrize(
    "message",
    [
        {"act": "solve"},
        {"act": "solve", "size": [1]},
        {"act": "solve", "size": True},
        {"act": "solve", "bpw": True},
        {"act": "solve", "bpw": float("nan")},
        {"act": "solve", "bpw": -1},
        {"act": "solve", "temperature": "1e-7"},
        {"act": "budget", "nbytes": -5},
        {"act": "solve", "size": "20 parsecs"},
        {"act": "follow", "policy": "magic"},
        {"act": "follow", "policy": None},
        {"act": "lock"},
        {"act": "lock", "role": 3},
        {"act": "unlock", "rows": "all"},
    ],
    ids=str,
)
def test_what_is_no_action_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(wb.ArgumentError):
        act_of(message, NAMES)


def test_an_edit_that_fails_changes_nothing(session: Session) -> None:
    before, script = session.snapshot, session.script
    option = next(iter(session.plan.choices.values()))
    for edit in (Keep("*nothing*"), SetOption("*", option), Solve(Goal(size=10))):
        with pytest.raises(wb.UsageError):
            session.do(edit)
    assert session.snapshot is before
    assert session.script == script


def test_a_snapshot_stays_as_it_was(session: Session) -> None:
    then = session.snapshot
    plan, present = then.plan, then.present
    session.set_bits("*", 3)
    assert then.plan == plan != session.plan
    assert then.present is present
    assert then.where("bits == 3") != session.where("bits == 3")
    session.undo()
