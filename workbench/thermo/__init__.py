"""What bits are worth: cost tables, hulls, the solver and its certificate, the Gibbs ensemble, other policies."""

from workbench.thermo.constraints import Constraints, Restricted, restrict
from workbench.thermo.costs import CostTable
from workbench.thermo.front import Front, trace
from workbench.thermo.gibbs import Ensemble, gibbs, local_temperatures
from workbench.thermo.hull import hull, hulls
from workbench.thermo.policies import annealing, compare, entropy_rule, sorted_greedy, threshold, uniform
from workbench.thermo.solver import Solution, certify, solve

__all__ = [
    "Constraints",
    "CostTable",
    "Ensemble",
    "Front",
    "Restricted",
    "Solution",
    "annealing",
    "certify",
    "compare",
    "entropy_rule",
    "gibbs",
    "hull",
    "hulls",
    "local_temperatures",
    "restrict",
    "solve",
    "sorted_greedy",
    "threshold",
    "trace",
    "uniform",
]
