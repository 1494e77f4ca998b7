"""Plotly figures of a session: drawn from its tables, without state of their own."""

from workbench.figures.comparison import (
    error_by_group,
    error_growth,
    predicted_against_measured,
    samples,
)
from workbench.figures.costs import option_costs
from workbench.figures.depth import entropy_along_depth
from workbench.figures.figure import Figure
from workbench.figures.front import front
from workbench.figures.importance import importance
from workbench.figures.layer import error_by_channel, weight_levels
from workbench.figures.tables import escape
from workbench.figures.temperature import temperature_sweep
from workbench.figures.time_groups import activation_levels, damage_over_time, range_over_time

__all__ = [
    "Figure",
    "activation_levels",
    "damage_over_time",
    "entropy_along_depth",
    "error_by_channel",
    "error_by_group",
    "error_growth",
    "escape",
    "front",
    "importance",
    "option_costs",
    "predicted_against_measured",
    "range_over_time",
    "samples",
    "temperature_sweep",
    "weight_levels",
]
