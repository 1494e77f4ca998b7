"""The engine: from a checkpoint and a plan to an export that was read back and measured."""

from workbench.pipeline.export import Export, load
from workbench.pipeline.folded_output import FoldedOutput, write_folded
from workbench.pipeline.orchestrator import DiffusionOrchestrator
from workbench.pipeline.report import LayerReport, Report
from workbench.pipeline.spatial import SpatialQuantizer
from workbench.pipeline.verify import Verification, verify
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
