"""A session can follow the simple policies, to compare with; the solver is never worse at their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb
from workbench.session import Session

SIZED = ("uniform", "sorted_greedy", "annealing")
ALL = (*SIZED, "entropy_rule", "threshold")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session(cache: Path) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", target="mlx", group_size=64, cache=cache) as session:
        yield session


@pytest.mark.parametrize("policy", ALL)
def test_following_is_one_edit_and_says_how_the_plan_came_about(session: Session, policy: str) -> None:
    session.solve("2.9MB")
    before = session.plan
    totals = session.follow(policy)
    assert totals == session.totals
    assert session.plan.made_by["method"] == policy
    assert session.script[-1] == f"s.follow({policy!r})"
    assert session.undo()
    assert session.plan == before


@pytest.mark.parametrize("policy", SIZED)
@pytest.mark.parametrize("size", ["2.4MB", 3_000_000])
def test_a_size_is_kept(session: Session, policy: str, size: int | str) -> None:
    limit = 2_400_000 if size == "2.4MB" else 3_000_000
    totals = session.follow(policy, size)
    assert totals.nbytes <= limit
    # A payload's header tells how its plan was made, which takes the solver a few bytes more.
    assert session.solve(totals.nbytes).damage <= totals.damage * 1.001, "the solver is no worse"


def test_they_are_the_points_of_the_comparison(session: Session) -> None:
    session.solve("2.7MB")
    compared = {row["policy"]: row for row in session.compare().to_pylist()}
    for policy in ALL:
        session.follow(policy)
        assert session.totals.damage == pytest.approx(compared[policy]["damage"], rel=1e-12)
        assert session.undo()


def test_the_threshold_is_met_by_every_layer(session: Session) -> None:
    session.follow("threshold")
    assert max(session.thermodynamics["damage"].to_pylist()) <= 0.01


def test_what_cannot_be_followed(session: Session) -> None:
    before = session.plan
    with pytest.raises(wb.ConfigurationError, match="no policy 'luck'; allowed: uniform"):
        session.follow("luck")
    with pytest.raises(wb.ConfigurationError):
        session.follow("uniform", "1kB")
    assert session.plan == before
    assert session.script == ()
