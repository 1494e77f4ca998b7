"""What bits are worth: cost tables, hulls, the solver and its certificate, the Gibbs ensemble, other policies."""

from workbench.thermo.constraints import Constraints, Restricted, restrict
from workbench.thermo.costs import CostTable
from workbench.thermo.front import Front, trace
from workbench.thermo.gibbs import Ensemble, gibbs, local_temperatures
from workbench.thermo.goal import Goal, parse_size
from workbench.thermo.hull import hull, hulls
from workbench.thermo.measurement.cache import CacheWarning, cache_folder
from workbench.thermo.measurement.profile import ThermodynamicMetrics, metrics, profile
from workbench.thermo.options.damage_model import DamageModel
from workbench.thermo.options.option_table import cost_table, measure_options, options_of
from workbench.thermo.planner import Planner
from workbench.thermo.policies import (
    annealing,
    compare,
    entropy_rule,
    entropy_widths,
    sorted_greedy,
    threshold,
    uniform,
)
from workbench.thermo.solver import Solution, certify, solve

__all__ = [
    "CacheWarning",
    "Constraints",
    "CostTable",
    "DamageModel",
    "Ensemble",
    "Front",
    "Goal",
    "Planner",
    "Restricted",
    "Solution",
    "ThermodynamicMetrics",
    "annealing",
    "cache_folder",
    "certify",
    "compare",
    "cost_table",
    "entropy_rule",
    "entropy_widths",
    "gibbs",
    "hull",
    "hulls",
    "local_temperatures",
    "measure_options",
    "metrics",
    "options_of",
    "parse_size",
    "profile",
    "restrict",
    "solve",
    "sorted_greedy",
    "threshold",
    "trace",
    "uniform",
]
