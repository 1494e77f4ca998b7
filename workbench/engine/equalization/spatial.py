"""`SpatialQuantizer`: channel equalisation and activation smoothing by exact folds."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any, Self

import pyarrow as pa

from workbench.calibration import CalibrationRecords
from workbench.calibration.activation_tables import mode_named
from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.engine.equalization.fold_search import ALPHAS, PASSES, OptionOf, Outcome, study
from workbench.engine.resolution.widths import at_width, settled_option
from workbench.errors import ConfigurationError, MetadataError
from workbench.folds.fold import Site, read_folds
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.records import fold_records
from workbench.folds.sites import find_sites
from workbench.formats import Format, TargetSettings, target_named
from workbench.plan import Layer, Option
from workbench.system import usable_cores
from workbench.thermo import DamageModel
from workbench.work import Progress, ProgressCallback, run_tasks

FORMAT = "arrowquant-folds"
VERSION = 1

SCHEMA = pa.schema(
    [
        pa.field("site", pa.string(), nullable=False),
        pa.field("producer", pa.string(), nullable=False),
        pa.field("channels", pa.int64(), nullable=False),
        pa.field("alpha", pa.float64(), nullable=False),
        pa.field("before", pa.float64()),
        pa.field("after", pa.float64()),
        pa.field("deviation", pa.float64()),
        pa.field("remark", pa.string(), nullable=False),
    ]
)
"""Columns of `SpatialQuantizer.table`."""


@dataclass(frozen=True, eq=False)
class SpatialQuantizer:
    """What folds do for a checkpoint that is to be quantized; immutable.

    A fold moves factors between the channels of some linears and what makes them, so that the weights quantize with
    less error, or the activations are of one size, while the function stays what it is in float32.
    """

    checkpoint: FoldedCheckpoint
    """The checkpoint with the folds made, read from the source in blocks; `write_folded` makes files of it."""
    source_records: CalibrationRecords
    """What was captured of the source."""
    outcomes: tuple[Outcome, ...]
    """What became of each site, in the order of the model."""
    remarks: tuple[str, ...]
    """What has no exact fold, each in a sentence."""
    made_by: Mapping[str, Any]
    """How the folds were chosen, in plain values."""

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        calibration: CalibrationRecords | str | os.PathLike[str],
        *,
        target: str = "parquet",
        bits: int = 4,
        scheme: str | None = None,
        group_size: int = 128,
        alpha: float | None = None,
        activations: str = "none",
        num_time_groups: int = 10,
        importance: str | None = None,
        option_of: OptionOf | None = None,
        executor: Executor | None = None,
        callback: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> Self:
        """Find the exact folds of a checkpoint, and the strength of each that helps.

        Parameters
        ----------
        checkpoint : Checkpoint
            Stays open as long as the result is used.
        calibration : CalibrationRecords or path-like
            What was captured of its layers' inputs, or the file.
        target, bits, scheme, group_size
            What the layers are to be stored as: the error of a fold is measured under these options.
        alpha : float, optional
            From 0 to 1, the one strength to try; 0 makes no fold. By default 0.1 to 1 in tenths are tried.
        activations : str
            Whether the layers' inputs will be rounded to eight bits, as for `workbench.live.apply`: then the error of
            that counts too, and folds also smooth activations.
        num_time_groups, importance
            How the calibration prices errors, as for `workbench.open`.
        option_of : callable, optional
            What each layer is to be stored as, in place of bits, scheme and group_size.
        executor : Executor, optional
            Threads to work in; by default one for each core.
        callback : callable, optional
            Hears of the fraction done and a message, in this thread. An exception in it ends the work.
        cancel : threading.Event, optional
            Set it to end the work with a `CancelledError`.

        Raises
        ------
        ConfigurationError
            If alpha is not from 0 to 1, or the target, the importance or the mode of activations is not there.
        ArrowQuantError
            If the records are of another checkpoint, or the checkpoint changed.
        """
        if alpha is not None and not 0 <= alpha <= 1:
            raise ConfigurationError(
                f"alpha is {alpha}; allowed: from 0 to 1.", key="alpha", value=alpha, allowed="0 to 1"
            )
        mode = mode_named(activations)
        format_ = target_named(target, TargetSettings(scheme=scheme))
        scheme = scheme or format_.scheme
        damage_model = DamageModel.read(
            calibration, checkpoint, num_time_groups=num_time_groups, importance=importance
        )
        found = find_sites(checkpoint)
        if option_of is None:
            option_of = partial(format_.quantized, bits=bits, scheme=scheme, group_size=group_size)
        sizes = {site.name: _consumer_bytes(checkpoint, site) for site in found.sites}
        progress = Progress(PASSES * sum(sizes.values()), callback, cancel)
        progress.message = "balancing channels"
        alphas = ALPHAS if alpha is None else (alpha,)
        outcomes: dict[str, Outcome] = {}

        def keep(outcome: Outcome) -> None:
            outcomes[outcome.site.name] = outcome

        tasks = (
            partial(study, checkpoint, site, damage_model, format_, option_of, alphas, mode, progress.advance)
            for site in found.sites
        )
        cores = usable_cores()
        with ThreadPoolExecutor(cores, "workbench") if executor is None else nullcontext(executor) as threads:
            run_tasks(tasks, threads, cores, progress, keep)
        progress.pump(finished=True)
        ordered = tuple(outcomes[site.name] for site in found.sites)
        return cls(
            checkpoint=FoldedCheckpoint(checkpoint, [outcome.fold for outcome in ordered if outcome.fold]),
            source_records=damage_model.time_aware.records,
            outcomes=ordered,
            remarks=found.remarks,
            made_by={
                "target": target, "bits": bits, "scheme": scheme, "group_size": group_size, "alpha": alpha,
                "importance": damage_model.estimator,
                **({} if activations == "none" else {"activations": activations}),
            },
        )  # fmt: skip

    @cached_property
    def records(self) -> CalibrationRecords:
        """What a capture of the folded checkpoint would give, see `fold_records`."""
        return fold_records(self.source_records, self.checkpoint)

    def table(self) -> pa.Table:
        """What became of each site.

        Returns
        -------
        pyarrow.Table
            site, producer, channels; alpha: of the fold, 0 where there is none; before, after: Σ D of the consumers
            as they are and with the best fold, on sampled rows; deviation: relative change of the float32 function;
            remark: why it was left alone.
        """
        rows = [
            {
                "site": outcome.site.name, "producer": outcome.site.producer, "channels": outcome.site.channels,
                "alpha": outcome.alpha, "before": outcome.before, "after": outcome.after,
                "deviation": outcome.deviation, "remark": outcome.remark,
            }
            for outcome in self.outcomes
        ]  # fmt: skip
        return pa.Table.from_pylist(rows, SCHEMA)

    @property
    def summary(self) -> str:
        """What was folded, in a sentence."""
        folds = self.checkpoint.folds
        if not self.outcomes:
            return "nothing was folded: the model has no exact fold"
        if not folds:
            return f"none of {len(self.outcomes)} exact folds was made, as none helps"
        alphas = sorted({fold.alpha for fold in folds})
        spread = f"α {alphas[0]:g}" if len(alphas) == 1 else f"α from {alphas[0]:g} to {alphas[-1]:g}"
        return f"{len(folds)} of {len(self.outcomes)} exact folds were made, {spread}"

    def to_dict(self) -> dict[str, Any]:
        """The record of what was folded as plain JSON values, from which `restore` makes the same checkpoint again."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "writer": f"arrowquant-workbench {version('arrowquant-workbench')}",
            "source": self.checkpoint.source.fingerprint,
            "made_by": dict(self.made_by),
            "folds": [fold.to_dict() for fold in self.checkpoint.folds],
            "left": {outcome.site.name: outcome.remark for outcome in self.outcomes if outcome.remark},
            "remarks": list(self.remarks),
        }


def balance_channels(
    config: DiffusionQuantConfig,
    checkpoint: Checkpoint,
    target: Format,
    *,
    executor: Executor | None = None,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> SpatialQuantizer:
    """The folds that help what the configuration would store the layers as, by its calibration.

    Where it leaves the widths to a solver or a rule, they are taken to be ``bit_width``.

    Raises
    ------
    ArrowQuantError
        If there is no calibration, or it is of another checkpoint.
    """
    if config.calibration is None:
        raise ConfigurationError(
            "enable_spatial needs calibration records: give their path as calibration.",
            key="calibration",
            value=None,
        )

    def option_of(layer: Layer) -> Option:
        return settled_option(layer, config, target) or at_width(layer, config.bit_width, config, target)

    return SpatialQuantizer.of(
        checkpoint, config.calibration, target=target.name, bits=config.bit_width, scheme=config.scheme,
        group_size=config.group_size, num_time_groups=config.num_time_groups, option_of=option_of,
        executor=executor, callback=callback, cancel=cancel,
    )  # fmt: skip


def restore(checkpoint: Checkpoint, record: object, where: str) -> FoldedCheckpoint:
    """The folded checkpoint that a record speaks of, made again from its source.

    Raises
    ------
    MetadataError
        If the record is malformed, of an unknown version, or of another checkpoint.
    """
    if not isinstance(record, Mapping) or record.get("format") != FORMAT:
        raise MetadataError(f"{where}: this is not a record of folds.")
    if record.get("version") != VERSION:
        raise MetadataError(
            f"{where}: version {record.get('version')!r} of the folds is unknown; this release reads {VERSION}."
        )
    if record.get("source") != checkpoint.fingerprint:
        raise MetadataError(
            f"{checkpoint.path} is not the checkpoint that was folded: its fingerprint is "
            f"{checkpoint.fingerprint[:12]}…, the folds' {str(record.get('source'))[:12]}….",
            path=checkpoint.path,
        )
    return FoldedCheckpoint(checkpoint, read_folds(record.get("folds"), find_sites(checkpoint).sites, where))


def _consumer_bytes(checkpoint: Checkpoint, site: Site) -> int:
    return sum(checkpoint.tensors[name].nbytes for name in site.consumers)
