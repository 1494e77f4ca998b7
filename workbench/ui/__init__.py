"""The panel: a session seen, tuned and exported in a notebook."""

from workbench.ui.panel import Panel
from workbench.ui.table.layer_table import LayerTable

__all__ = ["LayerTable", "Panel"]
