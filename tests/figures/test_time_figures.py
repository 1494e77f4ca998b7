"""The figures of denoising time show what the records hold, in the order in which denoising runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench import figures
from workbench.calibration import TimeAwareQuantizer, second_moments
from workbench.errors import ArgumentError, ValidationError
from workbench.session import Session

LAYER = "transformer_blocks.0.ff.net.2.weight"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    cache = tmp_path_factory.mktemp("cache")
    with wb.open("zoo:digits-dit", calibration="zoo:digits-dit", num_time_groups=5, cache=cache) as digits:
        yield digits


def recorded(session: Session) -> TimeAwareQuantizer:
    assert session.time_aware is not None
    return session.time_aware


def test_levels_are_relative_to_each_layers_own_mean(session: Session) -> None:
    (heat,) = figures.activation_levels(recorded(session)).data
    names, levels = second_moments(recorded(session).records, recorded(session).groups)
    assert list(heat.y) == names
    shown = np.array(heat.z, float)
    assert shown.mean(axis=1) == pytest.approx(0, abs=1e-9)
    row = names.index(LAYER)
    assert shown[row] - shown[row][0] == pytest.approx(np.log2(levels[row] / levels[row][0]))


def test_damage_over_time_is_the_sessions(session: Session) -> None:
    (heat,) = figures.damage_over_time(session).data
    damage = session.damage_by_group
    damage[damage == 0] = np.nan  # a kept layer has no logarithm
    assert 10 ** np.array(heat.z, float) == pytest.approx(damage, rel=1e-9, nan_ok=True)


def test_a_range_is_drawn_with_its_groups(session: Session) -> None:
    figure = figures.range_over_time(recorded(session), LAYER)
    drawn = {one.name: one for one in figure.data}
    ranges = recorded(session).ranges(LAYER)
    assert list(drawn["8-bit table: greatest"].y[:-1]) == pytest.approx(ranges[:, 1].tolist())
    assert len(figure.layout.shapes) == 4, "a line at each border"
    with pytest.raises(ValidationError, match="no record"):
        figures.range_over_time(recorded(session), "nobody")


def test_importance_is_sorted_and_explained(session: Session) -> None:
    (bars,) = figures.importance(session.importance).data
    assert list(bars.x) == sorted(bars.x, reverse=True)
    assert bars.y[0] == "pos_embed.proj.weight"
    assert "weights" in bars.customdata[0][0]


def test_time_runs_from_noise_to_image(session: Session) -> None:
    for figure in (
        figures.activation_levels(recorded(session)),
        figures.damage_over_time(session),
        figures.range_over_time(recorded(session), LAYER),
    ):
        layout = json.loads(figure.to_json())["layout"]
        assert layout["xaxis"]["autorange"] == "reversed"
        assert layout["xaxis"]["title"]["text"] == "timestep"
        assert len(figure.to_json()) < 100_000


def test_without_a_calibration_there_is_no_damage_over_time(tmp_path: Path) -> None:
    with (
        wb.open("zoo:digits-dit", cache=tmp_path) as plain,
        pytest.raises(ArgumentError, match="calibration"),
    ):
        figures.damage_over_time(plain)
