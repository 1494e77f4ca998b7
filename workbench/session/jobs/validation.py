"""What was measured of a plan in a running model, and the job that has it measured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from workbench.errors import ConfigurationError
from workbench.session.jobs.job import Job
from workbench.work import ProgressCallback


class Proof(Protocol):
    """What was measured of a plan in a running model, such as a `workbench.live.Comparison`."""

    @property
    def factors(self) -> Mapping[str, float]:
        """By what the predicted damage of layers, as it was before anything was learnt, is to be multiplied."""


Prover = Callable[..., Proof]
"""Runs a session's present plan: takes `runs`, `activations`, `alone`, `callback` and `cancel` by name."""


def proof_job(
    prover: Prover | None,
    in_use: threading.Lock,
    done: Callable[[Proof], None],
    *,
    runs: int,
    activations: str,
    alone: bool,
) -> Job[Proof]:
    """Run a plan in the background.

    Parameters
    ----------
    prover : Prover or None
    in_use : threading.Lock
        Held while the model runs.
    done : callable
        Takes the proof, in the job's thread.
    runs, activations, alone
        For the prover.

    Raises
    ------
    ConfigurationError
        If there is no prover, or the model is in use.
    """
    if prover is None:
        raise ConfigurationError(
            "The session has no model to run its plan in. Attach one: wb.live.attach(s, module, run), where "
            "run(number) generates with the module.",
            key="prover",
        )

    def work(callback: ProgressCallback, cancel: threading.Event) -> Proof:
        try:
            found = prover(runs=runs, activations=activations, alone=alone, callback=callback, cancel=cancel)
        finally:
            in_use.release()
        done(found)
        return found

    if not in_use.acquire(blocking=False):
        raise ConfigurationError(
            "A plan is running in the model already. Wait for it, or cancel it.", key="prover"
        )
    return Job("proof in the running model", work)
