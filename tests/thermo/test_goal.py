"""A goal is one thing, and says so where it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.__main__ import run
from workbench.thermo import Goal


@pytest.mark.parametrize(
    "given",
    [
        {"size": 1000},
        {"size": "2.5GB", "min_cosine": 0.9},
        {"bpw": np.float32(4.5)},
        {"bpw": np.int64(4)},
        {"temperature": float("inf")},
        {"max_damage": 0},
        {"min_cosine": 0.99},
    ],
    ids=str,
)
def test_one_goal_is_enough(given: dict[str, Any]) -> None:
    goal = Goal(**given)
    assert goal.nbytes == {1000: 1000, "2.5GB": 2_500_000_000, None: None}[given.get("size")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs one goal of size, bpw, temperature, max_damage, or min_cosine alone; it was given none"),
        ({"size": 10, "bpw": 4}, "it was given size and bpw"),
        ({"bpw": -1}, "bpw must not be negative or NaN, as -1 is"),
        ({"temperature": float("nan")}, "temperature must not be negative"),
        ({"size": -1}, "size must not be negative"),
        ({"size": "2 horses"}, "not a size"),
        ({"bpw": "4"}, "bpw must not be"),
    ],
    ids=str,
)
def test_others_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(wb.ConfigurationError, match=message):
        Goal(**given)


def test_the_command_line_hears_of_it_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "zoo:digits-dit", "--size", "2MB", "--bpw", "4", "--dry-run"]) == 2
    message = capsys.readouterr().err
    assert "needs one goal of --size, --bpw, --temperature, --max-damage, or --min-cosine alone" in message
    assert "it was given --size and --bpw" in message
