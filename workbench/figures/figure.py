"""`Figure`: a plotly figure that offers no upload, however it is shown or saved."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

UPLOADS = ("sendChartToCloud", "sendDataToCloud", "editInChartStudio")
"""Buttons of plotly's versions that send a figure to a server."""

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", *UPLOADS],
}
"""Settings of plotly.js that every figure is displayed and saved with."""


class Figure(go.Figure):  # type: ignore[misc]
    """A plotly figure whose display and saved HTML have the settings `CONFIG`.

    That no button uploads is part of the layout too, so that it also holds where a figure is displayed by other means,
    such as ``go.FigureWidget(figure)`` or ``plotly.io.write_html(figure, …)``.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.update_layout(modebar={"remove": list(UPLOADS)})

    def show(self, *arguments: Any, config: dict[str, Any] | None = None, **settings: Any) -> None:
        """Display the figure, see `plotly.graph_objects.Figure.show`; `config` is laid over `CONFIG`."""
        super().show(*arguments, config=_over(config), **settings)

    def to_html(self, config: dict[str, Any] | None = None, **settings: Any) -> str:
        """The figure as HTML, see `plotly.graph_objects.Figure.to_html`; `config` is laid over `CONFIG`."""
        text: str = super().to_html(config=_over(config), **settings)
        return text

    def write_html(self, file: Any, config: dict[str, Any] | None = None, **settings: Any) -> None:
        """Save the figure as HTML, see `plotly.graph_objects.Figure.write_html`; `config` is laid over `CONFIG`."""
        super().write_html(file, config=_over(config), **settings)

    def to_display_json(self) -> str:
        """Data, layout and `CONFIG` as JSON: plotly's MIME type, and what the panel draws."""
        text: str = pio.to_json({**self.to_dict(), "config": CONFIG}, validate=False)
        return text

    def _repr_mimebundle_(self, *arguments: Any, **settings: Any) -> Any:
        return super()._repr_mimebundle_(*arguments, **{"config": CONFIG, **settings})

    def _ipython_display_(self) -> None:
        if pio.renderers.render_on_display and pio.renderers.default:
            self.show()
        else:
            super()._ipython_display_()


def _over(config: dict[str, Any] | None) -> dict[str, Any]:
    return {**CONFIG, **(config or {})}
