"""The figures beside the table, and those of the chosen layer below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import unescape
from typing import Any

import ipywidgets as widgets

from workbench import figures
from workbench.errors import ConfigurationError
from workbench.session import Session
from workbench.ui.chart import Chart
from workbench.ui.later import Later
from workbench.ui.plotly_library import library
from workbench.ui.strip import Strip

PAUSE = 0.15
"""Seconds without an edit before the figures follow."""

HEIGHT = 320
"""Pixels of a figure."""

QUICK = ("uniform", "threshold", "sorted_greedy", "entropy_rule")
"""Policies whose marks the front shows; annealing takes too long to follow every edit."""


class Charts:
    """Front, entropy along depth and heat map of a session, drawn after the edits pause.

    Parameters
    ----------
    session : Session
    strip : Strip
    choose : callable
        Takes the name of a layer that was clicked.
    """

    def __init__(self, session: Session, strip: Strip, choose: Callable[[str], None]) -> None:
        self.session = session
        self._strip = strip
        self._choose = choose
        self.front = Chart(
            "Damage against size: the front of best plans, policies, and the present plan", HEIGHT
        )
        self.depth = Chart("Entropy of the weights and of the choice along depth, coloured by bits", HEIGHT)
        self.heat = Chart("Heat map of the layers", HEIGHT)
        self.widget = widgets.GridBox(
            [self.front, self.depth, self.heat],
            layout=widgets.Layout(
                flex="1 1 420px", min_width="0", grid_template_columns="repeat(auto-fit, minmax(360px, 1fr))"
            ),
        )
        self.front.on_click(strip.guard(self._to_size))
        self.depth.on_click(strip.guard(self._to_layer))
        self.heat.on_click(strip.guard(self._to_layer))
        self._later = Later(self.draw, PAUSE, strip.error)

    def follow(self) -> None:
        """Draw again when the edits pause."""
        self._later.ask()

    def draw(self) -> None:
        """Draw all, now."""
        library()
        session = self.session
        try:
            policies = session.compare(only=QUICK)
        except ConfigurationError:  # no uniform plan is as small as this one
            policies = session.compare(only=[name for name in QUICK if name != "uniform"])
        self.front.show(figures.front(session, policies))
        self.depth.show(figures.entropy_along_depth(session))
        draw = figures.option_costs if session.time_aware is None else figures.damage_over_time
        heat = draw(session)
        # The names are under the pointer, and in the table.
        heat.update_yaxes(showticklabels=False, ticks="", title={"text": "layers"})
        size = max(2.0, min(7.0, HEIGHT / len(session.layers)))
        heat.update_traces(marker={"size": size, "line": {"width": size / 6}}, selector={"type": "scatter"})
        self.heat.show(heat)

    def mark(self, names: list[str]) -> None:
        """Let layers stand out."""
        self.depth.chosen = self.heat.chosen = names

    def end(self) -> None:
        """Draw no more."""
        self._later.end()

    def _to_size(self, click: Mapping[str, Any]) -> None:
        self.session.solve(bpw=float(click["x"]))

    def _to_layer(self, click: Mapping[str, Any]) -> None:
        custom = click["customdata"]
        self._choose(unescape(str(custom[0] if isinstance(custom, list) else click["y"])))


class Detail:
    """The chosen layer from close by: weights and codes, error by channel, range over time.

    Parameters
    ----------
    session : Session
    strip : Strip
    """

    def __init__(self, session: Session, strip: Strip) -> None:
        self.session = session
        self.layer: str | None = None
        self._title = widgets.HTML("<i>Choose a layer to see its weights and its error from close by.</i>")
        self.weights = Chart("Histogram of the layer's weights with the levels of its codes", 240)
        self.channels = Chart("Error of the layer's weights by input channel", 240)
        self.time = Chart("Range of the layer's input over denoising time", 240)
        charts = [self.weights, self.channels, *([self.time] if session.time_aware else [])]
        self._row = widgets.GridBox(
            charts,
            layout=widgets.Layout(
                grid_template_columns=f"repeat({len(charts)}, minmax(0, 1fr))", display="none"
            ),
        )
        self.widget = widgets.VBox([self._title, self._row])
        self._later = Later(self.draw, PAUSE, strip.error)

    def show(self, layer: str | None) -> None:
        """Show a layer, when the cursor rests."""
        self.layer = layer
        self._later.ask()

    def follow(self) -> None:
        """Draw the same layer again."""
        if self.layer is not None:
            self._later.ask()

    def draw(self) -> None:
        """Draw the layer, now."""
        if self.layer is None:
            return
        library()
        detail = self.session.detail(self.layer)
        option = detail.option
        stored = (
            "kept as it is"
            if option.is_kept
            else f"{option.bits} bits, {option.scheme}, groups of {option.group_size}"
        )
        self._title.value = (
            f"<b>{figures.escape(detail.layer.name)}</b> &nbsp; {stored}, {detail.rows:,} rows looked at"
        )
        self._row.layout.display = ""
        self.weights.show(figures.weight_levels(detail))
        self.channels.show(figures.error_by_channel(detail))
        time_aware = self.session.time_aware
        if time_aware is not None:
            is_recorded = detail.layer.kind != "embedding" and self.layer in time_aware.records.layers
            # What was drawn of another layer must not stand beside this one.
            self.time.layout.visibility = "visible" if is_recorded else "hidden"
            if is_recorded:
                self.time.show(figures.range_over_time(time_aware, self.layer))

    def end(self) -> None:
        """Draw no more."""
        self._later.end()
