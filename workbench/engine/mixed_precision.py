"""``enable_mixed_precision``: the plan that the solver makes of a configuration."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.engine.origin import made_by
from workbench.engine.survey import at_width, settled_option
from workbench.errors import ConfigurationError
from workbench.formats import Format
from workbench.plan import Plan
from workbench.quantize import Encodings
from workbench.thermo import Constraints, PricedCheckpoint, Pricing, price
from workbench.thermo.costs import IntArray
from workbench.work import ProgressCallback


def pricing_of(
    config: DiffusionQuantConfig, checkpoint: Checkpoint, records: CalibrationRecords | None = None
) -> Pricing | None:
    """What the configuration's calibration says of the layers; None without one, or where it is not to be used.

    Of a folded checkpoint the records are given.

    Raises
    ------
    ArrowQuantError
        If the records cannot be read or are of another checkpoint.
    """
    if config.calibration is None or not config.enable_time_aware:
        return None
    return Pricing.read(records or config.calibration, checkpoint, num_time_groups=config.num_time_groups)


def solve_plan(
    config: DiffusionQuantConfig,
    checkpoint: Checkpoint,
    target: Format,
    pricing: Pricing | None = None,
    encodings: Encodings | None = None,
    *,
    executor: Executor | None = None,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Plan:
    """The plan that loses least within ``target_model_size_mb``, or the bytes of uniform ``bit_width``.

    The options are priced from a sample of rows, and remembered. Layers that the configuration speaks of, as
    sensitive or by their width, are locked; every other layer reaches ``min_accuracy``.

    Parameters
    ----------
    config : DiffusionQuantConfig
    checkpoint : Checkpoint
    target : Format
    pricing : Pricing, optional
        What a calibration says of the layers.
    encodings : Encodings, optional
        How the weights become codes; by default ``fast``.
    executor, callback, cancel
        As for `workbench.thermo.options.price`.

    Raises
    ------
    ConfigurationError
        If the budget is under the floor; carries the ``floor`` in bytes, and names what costs most.
    ValidationError
        If a weight that is measured is NaN or Inf; names the tensor and the first such weight.
    CancelledError
        If the work was cancelled; what was measured is not measured again.
    """
    prices = price(
        checkpoint, target,
        keep={layer.name for layer in checkpoint.layers if config.keeps(layer.name, layer.role)},
        pricing=pricing, encodings=encodings, executor=executor, callback=callback, cancel=cancel,
    )  # fmt: skip
    priced = PricedCheckpoint(checkpoint, target, prices, encodings)
    settled = [settled_option(layer, config, target) for layer in priced.layers]
    locks = np.array(
        [
            -1 if option is None else options.index(option)
            for option, options in zip(settled, priced.options, strict=True)
        ],
        np.int64,
    )
    constraints = Constraints(
        locks=locks,
        min_cosine=np.where(locks < 0, config.min_accuracy, -1.0) if config.min_accuracy > 0 else None,
    )
    uniform = [
        0 if len(options) == 1 else options.index(at_width(layer, config.bit_width, config, target))
        for layer, options in zip(priced.layers, priced.options, strict=True)
    ]
    origin = made_by("mixed precision", config, checkpoint)
    if config.target_model_size_mb is not None:
        origin["target_model_size_mb"] = config.target_model_size_mb
    draft = priced.plan(uniform, np.flatnonzero(locks >= 0).tolist(), origin)
    choice = _within(config, priced, constraints, draft)
    plan = priced.plan(choice.tolist(), np.flatnonzero(locks >= 0).tolist(), origin)
    return replace(plan, predicted=priced.totals(choice, plan, constraints))


def _within(
    config: DiffusionQuantConfig, priced: PricedCheckpoint, constraints: Constraints, draft: Plan
) -> IntArray:
    """The best choice within the configuration's budget, where none is given that of the draft."""
    if config.target_model_size_mb is None:
        budget = priced.payload_bytes(draft)
        problem = f"target_model_size_mb is none, which is {budget / 1e6:g} here, uniform bit_width {config.bit_width}"
    else:
        budget = int(config.target_model_size_mb * 1e6)
        problem = f"target_model_size_mb is {config.target_model_size_mb:g}"
    try:
        return priced.within(budget, constraints, draft)
    except ConfigurationError as error:
        if "floor" not in error.context:
            raise
        # With room for the digits of another budget, which the payload states.
        allowed = f"at least {math.ceil((error.floor + 100) / 1e4) / 100:.2f}"
        raise ConfigurationError(
            f"{problem}; allowed: {allowed}. {error} (A lock is by layer_bit_widths or skip_sensitive_layers, a "
            "min_cosine is min_accuracy.)",
            key="target_model_size_mb",
            value=config.target_model_size_mb,
            allowed=allowed,
            floor=error.floor,
        ) from error
