"""Plotly figures of a session: drawn from its tables, without state of their own."""

from workbench.figures.costs import option_costs
from workbench.figures.depth import entropy_along_depth
from workbench.figures.front import front
from workbench.figures.temperature import temperature_sweep

__all__ = ["entropy_along_depth", "front", "option_costs", "temperature_sweep"]
