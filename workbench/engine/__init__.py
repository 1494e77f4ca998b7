"""The engine: from a checkpoint and a plan to an export that was read back and measured."""

from workbench.engine.export import Export, load
from workbench.engine.folded_output import FoldedOutput, write_folded
from workbench.engine.orchestrator import DiffusionOrchestrator
from workbench.engine.report import LayerReport, Report
from workbench.engine.spatial import SpatialQuantizer
from workbench.engine.verify import Verification, verify
from workbench.work import InlineExecutor, ProgressCallback

__all__ = [
    "DiffusionOrchestrator",
    "Export",
    "FoldedOutput",
    "InlineExecutor",
    "LayerReport",
    "ProgressCallback",
    "Report",
    "SpatialQuantizer",
    "Verification",
    "load",
    "verify",
    "write_folded",
]
