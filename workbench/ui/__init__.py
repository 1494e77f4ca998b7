"""The panel: what a session looks like in a notebook."""

from workbench.ui.table import LayerTable

__all__ = ["LayerTable"]
