"""Comparing a model that runs with a plan's weights with the model as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from workbench.calibration import ActivationMode
from workbench.checkpoint import Checkpoint
from workbench.errors import ValidationError
from workbench.live.importance.backward import PARTS, Sampler
from workbench.live.importance.sensitivity import in_files, require_runs
from workbench.live.importance.trials import relative_error
from workbench.live.model.clock import Clock, Read, clock_for
from workbench.live.model.eager import uncompiled
from workbench.live.model.missing_layers import warn_of
from workbench.live.model.modules import kind_of, match_layers
from workbench.live.model.weight_check import check_same_weights
from workbench.live.model.weights import value_of
from workbench.live.validation.apply import apply, files_names, require_all
from workbench.live.validation.comparison import CALLS_SCHEMA, LAYERS_SCHEMA, Comparison
from workbench.live.validation.single_layers import TRIALS_SCHEMA, Row, neighbour, try_alone
from workbench.live.validation.weight_errors import layer_errors
from workbench.plan import Plan
from workbench.session import Session
from workbench.work import Progress, ProgressCallback

Metrics = Callable[[Sequence[Tensor]], Mapping[str, float]]
"""Takes the final outputs of all runs; gives figures of merit by name."""

WATCHED = 2**16
"""Values of what the model gives that are compared at each call, at most, evenly spread."""

SHOWN = 8
"""Final outputs that are kept to be looked at."""


def compare(
    module: nn.Module,
    run: Sampler,
    session: Session,
    *,
    runs: int = 3,
    activations: ActivationMode = "none",
    alone: bool = False,
    metrics: Metrics | None = None,
    distance: Callable[[Tensor, Tensor], float] = relative_error,
    time: Read | Clock | str | None = None,
    check_weights: bool = True,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Comparison:
    """Run a model as it is and with a session's present plan, and set what is measured beside what was predicted.

    Parameters
    ----------
    module : torch.nn.Module
        The model that the session's checkpoint was loaded into.
    run : callable
        Takes a number, generates with the model, differently for each number but always the same for the same one,
        and returns the final output.
    session : Session
    runs : int
        How often, at least 1.
    activations : str
        See `apply`; the scales are those of the session's calibration.
    alone : bool
        Also measure the final output with one layer quantized at a time, at its present option and at the one beside
        it: twice as many runs for each layer. To learn from it says most, see `Comparison.factors`.
    metrics : callable, optional
        Figures of merit of the final outputs of all runs.
    distance : callable
        Error power of an output beside the undisturbed one, by default ‖Δy‖² / ‖y‖².
    time : Clock, callable or str, optional
        See `clock_for`.
    check_weights : bool
        Make sure that the model has the checkpoint's weights.
    callback : callable, optional
        Hears of the fraction done and a message.
    cancel : threading.Event, optional
        Set it to end the work with a `CancelledError`; the model is then as it was.

    Returns
    -------
    Comparison

    Raises
    ------
    ArgumentError
        If `runs` is not at least 1, or the activations are to be rounded and the session has no calibration.
    ValidationError
        If the model has other weights than the checkpoint, a layer of the plan cannot be replaced in it, or what `run`
        gives is no tensor.

    Warns
    -----
    MissingLayersWarning
        If layers of the plan were not called in any run.

    Notes
    -----
    Takes the memory of the layers in float32, for the errors of their weights.
    """
    require_runs(runs)
    plan, predicted_error, options, learnt = _present(session)
    checkpoint = session.checkpoint
    records = None if session.time_aware is None else session.time_aware.records
    match = match_layers(module, checkpoint)
    if check_weights:
        check_same_weights(match.modules, checkpoint.stored)
    quantized = [name for name, option in plan.choices.items() if not option.is_kept]
    parts = {name: files_names(checkpoint, name) for name in plan.choices}
    slots = require_all(match, [part for name in quantized for part in parts[name]])
    tried = [
        {name: row for name, row in found.items() if all(part in match.modules for part in parts[name])}
        for found in options
    ]
    if alone:
        slots = require_all(match, {part for found in tried for name in found for part in parts[name]})
    # Decoding weights, twice, counts as two runs.
    progress = Progress(PARTS * (2 + runs * (2 + (sum(map(len, tried)) if alone else 0))), callback, cancel)
    decoding = Progress(_params(checkpoint, quantized), progress.follow(PARTS), cancel)
    decoding.message = "decoding the plan's weights"
    deltas = dict(layer_errors(checkpoint, plan, records, decoding))
    watch = _Watch(match.root, clock_for(match.root, checkpoint, time), _group_at(session))

    def generate(number: int, message: str) -> Tensor:
        progress.message = message
        progress.pump()
        with torch.no_grad():
            found = run(number)
        if not isinstance(found, Tensor):
            raise ValidationError(
                f"run({number}) gave a {type(found).__name__}; let it return the final output as a tensor."
            )
        progress.advance(PARTS)
        return found

    outputs, errors = [], _OwnErrors(match.modules, checkpoint, deltas, watch)
    others = []
    trials: list[dict[str, Any]] = []
    with uncompiled():
        for number in range(runs):
            with watch.watching(), errors.watching():
                outputs.append(generate(number, "running the model as it was"))
        with apply(
            module, plan, checkpoint, activations=activations, tables=session.time_aware, time=time,
            check_weights=False, callback=progress.follow(PARTS), cancel=cancel,
        ):  # fmt: skip
            for number in range(runs):
                with watch.comparing(number):
                    others.append(generate(number, "running the plan"))
        for is_present, rows in enumerate(reversed(tried)) if alone else ():
            trials += try_alone(
                plan, slots, checkpoint, records, rows,
                lambda: [distance(generate(number, "one layer at a time"), outputs[number]) for number in range(runs)],
                bool(is_present),
            )  # fmt: skip
    progress.pump(finished=True)
    idle = {name: "never called" for name in quantized if name not in errors.called}
    if idle:
        warn_of(idle, f"Not called, and not measured: {len(idle)} of the plan's {len(quantized)} layers")
    return Comparison(
        plan_digest=plan.digest,
        activations=activations,
        layers=_layer_table(session, [options[0][name] for name in deltas], errors.relative()),
        trials=pa.Table.from_pylist(trials, TRIALS_SCHEMA),
        calls=pa.Table.from_pylist(watch.rows, CALLS_SCHEMA),
        errors=np.array([distance(other, own) for other, own in zip(others, outputs, strict=True)]),
        predicted_error=predicted_error,
        learnt=learnt,
        metrics=_measured(metrics, outputs, others),
        samples=(_shown(outputs[0]), _shown(others[0])),
    )


def _present(session: Session) -> tuple[Plan, float, tuple[dict[str, Row], ...], Mapping[str, float]]:
    """The plan, its predicted error, each layer's option and the one beside it, and what was learnt.

    All of one version, for a session may be edited while its plan runs.
    """
    now = session.snapshot
    table, rows, starts = now.options.to_pylist(), now.rows, now.measurements.starts
    present = {table[row]["layer"]: table[row] for row in rows}
    ends = [*starts[1:], len(table)]
    others = {
        table[row]["layer"]: neighbour(table[row], table[start:end])
        for row, start, end in zip(rows, starts, ends, strict=True)
    }
    beside = {name: option for name, option in others.items() if option is not None}
    return now.plan, now.totals.damage, (present, beside), now.measurements.learnt


def _params(checkpoint: Checkpoint, names: Sequence[str]) -> int:
    return sum(layer.params for layer in checkpoint.layers if layer.name in set(names))


def _group_at(session: Session) -> Callable[[float], int]:
    """The time group of a time; without a calibration there is one."""
    if session.time_aware is None:
        return lambda time: 0
    ranges = session.time_aware.groups.ranges
    borders = (ranges[:-1, 1] + ranges[1:, 0]) / 2
    return lambda time: int(np.searchsorted(borders, time, side="right"))


@dataclass
class _Watch:
    """Sees what the model gives at each call: keeps it of one run, and compares it with another."""

    model: nn.Module
    clock: Clock
    group_at: Callable[[float], int]
    group: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    _kept: list[list[Tensor]] = field(default_factory=list)
    _time: float = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep what the model gives in this run."""
        self._kept.append([])
        with self._hooked(lambda values: self._kept[-1].append(values.clone())):
            yield

    @contextmanager
    def comparing(self, run: int) -> Iterator[None]:
        """Compare what the model gives with what it gave in a run that was kept."""
        kept = iter(self._kept[run])

        def compare(values: Tensor) -> None:
            own = next(kept, None)
            if own is not None and own.shape == values.shape:
                call = sum(row["run"] == run for row in self.rows)
                found = {"run": run, "call": call, "time": self._time, "group": self.group}
                self.rows.append({**found, "error": relative_error(values, own)})

        with self._hooked(compare):
            yield

    @contextmanager
    def _hooked(self, see: Callable[[Tensor], None]) -> Iterator[None]:
        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._time = float(np.mean(self.clock.times(module, args, kwargs)))
            self.group = self.group_at(self._time)

        def after(module: nn.Module, args: Any, output: Any) -> None:
            line = _first_tensor(output).detach().float().reshape(-1)
            see(line[:: max(line.numel() // WATCHED, 1)])

        handles = [
            self.model.register_forward_pre_hook(before, with_kwargs=True),
            self.model.register_forward_hook(after),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _OwnErrors:
    """Energies of ΔWx and of Wx for every layer and time group, at the inputs of the model as it was."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        checkpoint: Checkpoint,
        deltas: Mapping[str, Tensor],
        watch: _Watch,
    ) -> None:
        # Of a fused layer, whose parts share their input, the energies of the parts add up.
        self._deltas = {
            part: (name, change)
            for name, delta in deltas.items()
            for part, change in in_files(checkpoint, {name: delta}).items()
        }
        self._modules = {name: modules[name] for name in self._deltas}
        self._watch = watch
        self._energies: dict[str, dict[int, NDArray[np.float64]]] = {name: {} for name in deltas}

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles = [
            found.register_forward_hook(partial(self._see, name), with_kwargs=True)
            for name, found in self._modules.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def called(self) -> set[str]:
        """The layers that ran."""
        return {name for name, groups in self._energies.items() if groups}

    def relative(self) -> dict[str, dict[int, float]]:
        """‖ΔWx‖² / ‖Wx‖² by layer and group, of the groups in which the layer gave more than zeros."""
        return {
            name: {group: float(noise / signal) for group, (noise, signal) in groups.items() if signal > 0}
            for name, groups in self._energies.items()
        }

    def _see(
        self, name: str, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor
    ) -> None:
        given = args[0] if args else kwargs["input"]
        layer, delta = self._deltas[name]
        delta = delta.reshape(module.weight.shape).to(given.device)
        match kind_of(module):
            case "embedding":
                noise = functional.embedding(given, delta)
            case "conv":
                noise = module._conv_forward(given.float(), delta, None)
            case _:
                noise = functional.linear(given.float(), delta)
        bias = value_of(module, "bias")
        if bias is not None:
            bias = bias.float().to(output.device).reshape(-1, *[1] * (module.weight.dim() - 2))
            output = output.float() - bias
        energies = [float(values.float().square().sum(dtype=torch.float64)) for values in (noise, output)]
        groups = self._energies[layer]
        groups[self._watch.group] = groups.get(self._watch.group, np.zeros(2)) + energies


def _layer_table(
    session: Session, options: Sequence[Mapping[str, Any]], measured: Mapping[str, Mapping[int, float]]
) -> pa.Table:
    groups = 1 if session.time_aware is None else len(session.time_aware.groups)
    shares = np.ones(1) if session.time_aware is None else session.time_aware.groups.shares
    layers = {layer.name: layer for layer in session.checkpoint.layers}
    rows = []
    for option in options:
        name = option["layer"]
        by_group = option.get("error_by_group") or [option["damage"]] * groups
        found = [measured.get(name, {}).get(group) for group in range(groups)]
        rows.append(
            {
                "layer": name, "role": layers[name].role, "bits": option["bits"], "params": layers[name].params,
                "predicted": _mean_over(shares, by_group) or 0.0, "measured": _mean_over(shares, found),
                "predicted_by_group": by_group, "measured_by_group": found, "damage": option["damage"],
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, LAYERS_SCHEMA)


def _mean_over(shares: NDArray[np.float64], values: Sequence[float | None]) -> float | None:
    """Mean over the groups that are known, by their shares."""
    known = [
        (share, value) for share, value in zip(shares.tolist(), values, strict=True) if value is not None
    ]
    total = sum(share for share, _ in known)
    return sum(share * value for share, value in known) / total if total > 0 else None


def _measured(
    metrics: Metrics | None, outputs: Sequence[Tensor], others: Sequence[Tensor]
) -> dict[str, tuple[float, float]]:
    if metrics is None:
        return {}
    own, plan = metrics(outputs), metrics(others)
    return {name: (float(own[name]), float(plan[name])) for name in own}


def _shown(output: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = output[:SHOWN].detach().float().cpu().numpy()
    return found


def _first_tensor(output: Any) -> Tensor:
    """What a model gives first, however it is wrapped."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    return output
