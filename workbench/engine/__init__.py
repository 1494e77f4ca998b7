"""The engine: from a checkpoint and a plan to an export that was read back and measured."""

from workbench.engine.equalization.folded_output import FoldedOutput, write_folded
from workbench.engine.equalization.spatial import SpatialQuantizer
from workbench.engine.orchestrator import DiffusionOrchestrator
from workbench.engine.output.record import Export, load
from workbench.engine.report import LayerReport, Report
from workbench.engine.verification.verify import Verification, verify
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
