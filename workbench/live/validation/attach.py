"""Giving a session a model to run its plans in."""

from __future__ import annotations

import threading
from collections.abc import Callable

from torch import Tensor, nn

from workbench.calibration import ActivationMode
from workbench.errors import ArrowQuantError, ValidationError
from workbench.live.importance.backward import Sampler
from workbench.live.importance.trials import relative_error
from workbench.live.model.clock import Clock, Read
from workbench.live.model.modules import match_layers
from workbench.live.model.weight_check import check_same_weights
from workbench.live.validation.compare import Metrics, compare
from workbench.live.validation.comparison import Comparison
from workbench.session import Session
from workbench.work import ProgressCallback


def attach(
    session: Session,
    module: nn.Module,
    run: Sampler,
    *,
    metrics: Metrics | None = None,
    distance: Callable[[Tensor, Tensor], float] = relative_error,
    time: Read | Clock | str | None = None,
    check_weights: bool = True,
) -> None:
    """Give a session a model, so that `Session.validate`, and the validation tab of its panel, run plans in it.

    Parameters
    ----------
    session : Session
        By whatever names it calls its layers.
    module, run, metrics, distance, time, check_weights
        As for `compare`.

    Raises
    ------
    ValidationError
        If the model has none of the checkpoint's layers, or other weights.
    ShapeMismatchError
        If a module's weight has another shape than its layer.

    Examples
    --------
    >>> wb.live.attach(s, model, run)  # doctest: +SKIP
    >>> s.validate(runs=3).result()  # doctest: +SKIP
    """
    match = match_layers(module, session.checkpoint)
    if check_weights:
        check_same_weights(match.modules, session.checkpoint.stored)

    def checked(number: int) -> Tensor:
        # Where a job or the panel shows it, nobody sees the trace of what the user wrote.
        try:
            return run(number)
        except ArrowQuantError:
            raise
        except Exception as error:
            raise ValidationError(
                f"run({number}), which generates with the model, failed: {type(error).__name__}: {error}"
            ) from error

    def validate(
        *,
        runs: int,
        activations: ActivationMode,
        alone: bool,
        callback: ProgressCallback | None,
        cancel: threading.Event | None,
    ) -> Comparison:
        return compare(
            module, checked, session, runs=runs, activations=activations, alone=alone, metrics=metrics,
            distance=distance, time=time, check_weights=check_weights, callback=callback, cancel=cancel,
        )  # fmt: skip

    session.attach(validate)
