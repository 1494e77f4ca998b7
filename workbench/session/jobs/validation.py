"""What was measured of a plan in a running model, and the job that has it measured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from workbench.errors import ConfigurationError
from workbench.session.jobs.job import Job
from workbench.work import ProgressCallback


class Validation(Protocol):
    """What was measured of a plan in a running model, such as a `workbench.live.Comparison`."""

    @property
    def factors(self) -> Mapping[str, float]:
        """By what the predicted damage of layers, as it was before anything was learnt, is to be multiplied."""


Validator = Callable[..., Validation]
"""Runs a session's present plan: takes `runs`, `activations`, `alone`, `callback` and `cancel` by name."""


def validation_job(
    validator: Validator | None,
    in_use: threading.Lock,
    done: Callable[[Validation], None],
    *,
    runs: int,
    activations: str,
    alone: bool,
) -> Job[Validation]:
    """Run a plan in the background.

    Parameters
    ----------
    validator : Validator or None
    in_use : threading.Lock
        Held while the model runs.
    done : callable
        Takes the validation, in the job's thread.
    runs, activations, alone
        For the validator.

    Raises
    ------
    ConfigurationError
        If there is no validator, or the model is in use.
    """
    if validator is None:
        raise ConfigurationError(
            "The session has no model to run its plan in. Attach one: wb.live.attach(s, module, run), where "
            "run(number) generates with the module.",
            key="validator",
        )

    def work(callback: ProgressCallback, cancel: threading.Event) -> Validation:
        try:
            found = validator(
                runs=runs, activations=activations, alone=alone, callback=callback, cancel=cancel
            )
        finally:
            in_use.release()
        done(found)
        return found

    if not in_use.acquire(blocking=False):
        raise ConfigurationError(
            "A plan is running in the model already. Wait for it, or cancel it.", key="validator"
        )
    return Job("validation in the running model", work)
