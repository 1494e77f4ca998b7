"""Watching a running torch model: capture what its layers are given, measure how much it feels their errors.

Needs torch: ``pip install 'arrowquant-workbench[torch]'``.
"""

from workbench.live.applied import Applied, apply
from workbench.live.attached import attach
from workbench.live.capture import Capture, capture
from workbench.live.clock import Clock, mask_ratio, timestep
from workbench.live.compare import compare
from workbench.live.comparison import Comparison
from workbench.live.errors import weight_errors
from workbench.live.importance import directional, importance_by_gradients
from workbench.live.missing import MissingLayersWarning
from workbench.live.modules import match_modules
from workbench.live.pipelines import capture_pipeline
from workbench.live.probes import categorical, gaussian
from workbench.live.trials import importance_by_trial

__all__ = [
    "Applied",
    "Capture",
    "Clock",
    "Comparison",
    "MissingLayersWarning",
    "apply",
    "attach",
    "capture",
    "capture_pipeline",
    "categorical",
    "compare",
    "directional",
    "gaussian",
    "importance_by_gradients",
    "importance_by_trial",
    "mask_ratio",
    "match_modules",
    "timestep",
    "weight_errors",
]
