"""Figures as a browser draws them: none has a button that uploads it, however it is shown or saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
import pytest
from playwright.sync_api import Browser, Page
from plotly.offline import get_plotlyjs

import workbench as wb
from workbench import figures
from workbench.calibration import TimeAwareQuantizer
from workbench.session import Session

BUTTONS = """(buttons) => [...document.querySelectorAll(buttons)].map(
    (one) => `${one.dataset.title ?? ""} ${one.dataset.attr ?? ""} ${one.href ?? ""}`.toLowerCase())"""
UPLOADS = ("share", "cloud", "chart studio", "upload", "plotly.com", "plot.ly")


def recorded(session: Session) -> TimeAwareQuantizer:
    assert session.time_aware is not None
    return session.time_aware


Draw = Callable[[Session], figures.Figure]
DRAWS: dict[str, Draw] = {
    "front": figures.front,
    "entropy_along_depth": figures.entropy_along_depth,
    "option_costs": figures.option_costs,
    "temperature_sweep": figures.temperature_sweep,
    "damage_over_time": figures.damage_over_time,
    "activation_levels": lambda session: figures.activation_levels(recorded(session)),
    "importance": lambda session: figures.importance(session.importance),
    "range_over_time": lambda session: figures.range_over_time(
        recorded(session), session.layers["name"][9].as_py()
    ),
    "weight_levels": lambda session: figures.weight_levels(session.detail(session.layers["name"][9].as_py())),
    "error_by_channel": lambda session: figures.error_by_channel(
        session.detail(session.layers["name"][9].as_py())
    ),
}


@pytest.fixture(scope="module")
def session(unet: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with wb.open(
        unet / "model", target="mlx", group_size=32, calibration=unet / "calibration.parquet",
        cache=tmp_path_factory.mktemp("cache"),
    ) as opened:  # fmt: skip
        yield opened


def sections(page: Page, path: Path, html: dict[str, list[str]]) -> dict[str, list[str]]:
    """The buttons that upload, or lead to a service that does, by section of a page with saved figures."""
    parts = "".join(f'<section id="{name}">{"".join(all_of)}</section>' for name, all_of in html.items())
    path.write_text(f"<script>{get_plotlyjs()}</script>{parts}", encoding="utf-8")
    page.goto(path.as_uri())
    page.wait_for_function(
        "count => document.querySelectorAll('.modebar').length === count",
        arg=sum(map(len, html.values())),
    )
    found = {name: page.evaluate(BUTTONS, f"#{name} .modebar-btn") for name in html}
    for name, buttons in found.items():
        assert any("download plot" in button for button in buttons), f"{name}: these are the figures' buttons"
    return {
        name: [one for one in buttons if any(word in one for word in UPLOADS)]
        for name, buttons in found.items()
    }


def test_no_figure_offers_to_upload(browser: Browser, session: Session, tmp_path: Path) -> None:
    page = browser.new_page()
    within: dict[str, Any] = {"full_html": False, "include_plotlyjs": False}
    drawn = {name: draw(session) for name, draw in DRAWS.items()}
    (tmp_path / "saved").mkdir()
    for name, figure in drawn.items():
        figure.write_html(tmp_path / "saved" / name, **within)
    found = sections(
        page,
        tmp_path / "figures.html",
        {
            "plotly": [go.Figure(go.Scatter(y=[1, 2])).to_html(**within)],
            "saved": [(tmp_path / "saved" / name).read_text(encoding="utf-8") for name in drawn],
            # By means that know nothing of the figures' settings.
            "otherwise": [pio.to_html(go.Figure(figure), **within) for figure in drawn.values()],
        },
    )
    page.close()
    assert found["plotly"], "else plotly has changed, and its words are others now"
    assert found["saved"] == []
    assert [one for one in found["otherwise"] if "produced with plotly" not in one] == [], (
        "its logo leads to its site"
    )
