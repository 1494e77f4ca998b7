"""A session with a calibration: damage is the error of the image, and layers that deserve bits come out hot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.errors import ArgumentError, ModelNotFoundError, ValidationError
from workbench.session import Session


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session(cache: Path) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", calibration="zoo:digits-dit", group_size=64, cache=cache) as calibrated:
        yield calibrated


@pytest.fixture
def plain(cache: Path) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", group_size=64, cache=cache) as by_weights:
        yield by_weights


def heat(session: Session) -> dict[str, float]:
    """Each layer's local temperature over that of a typical one."""
    table = session.thermodynamics
    up = table["temperature_up"].to_numpy()
    return dict(zip(table["name"].to_pylist(), (up / np.median(up)).tolist(), strict=True))


def test_the_layers_that_everything_passes_through_come_out_hot(session: Session, plain: Session) -> None:
    hot, by_weights = heat(session), heat(plain)
    assert max(hot, key=hot.__getitem__) == "proj_out_2.weight"
    modulation = "transformer_blocks.0.norm1.linear.weight"
    for deserving in ("proj_out_2.weight", modulation):
        assert hot[deserving] > 1.5 * by_weights[deserving]
    important = session.importance.sort_by([("kappa", "descending")]).to_pylist()
    assert [row["layer"] for row in important[:3]] == [
        "pos_embed.proj.weight",
        "proj_out_2.weight",
        modulation,
    ]
    assert important[0]["remark"].startswith("1,024 weights, but an error in their output weighs")


def test_the_profile_gets_columns_of_time(session: Session, plain: Session) -> None:
    added = set(session.layers.column_names) - set(plain.layers.column_names)
    assert added == {"eta_squared", "heterogeneity", "scale_jump", "importance"}
    rows = {row["name"]: row for row in session.layers.to_pylist()}
    assert all(row["importance"] > 0 for row in rows.values())
    table = rows["transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"]
    assert table["heterogeneity"] is None, "the input of an embedding is no activation"


def test_damage_by_group_adds_up_to_the_total(session: Session) -> None:
    damage = session.damage_by_group
    assert damage.shape == (33, 10)
    exact = {row["name"]: row["damage"] for row in session.thermodynamics.to_pylist()}
    whole = dict(zip(session.layers["name"].to_pylist(), damage.sum(axis=1).tolist(), strict=True))
    assert whole == pytest.approx(exact, rel=1e-6)
    assert session.totals.damage == pytest.approx(damage.sum(), rel=1e-6)


def test_plans_differ_and_each_is_best_by_its_own_measure(session: Session, plain: Session) -> None:
    for one in (session, plain):
        one.solve(1_700_000)
    assert session.plan.choices != plain.plan.choices
    options = {
        (row["layer"], row["bits"], row["scheme"], row["group_size"]): row["damage"]
        for row in session.options.to_pylist()
    }
    by_image = sum(options[name, o.bits, o.scheme, o.group_size] for name, o in plain.plan.choices.items())
    assert session.totals.damage < 0.9 * by_image


def test_regrouping_and_the_estimator_change_the_damage(cache: Path) -> None:
    totals = {}
    for groups in (1, 5):
        for importance in ("none", "fisher:step"):
            with wb.open(
                "zoo:digits-dit",
                calibration="zoo:digits-dit",
                num_time_groups=groups,
                importance=importance,
                cache=cache,
            ) as session:
                totals[groups, importance] = session.totals.damage
                assert session.time_aware is not None
                assert len(session.time_aware.groups) == groups
    assert len(set(totals.values())) == 4


def test_an_export_carries_the_activation_tables(session: Session, tmp_path: Path) -> None:
    report = session.export(tmp_path / "out").result()
    assert not any("enable_time_aware" in note for note in report.notes), "the tables are there"
    record: dict[str, Any] = json.loads((tmp_path / "out" / "workbench.json").read_text())
    tables = record["activation_tables"]
    assert tables["time"] == "timestep"
    assert len(tables["groups"]) == 10
    assert sum(group["share"] for group in tables["groups"]) == pytest.approx(1)
    entry = tables["layers"]["transformer_blocks.0.attn1.to_q.weight"]
    assert entry["group"] == list(range(10))
    assert all(scale > 0 for scale in entry["scale"])
    assert all(0 <= zero <= 255 for zero in entry["zero_point"])
    assert wb.verify(tmp_path / "out", "zoo:digits-dit").ok


def test_without_a_calibration_it_says_what_to_do(plain: Session) -> None:
    assert plain.time_aware is None
    with pytest.raises(ArgumentError, match="calibration=…"):
        _ = plain.importance


def test_records_of_another_model_are_refused(cache: Path, make_checkpoint: Any) -> None:
    with pytest.raises(ValidationError, match="made with other weights"):
        wb.open(make_checkpoint(), calibration="zoo:digits-dit", cache=cache)
    with pytest.raises(ModelNotFoundError, match=r"nowhere\.parquet"):
        wb.open("zoo:digits-dit", calibration="nowhere.parquet", cache=cache)
    with pytest.raises(ArgumentError, match="fisher:step"):
        wb.open("zoo:digits-dit", calibration="zoo:digits-dit", importance="guess", cache=cache)
