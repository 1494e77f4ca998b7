"""What denoising time does to the layers: records, time groups, variance over time, activation tables."""

from workbench.calibration.activation_tables import ActivationMode, ActivationTables
from workbench.calibration.axis import Interval, TimeAxis
from workbench.calibration.grouping import TimeGroups, group_steps, groups_at, scatter
from workbench.calibration.layer_record import LayerRecord, StepStatistics
from workbench.calibration.pooling import Moments, merge, pool
from workbench.calibration.records import CalibrationRecords
from workbench.calibration.renaming import records_for
from workbench.calibration.time_aware import TimeAwareQuantizer
from workbench.calibration.variance import second_moments, variance_table

__all__ = [
    "ActivationMode",
    "ActivationTables",
    "CalibrationRecords",
    "Interval",
    "LayerRecord",
    "Moments",
    "StepStatistics",
    "TimeAwareQuantizer",
    "TimeAxis",
    "TimeGroups",
    "group_steps",
    "groups_at",
    "merge",
    "pool",
    "records_for",
    "scatter",
    "second_moments",
    "variance_table",
]
