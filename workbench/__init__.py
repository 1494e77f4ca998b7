"""ArrowQuant Workbench: see which layers of a diffusion model hold information, and spend bits where they matter.

The public names load when they are first used, so that importing the package is quick; `__init__.pyi` tells type
checkers what they are.
"""

from importlib import import_module
from typing import Any

from workbench.notebook.display import register

_HOMES = {
    "workbench.arrowquant": ["ArrowQuantV2", "AsyncArrowQuantV2"],
    "workbench.kernels": ["KernelWarning"],
    "workbench.calibration": ["CalibrationRecords", "TimeAwareQuantizer"],
    "workbench.checkpoint": [
        "Checkpoint",
        "SafeTensorsAdapter",
        "ShardedSafeTensorsAdapter",
        "load_sharded_safetensors",
        "open_checkpoint",
    ],
    "workbench.config": ["DiffusionQuantConfig"],
    "workbench.errors": [
        "ArrowQuantError",
        "CancelledError",
        "ConfigurationError",
        "MetadataError",
        "ModelNotFoundError",
        "QuantizationError",
        "ShapeMismatchError",
        "ValidationError",
    ],
    "workbench.engine": [
        "DiffusionOrchestrator",
        "Export",
        "FoldedOutput",
        "LayerReport",
        "Report",
        "SpatialQuantizer",
        "Verification",
        "load",
        "write_folded",
    ],
    "workbench.notebook.progress": ["open", "verify"],
    "workbench.plan": ["Layer", "Option", "Plan"],
    "workbench.session": ["Change", "Job", "Session", "Totals"],
    "workbench.thermo": ["ThermodynamicMetrics"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_AT_HOME = {"open": "open_shown", "verify": "verify_shown"}
_PARTS = ("figures", "live")

__all__ = sorted([*_HOME_OF, *_PARTS])


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"workbench.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), _AT_HOME.get(name, name))


def __dir__() -> list[str]:
    return __all__


register()
