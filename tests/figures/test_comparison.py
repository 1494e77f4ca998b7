"""The figures of a comparison show what was measured."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pytest
from PIL import Image

from workbench import figures
from workbench.errors import ArgumentError
from workbench.live.validation.comparison import CALLS_SCHEMA, LAYERS_SCHEMA, Comparison
from workbench.live.validation.single_layers import TRIALS_SCHEMA


def comparison(alone: bool = False, shape: tuple[int, ...] = (2, 1, 4, 4)) -> Comparison:
    layers = [
        {
            "layer": f"<b>{place}", "role": "mlp.in", "bits": bits, "params": 10, "predicted": 0.01 * (place + 1),
            "measured": None if place == 3 else 0.02 * (place + 1), "predicted_by_group": [0.01, 0.02],
            "measured_by_group": [0.01, None], "damage": 0.1 * (place + 1),
        }
        for place, bits in enumerate((2, 4, 4, 4))
    ]  # fmt: skip
    trials = [
        {
            "layer": row["layer"], "bits": row["bits"], "scheme": "asymmetric", "group_size": 64,
            "is_present": is_present, "predicted": 0.1 * (place + 1),
            "measured": [0.2 / (place + 1), 0.4 / (place + 1)],
        }
        for place, row in enumerate(layers if alone else [])
        for is_present in (True, False)
    ]  # fmt: skip
    calls = [
        {
            "run": run,
            "call": call,
            "time": 9.0 - call,
            "group": call // 2,
            "error": 0.01 * (call + 1) * (run + 1),
        }
        for run in range(2)
        for call in range(4)
    ]
    generator = np.random.default_rng(0)
    return Comparison(
        plan_digest="", activations="none", layers=pa.Table.from_pylist(layers, LAYERS_SCHEMA),
        trials=pa.Table.from_pylist(trials, TRIALS_SCHEMA),
        calls=pa.Table.from_pylist(calls, CALLS_SCHEMA), errors=np.array([0.05, 0.07]), predicted_error=0.04, learnt={},
        metrics={"loss": (1.0, 1.5)},
        samples=tuple(generator.standard_normal((2, *shape)).astype(np.float32)),
    )  # fmt: skip


def test_points_are_the_layers_that_were_measured() -> None:
    figure = figures.predicted_against_measured(comparison())
    two, four, line = figure.data
    assert (two.name, four.name, line.name) == ("2 bits", "4 bits", "as predicted")
    assert list(four.x) == [0.02, 0.03]
    assert list(four.y) == pytest.approx([0.04, 0.06])
    assert four.customdata[0][0] == "&lt;b&gt;1"
    assert "rank correlation 1.000" in figure.layout.title.text


def test_one_layer_at_a_time_is_shown_where_it_was_measured() -> None:
    figure = figures.predicted_against_measured(comparison(alone=True))
    assert sum(len(trace.x) for trace in figure.data[:-1]) == 4
    assert "-1.000" in figure.layout.title.text


def test_growth_has_a_line_a_run_and_the_final_error() -> None:
    first, second, measured, predicted = figures.error_growth(comparison()).data
    assert list(first.y) == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert list(second.x) == [1, 2, 3, 4]
    assert (list(measured.x), list(measured.y)) == ([5], pytest.approx([0.06]))
    assert list(predicted.y) == [0.04]


def test_samples_share_a_scale() -> None:
    found = comparison()
    shown = pixels(figures.samples(found))
    assert shown.shape == (10, 10, 4), "two images of 4 × 4 across, two down, a pixel between them"
    low, high = found.samples[0].min(), found.samples[0].max()
    for row, col in ((0, 0), (0, 1), (1, 0), (1, 1)):
        image = shown[5 * row : 5 * row + 4, 5 * col : 5 * col + 4]
        wanted = np.clip((found.samples[row][col, 0] - low) / (high - low) * 255, 0, 255)
        assert np.abs(image[..., 0] - wanted).max() <= 1
        assert (image[..., 3] == 255).all()
    assert (shown[4] == 0).all(), "nothing between them"


def test_large_samples_are_thinned() -> None:
    found = comparison(shape=(1, 3, 40, 20))
    shown = pixels(figures.samples(found, side=16))
    low, high = found.samples[0].min(), found.samples[0].max()
    wanted = np.clip((found.samples[0][0, :, ::3, ::3] - low) / (high - low) * 255, 0, 255)
    assert np.abs(shown[:14, :7, :3] - wanted.transpose(1, 2, 0)).max() <= 1


def pixels(figure: go.Figure) -> np.ndarray[Any, Any]:
    _, data = figure.data[0].source.split(",")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), np.float64)


def test_groups_have_what_was_predicted_what_was_measured_and_the_output() -> None:
    predicted, measured, output = figures.error_by_group(comparison()).data
    assert (list(predicted.x), list(predicted.y)) == ([0, 1], [0.01, 0.02])
    assert (list(measured.x), list(measured.y)) == ([0], [0.01]), "what was not measured is not drawn"
    assert list(output.y) == pytest.approx([0.0225, 0.0525])


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no images"):
        figures.samples(comparison(shape=(2, 7)))


def test_the_text_says_it_all() -> None:
    found = comparison(alone=True)
    bundle = found._repr_mimebundle_()
    for text in (
        "error 0.06 over 2 runs",
        "predicted 0.04",
        "One layer at a time",
        "loss: 1 as it was, 1.5 with",
    ):
        assert text in bundle["text/plain"]
    assert bundle["text/html"].startswith("<pre>")
    assert found.by_group().to_pylist()[1] == {
        "group": 1,
        "output": pytest.approx(0.0525),
        "predicted": 0.02,
        "measured": None,
    }
