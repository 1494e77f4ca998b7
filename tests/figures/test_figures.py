"""The figures say what the session says: their points are its front, its totals, its layers and widths."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest

import workbench as wb
from workbench import figures
from workbench.figures.front import POLICIES
from workbench.figures.widths import COLOURS, SYMBOLS, colour_of
from workbench.session import Session
from workbench.thermo import cost_table, trace

Draw = Callable[..., go.Figure]

ALL = [figures.front, figures.entropy_along_depth, figures.option_costs, figures.temperature_sweep]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session(cache: Path) -> Iterator[Session]:
    with wb.open("zoo:digits-dit", target="mlx", group_size=64, cache=cache) as digits:
        digits.solve(bpw=4.0)
        yield digits


def named(figure: go.Figure) -> dict[str, Any]:
    return {one.name: one for one in figure.data}


def drawn(figure: go.Figure, kind: str) -> Any:
    (found,) = [one for one in figure.data if one.type == kind]
    return found


@pytest.mark.parametrize("draw", ALL)
def test_every_figure_serialises_and_names_its_axes(session: Session, draw: Draw) -> None:
    session.lock("role:head", bits=8)
    figure = draw(session, template="plotly_dark")
    document = json.loads(figure.to_json())
    assert len(figure.to_json()) < 100_000, "a figure is a message to the browser"
    assert document["layout"]["template"]["layout"]["paper_bgcolor"] == "rgb(17,17,17)"
    assert figure.layout.title.text
    axes = [
        axis["title"]["text"] for key, axis in document["layout"].items() if "axis" in key and "title" in axis
    ]
    assert len(axes) >= 2
    assert all(one.hovertemplate for one in figure.data)


@pytest.mark.parametrize("draw", ALL)
def test_drawing_changes_nothing(session: Session, draw: Draw) -> None:
    before = session.version, session.plan
    assert draw(session).to_json() == draw(session).to_json()
    assert (session.version, session.plan) == before


def test_the_front_is_that_of_the_solver(session: Session) -> None:
    line = named(figures.front(session))["front"]
    found = trace(cost_table(session.options, session.checkpoint.layers))
    size, damage = np.array(line.x), np.array(line.y)
    assert (damage > 0).all(), "the axis is logarithmic"
    assert damage == pytest.approx(found.damage[found.damage > 0])
    params = sum(session.layers["params"].to_pylist())
    assert size == pytest.approx(8 * found.nbytes[: len(size)] / params)
    slopes = np.diff(damage) / np.diff(size)
    assert (slopes < 0).all()
    assert (np.diff(slopes) >= -1e-12 * np.abs(slopes[1:])).all(), "the front is convex"


def test_plans_stand_where_their_totals_are_and_never_below_the_front(session: Session) -> None:
    table = session.compare()
    figure = figures.front(session, table)
    marks = named(figure)
    here = marks["you are here"]
    assert (here.x[0], here.y[0]) == (session.totals.bpw, session.totals.damage)
    assert set(table["policy"].to_pylist()) == set(POLICIES)
    for row in table.to_pylist():
        mark = marks[row["policy"]]
        assert (mark.x[0], mark.y[0]) == (row["bpw"], row["damage"])
        assert mark.y[0] - mark.error_y.arrayminus[0] == pytest.approx(row["solver_damage"])
        least = np.interp(mark.x[0], marks["front"].x, marks["front"].y)
        assert mark.y[0] >= least * (1 - 1e-9)


def test_locks_have_a_front_of_their_own(session: Session) -> None:
    assert len(figures.front(session).data) == 2 + len(POLICIES)
    session.lock("*norm1.linear*", bits=8)
    session.solve(bpw=5.0)
    marks = named(figures.front(session))
    free, locked = marks["front"], marks["front under 3 locks"]
    sizes = np.linspace(max(free.x[0], locked.x[0]), min(free.x[-1], locked.x[-1]))
    assert (np.interp(sizes, locked.x, locked.y) >= np.interp(sizes, free.x, free.y) * (1 - 1e-9)).all()
    here = marks["you are here"]
    assert here.y[0] >= np.interp(here.x[0], locked.x, locked.y) * (1 - 1e-9)


def test_entropies_stand_at_their_layers(session: Session) -> None:
    figure = figures.entropy_along_depth(session)
    names, plan = session.layers["name"].to_pylist(), session.plan
    weights = dict(zip(names, session.layers["entropy"].to_pylist(), strict=True))
    settled = dict(zip(names, session.thermodynamics["entropy"].to_pylist(), strict=True))
    depths = dict(zip(names, session.layers["depth"].to_pylist(), strict=True))
    for axis, expected in (("y", weights), ("y2", settled)):
        marks = [
            (mark, name, x, y)
            for mark in figure.data
            if mark.yaxis == axis
            for (name, _), x, y in zip(mark.customdata, mark.x, mark.y, strict=True)
        ]
        assert sorted(name for _, name, _, _ in marks) == sorted(names)
        for mark, name, x, y in marks:
            assert y == expected[name]
            assert round(x) == (-1 if depths[name] is None else depths[name])
            assert mark.marker.color == colour_of(plan.choices[name].bits)
        assert len({x for _, _, x, _ in marks}) == len(names), "no layer hides another"


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_widths_differ_by_lightness_and_symbol() -> None:
    assert set(COLOURS) == set(SYMBOLS) == set(range(2, 9))
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
    assert (np.diff([luminance(COLOURS[bits]) for bits in sorted(COLOURS)]) > 0).all()


# White; the dark grounds of JupyterLab and Voila, of VS Code, and of a page without a host.
@pytest.mark.parametrize("ground", ["#ffffff", "#111111", "#1e1e1e", "#1b1b1d", "#212121"])
def test_marks_stand_out_from_light_and_dark(ground: str) -> None:
    marks: dict[object, str] = {
        **{bits: colour_of(bits) for bits in range(2, 10)},
        **{name: colour for name, (colour, _) in POLICIES.items()},
    }
    assert {name: colour for name, colour in marks.items() if contrast(colour, ground) < 3} == {}


def test_option_costs_are_the_least_of_each_width(session: Session) -> None:
    session.set_bits("proj_out_2.weight", 6)
    figure = figures.option_costs(session)
    heat = drawn(figure, "heatmap")
    assert heat.x == ("2", "3", "4", "5", "6", "8"), "what the target has"
    assert sorted(heat.y) == sorted(session.layers["name"].to_pylist())
    planner = session.options.to_pylist()
    for name, line in zip(heat.y, heat.z, strict=True):
        for bits, value in zip(heat.x, line, strict=True):
            damage = [row["damage"] for row in planner if row["layer"] == name and row["bits"] == int(bits)]
            damaged = [one for one in damage if one > 0]
            assert (10**value == pytest.approx(min(damaged))) if damaged else np.isnan(value)
    dots = drawn(figure, "scatter")
    shown = dict(zip(dots.y, dots.x, strict=True))
    kept = {name for name, option in session.plan.choices.items() if option.is_kept}
    assert shown == {
        name: str(option.bits) for name, option in session.plan.choices.items() if name not in kept
    }
    assert shown["proj_out_2.weight"] == "6"


def test_no_layer_gains_bits_as_the_temperature_rises(session: Session) -> None:
    session.lock("role:head", bits=8)
    heat = drawn(figures.temperature_sweep(session), "heatmap")
    bits = np.array(heat.customdata)
    assert bits.shape == (session.layers.num_rows, len(heat.x))
    assert (np.diff(heat.x) > 0).all()
    size = np.array(drawn(figures.temperature_sweep(session), "scatter").y)
    assert (np.diff(size) <= 0).all()
    assert size[-1] < 3.5
    assert size[0] > 10
    assert (bits[heat.y.index("proj_out_2.weight")] == 8).all(), "a lock holds at any temperature"


def test_a_sweep_meets_the_solver_at_every_temperature(session: Session) -> None:
    asked = [1e-9, 1e-7, 1e-6]
    heat = drawn(figures.temperature_sweep(session, asked), "heatmap")
    for column, temperature in enumerate(asked):
        session.solve(temperature=temperature)
        shown = {name: line[column] for name, line in zip(heat.y, heat.customdata, strict=True)}
        assert shown == {name: option.bits for name, option in session.plan.choices.items()}
    with pytest.raises(ValueError, match="above 0"):
        figures.temperature_sweep(session, [0.0, 1.0])


def test_many_layers_keep_their_axis_readable_and_names_are_escaped(
    make_checkpoint: Callable[..., Path], cache: Path
) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        f"blocks.{block}.a<a href='https://example.org'>b</a>.weight": rng.standard_normal(
            (64, 64), np.float32
        )
        for block in range(130)
    }
    with wb.open(make_checkpoint(tensors), target="mlx", cache=cache) as many:
        for draw in ALL:
            assert "<a href" not in draw(many).to_json()
        axis = figures.option_costs(many).layout.yaxis
        assert len(axis.tickvals) == len(axis.ticktext) <= 60
        assert axis.ticktext[1].startswith("3: ")
        assert all(len(text.replace("&lt;", "<").replace("&gt;", ">")) <= 40 for text in axis.ticktext)


@pytest.mark.parametrize("draw", ALL)
def test_a_figure_is_shown_without_uploads(
    session: Session, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pio.renderers, "default", "plotly_mimetype+notebook_connected")
    figure = draw(session)
    shown = figure._repr_mimebundle_()
    for document in (shown["application/vnd.plotly.v1+json"], json.loads(figure.to_display_json())):
        assert document["config"]["showSendToCloud"] is False
        assert document["config"]["displaylogo"] is False
        assert "sendChartToCloud" in document["layout"]["modebar"]["remove"]
    for saved in (shown["text/html"], figure.to_html(config={"scrollZoom": True})):
        assert '"showSendToCloud": false' in saved
    assert '"scrollZoom": true' in figure.to_html(config={"scrollZoom": True}), (
        "one's own settings beside them"
    )


def test_layers_stand_in_natural_order(unet: Path, cache: Path) -> None:
    with wb.open(
        unet / "model", target="mlx", group_size=32, calibration=unet / "calibration.parquet", cache=cache
    ) as session:
        assert session.time_aware is not None
        heat_maps = (
            figures.option_costs(session),
            figures.temperature_sweep(session),
            figures.damage_over_time(session),
            figures.activation_levels(session.time_aware),
        )
    for figure in heat_maps:
        names = drawn(figure, "heatmap").y
        keys = [
            name for name in names if name.startswith("down_blocks.0.attentions.0.t") and "attn1.to_k" in name
        ]
        assert [int(name.split(".")[5]) for name in keys] == list(range(12)), "block 2 before block 10"
