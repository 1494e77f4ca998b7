"""Watching a running torch model: capture what its layers are given, measure how much it feels their errors.

Needs torch: ``pip install 'arrowquant-workbench[torch]'``.
"""

from workbench.live.capture.capture import Capture, capture
from workbench.live.capture.pipelines import capture_pipeline
from workbench.live.importance.gradients import directional, importance_by_gradients
from workbench.live.importance.probes import categorical, gaussian
from workbench.live.importance.trials import importance_by_trial
from workbench.live.model.clock import Clock, mask_ratio, timestep
from workbench.live.model.missing_layers import MissingLayersWarning
from workbench.live.model.modules import match_modules
from workbench.live.validation.apply import Applied, apply
from workbench.live.validation.attach import attach
from workbench.live.validation.compare import compare
from workbench.live.validation.comparison import Comparison
from workbench.live.validation.weight_errors import weight_errors

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
