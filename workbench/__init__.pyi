# What the lazy loading of __init__.py offers, for type checkers and editors.
import os
import threading

from workbench import figures as figures
from workbench import live as live
from workbench.arrowquant import ArrowQuantV2 as ArrowQuantV2
from workbench.arrowquant import AsyncArrowQuantV2 as AsyncArrowQuantV2
from workbench.calibration import CalibrationRecords as CalibrationRecords
from workbench.calibration import TimeAwareQuantizer as TimeAwareQuantizer
from workbench.checkpoint import Checkpoint as Checkpoint
from workbench.checkpoint import SafeTensorsAdapter as SafeTensorsAdapter
from workbench.checkpoint import ShardedSafeTensorsAdapter as ShardedSafeTensorsAdapter
from workbench.checkpoint import load_sharded_safetensors as load_sharded_safetensors
from workbench.checkpoint import open_checkpoint as open_checkpoint
from workbench.config import DiffusionQuantConfig as DiffusionQuantConfig
from workbench.engine import DiffusionOrchestrator as DiffusionOrchestrator
from workbench.engine import Export as Export
from workbench.engine import FoldedOutput as FoldedOutput
from workbench.engine import LayerReport as LayerReport
from workbench.engine import Report as Report
from workbench.engine import SpatialQuantizer as SpatialQuantizer
from workbench.engine import Verification as Verification
from workbench.engine import load as load
from workbench.engine import write_folded as write_folded
from workbench.errors import ArgumentError as ArgumentError
from workbench.errors import ArrowQuantError as ArrowQuantError
from workbench.errors import CancelledError as CancelledError
from workbench.errors import ConfigurationError as ConfigurationError
from workbench.errors import ExpressionError as ExpressionError
from workbench.errors import MetadataError as MetadataError
from workbench.errors import ModelNotFoundError as ModelNotFoundError
from workbench.errors import PlanError as PlanError
from workbench.errors import QuantizationError as QuantizationError
from workbench.errors import ShapeMismatchError as ShapeMismatchError
from workbench.errors import UsageError as UsageError
from workbench.errors import ValidationError as ValidationError
from workbench.kernels import KernelWarning as KernelWarning
from workbench.plan import Layer as Layer
from workbench.plan import Option as Option
from workbench.plan import Plan as Plan
from workbench.session import Change as Change
from workbench.session import Job as Job
from workbench.session import Session as Session
from workbench.session import Totals as Totals
from workbench.session.patterns import Patterns
from workbench.thermo import ThermodynamicMetrics as ThermodynamicMetrics
from workbench.work import ProgressCallback

__all__: list[str]

def open(  # noqa: A001 - read as wb.open
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    component: str | None = None,
    exact: bool = False,
    group_size: int = 128,
    scheme: str | None = None,
    calibration: CalibrationRecords | str | os.PathLike[str] | None = None,
    num_time_groups: int = 10,
    grouping: str = "optimal",
    importance: str | None = None,
    all_widths: bool = False,
    shard_size: int | str = ...,
    effort: str | None = None,
    names: str | None = None,
    keep: Patterns = (),
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    cache: str | os.PathLike[str] | None = None,
    fresh: bool = False,
) -> Session:
    """Open a checkpoint, measure its layers and options, see `workbench.session.open_session`.

    `fresh` begins anew in a notebook's cell that runs again, instead of going on with the cell's last session.
    """

def verify(
    output: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    component: str | None = None,
    calibration: CalibrationRecords | str | os.PathLike[str] | None = None,
    callback: ProgressCallback | None = None,
) -> Verification:
    """Read an export back, decode it and compare it with the source, see `workbench.engine.verify`."""
