"""`Proving`: the part of a `Session` that has its plan run in a model, and learns from what was measured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from workbench.errors import ConfigurationError
from workbench.session.history import State
from workbench.session.job import Job
from workbench.session.outlook import Outlook, Reopen
from workbench.session.script import call
from workbench.session.study import Study
from workbench.session.values import Change, Totals
from workbench.work import ProgressCallback


class Proof(Protocol):
    """What was measured of a plan in a running model, such as a `workbench.live.Comparison`."""

    @property
    def factors(self) -> Mapping[str, float]:
        """By what the predicted damage of layers, as it was before anything was learnt, is to be multiplied."""


Prover = Callable[..., Proof]
"""Runs a session's present plan: takes `runs`, `activations`, `alone`, `callback` and `cancel` by name."""


class Proving(Outlook):
    """A session that has its plan run in a model.

    Attributes
    ----------
    prover : Prover or None
        What runs plans, see `attach`.
    proof : Proof or None
        What it measured last.
    """

    def __init__(self, study: Study, reopen: Reopen) -> None:
        super().__init__(study, reopen)
        self.prover: Prover | None = None
        self.proof: Proof | None = None
        self._model_in_use = threading.Lock()

    def attach(self, prover: Prover) -> None:
        """Have plans run by a function; `workbench.live.attach` makes one of a torch model."""
        with self._lock:
            self.prover = prover
            self._note_all("wb.live.attach(s, module, run)", ())
        self._observers.tell()

    def prove(self, runs: int = 3, *, activations: str = "none", alone: bool = False) -> Job[Proof]:
        """Run the present plan in the attached model in the background; `proof` is then what was measured.

        The model must not be used meanwhile; afterwards it is as it was, also when the job is cancelled.

        Parameters
        ----------
        runs, activations, alone
            As for `workbench.live.compare`.

        Raises
        ------
        ConfigurationError
            If no model is attached, or a plan is running in it.
        """
        if self.prover is None:
            raise ConfigurationError(
                "The session has no model to run its plan in. Attach one: wb.live.attach(s, module, run), where "
                "run(number) generates with the module.",
                key="prover",
            )
        prover = self.prover

        def work(callback: ProgressCallback, cancel: threading.Event) -> Proof:
            try:
                found = prover(
                    runs=runs, activations=activations, alone=alone, callback=callback, cancel=cancel
                )
            finally:
                self._model_in_use.release()
            mode = None if activations == "none" else activations
            with self._lock:
                self.proof = found
                self._note_all(f"{call('prove', runs=runs, activations=mode, alone=alone)}.result()", ())
            self._observers.tell()
            return found

        if not self._model_in_use.acquire(blocking=False):
            raise ConfigurationError(
                "A plan is running in the model already. Wait for it, or cancel it.", key="prover"
            )
        return Job("proof in the running model", work)

    def learn(self, measured: Proof | Mapping[str, float]) -> Totals:
        """Correct the predicted damage by what was measured; solve again to let the plan follow.

        One step of undo. It takes the place of what was learnt before of the same layers, so that learning twice from
        one measurement is learning once; factors of 1 for all layers forget.

        Parameters
        ----------
        measured : Comparison, or mapping of str to float
            Of `workbench.live.compare`; or by what the damage of each layer, as it was before anything was learnt, is
            multiplied. Of layers that it does not name, what was learnt before stays; where nothing was, they get the
            median.

        Returns
        -------
        Totals
            Of the present plan, as it is predicted now.

        Raises
        ------
        ConfigurationError
            If there is no such layer, a factor is not a positive number, or there is none.

        Examples
        --------
        >>> s.learn(wb.live.compare(module, run, s, alone=True))  # doctest: +SKIP
        >>> s.solve(bpw=4)  # doctest: +SKIP
        """
        if isinstance(measured, Mapping):
            factors, line = measured, "s.learn(factors)"
        else:
            factors = measured.factors
            line = f"s.learn({'s.proof' if measured is self.proof else 'comparison'})"
        with self._lock:
            before = self._history.present
            self._history.push(State(before.study.learn(factors), before.tuning))
            totals = self._note_all(line, tuple(range(len(self._study.layers))))
        self._observers.tell()
        return totals

    @property
    def learnt(self) -> Mapping[str, float]:
        """By what the damage of layers is multiplied, because measuring found it so; empty at first."""
        return dict(self._study.learnt)

    def _note_all(self, line: str, rows: tuple[int, ...]) -> Totals:
        """Count a change of the rows named, perhaps none; the lock is held."""
        self._version += 1
        self._script.append(line)
        self._snapshot = None
        totals = self._totals(self._history.present)
        self._observers.note(Change(self._version, rows, totals))
        return totals
