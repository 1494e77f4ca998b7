"""Every edit is told as a line of Python; the lines of a session, run in a fresh one, make the same plan."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.session import Session
from workbench.session.script import call


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def opened(cache: Path) -> Iterator[Callable[[], Session]]:
    sessions = []

    def open_it() -> Session:
        sessions.append(wb.open("zoo:digits-dit", target="mlx", cache=cache))
        return sessions[-1]

    yield open_it
    for session in sessions:
        session.close()


def repeat(lines: tuple[str, ...], session: Session) -> None:
    for line in lines:
        exec(line, {"s": session, "wb": wb})


SIZES: tuple[int | str, ...] = (2_500_000, "2.7MB", "2600 KiB")

EDITS: list[Callable[[Session, random.Random], Any]] = [
    lambda s, chance: s.set_bits(chance.choice(["*attn1*", "role:mlp.*", s.select("*")[3]]), chance.randint(2, 8)),
    lambda s, chance: s.set_bits(chance.sample(s.select("*"), 3), chance.randint(2, 8)),
    lambda s, chance: s.set_bits(np.array(s.select("*"))[:2], int(chance.randint(2, 8))),
    lambda s, chance: s.set_option(
        name := chance.choice(s.select("*")),
        wb.Option(*next(
            tuple(row[key] for key in ("bits", "scheme", "group_size", "nbytes"))
            for row in chance.sample(s.options.to_pylist(), s.options.num_rows) if row["layer"] == name
        )),
    ),
    lambda s, chance: s.keep(chance.choice(["*proj_out*", ["role:embedding"]])),
    lambda s, chance: s.lock(chance.choice(["role:modulation", "*to_v*"]), bits=chance.choice([None, 6])),
    lambda s, chance: s.unlock(*chance.choice([(), ("*to_v*",)])),
    lambda s, chance: s.solve(chance.choice(SIZES)),
    lambda s, chance: s.solve(bpw=4 + 2 * chance.random()),
    lambda s, chance: s.solve(bpw=np.float64(5.25), floors={"*attn1*": 4}, ties=[("*to_q*", "*to_k*")]),
    lambda s, chance: s.solve(temperature=10 ** chance.uniform(-8, -5)),
    lambda s, chance: s.solve(max_damage=0.5, ceilings={"*": 8}),
    lambda s, chance: s.solve(min_cosine=0.99),
    lambda s, chance: s.follow(chance.choice(["uniform", "sorted_greedy", "threshold", "entropy_rule"])),
    lambda s, chance: s.follow("uniform", "3MB"),
    lambda s, chance: s.undo(),
    lambda s, chance: s.undo(),
    lambda s, chance: s.redo(),
]  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, len(EDITS) - 1), st.integers(0, 2**32)), max_size=12))
def test_the_lines_make_the_same_plan(opened: Callable[[], Session], steps: list[tuple[int, int]]) -> None:
    session = opened()
    for kind, seed in steps:
        before, version = session.script, session.version
        try:
            EDITS[kind](session, random.Random(seed))
        except wb.ConfigurationError:  # a goal that the locks forbid: nothing was done, nothing is told
            assert session.script == before
        assert len(session.script) == session.version, "a line for each change"
        assert session.version - version in (0, 1)
    fresh = opened()
    repeat(session.script, fresh)
    assert fresh.plan == session.plan
    assert fresh.locked == session.locked
    assert fresh.script == session.script


def test_other_targets_and_files_are_told_too(opened: Callable[[], Session], tmp_path: Path) -> None:
    session = opened()
    session.set_bits("*attn1*", 3)
    session.plan.save(tmp_path / "it's a plan.yaml")
    session.solve("2.5MB")
    session.load_plan(tmp_path / "it's a plan.yaml")
    session.retarget("parquet")
    session.set_bits("*attn1*", 7)
    fresh = opened()
    repeat(session.script, fresh)
    assert fresh.plan == session.plan
    assert fresh.target.name == "parquet"


def test_lines_are_plain_python() -> None:
    assert call("set_bits", ("a", "b"), 4) == "s.set_bits(['a', 'b'], 4)"
    assert call("solve", bpw=np.float64(3.5), temperature=None, ties=()) == "s.solve(bpw=3.5)"
    assert call("set_option", "a", wb.Option(4, "affine", 64, 8)).startswith(
        "s.set_option('a', wb.Option(bits=4"
    )
    assert call("lock", "it's") == 's.lock("it\'s")'
