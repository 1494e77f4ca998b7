"""`Comparison`: what a plan does to a running model, measured, beside what was predicted."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LAYERS_SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("bits", pa.int32(), nullable=False),
        pa.field("params", pa.int64(), nullable=False),
        pa.field("predicted", pa.float64(), nullable=False),
        pa.field("measured", pa.float64()),
        pa.field("predicted_by_group", pa.list_(pa.float64())),
        pa.field("measured_by_group", pa.list_(pa.float64())),
        pa.field("predicted_alone", pa.float64(), nullable=False),
        pa.field("measured_alone", pa.float64()),
        pa.field("measured_alone_by_run", pa.list_(pa.float64())),
    ]
)
"""Columns of `Comparison.layers`: relative error power of the layer's own output, with its mean over time groups; then
that of the final output with this layer alone quantized, where that was measured, with its mean over runs."""

CALLS_SCHEMA = pa.schema(
    [
        pa.field("run", pa.int32(), nullable=False),
        pa.field("call", pa.int32(), nullable=False),
        pa.field("time", pa.float64(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("error", pa.float64(), nullable=False),
    ]
)
"""Columns of `Comparison.calls`: relative error power of what the model gave at each call of a run."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model with a plan's weights beside the model as it was, over some runs. Made by `workbench.live.compare`.

    Errors are relative error powers, ‖Δy‖² / ‖y‖², unless another distance was given.
    """

    plan_digest: str
    """Of the plan that ran."""
    activations: str
    """How the layers' inputs were rounded."""
    layers: pa.Table
    """A row a quantized layer, see `LAYERS_SCHEMA`."""
    calls: pa.Table
    """A row a call of the model: how the error grows along the steps, see `CALLS_SCHEMA`."""
    errors: NDArray[np.float64]
    """Error of the final output of each run."""
    predicted_error: float
    """What the plan predicts for it: Σ D."""
    learnt: Mapping[str, float]
    """By what the predictions had been multiplied before, because of earlier measurements."""
    metrics: Mapping[str, tuple[float, float]]
    """Figures of merit of the final outputs: of the model as it was, and of the plan's."""
    samples: tuple[NDArray[np.float32], NDArray[np.float32]]
    """A few final outputs of the first run: as it was, and of the plan's."""

    @property
    def error(self) -> float:
        """Mean error of the final output over the runs."""
        return float(self.errors.mean())

    @property
    def ratio(self) -> float:
        """The measured error of the final output over the predicted one."""
        return self.error / self.predicted_error if self.predicted_error > 0 else float("nan")

    @property
    def rank_correlation(self) -> float:
        """Spearman's, over the layers, of predicted with measured error of the layers' own outputs; NaN for fewer
        than three layers."""
        return rank_correlation(*self._pairs("predicted", "measured"))

    @property
    def rank_correlation_alone(self) -> float:
        """The same for the final output with one layer quantized at a time; NaN where that was not measured."""
        return rank_correlation(*self._pairs("predicted_alone", "measured_alone"))

    @property
    def is_alone(self) -> bool:
        """Whether the final output was also measured with one layer quantized at a time."""
        return bool(self.layers["measured_alone"].null_count < len(self.layers))

    @property
    def factors(self) -> dict[str, float]:
        """By what each layer's predicted damage, as it was before anything was learnt, is to be multiplied, so that the
        sum is the error of the whole plan.

        The layers' shares in it are those of the final output's error with one layer quantized at a time, where that
        was measured, as far as `layer_effects` trusts it; else those that follow from the errors of the layers' own
        outputs.
        """
        rows = self.layers.to_pylist()
        column = "measured_alone_by_run" if self.is_alone else "measured"
        predicted = "predicted_alone" if self.is_alone else "predicted"
        measured = {row["layer"]: np.atleast_1d(np.array(row[column], np.float64)) for row in rows}
        known = [row for row in rows if (measured[row["layer"]] > 0).all() and row[predicted] > 0]
        if not known:
            return {}
        logs = np.log([measured[row["layer"]] / row[predicted] for row in known])
        logs = layer_effects(logs) if self.is_alone else logs[:, 0]
        found = {row["layer"]: float(value) for row, value in zip(known, np.exp(logs), strict=True)}
        total = sum(row["predicted_alone"] * found[row["layer"]] for row in known)
        # Where inputs were rounded too, the error is not the weights' alone.
        common = self.error / total if total > 0 and self.error > 0 and self.activations == "none" else 1.0
        return {name: self.learnt.get(name, 1.0) * factor * common for name, factor in found.items()}

    @property
    def has_images(self) -> bool:
        """Whether the final outputs are images, [samples, 1 or 3 channels, height, width]."""
        return self.samples[0].ndim == 4 and self.samples[0].shape[1] in (1, 3)

    def by_group(self) -> pa.Table:
        """Error of what the model gave, and of the layers' own outputs, by time group.

        Returns
        -------
        pyarrow.Table
            group; output: mean error of the model's output in that group's calls; predicted, measured: median over the
            layers of the errors of their own outputs.
        """
        groups = np.array(self.calls["group"].to_pylist())
        errors = self.calls["error"].to_numpy()
        found = []
        for group in range(int(groups.max(initial=-1)) + 1):
            medians = {}
            for column in ("predicted", "measured"):
                values = [
                    row[group]
                    for row in self.layers[f"{column}_by_group"].to_pylist()
                    if row and row[group] is not None
                ]
                medians[column] = float(np.median(values)) if values else None
            mean = float(errors[groups == group].mean()) if (groups == group).any() else None
            found.append({"group": group, "output": mean, **medians})
        fields = [
            ("group", pa.int32()),
            *((name, pa.float64()) for name in ("output", "predicted", "measured")),
        ]
        return pa.Table.from_pylist(found, pa.schema(fields))

    def __str__(self) -> str:
        lines = [
            f"Final output: error {self.error:.3g} over {len(self.errors)} runs, predicted {self.predicted_error:.3g} "
            f"(measured / predicted {self.ratio:.2f})",
            f"Layers' own outputs: rank correlation of predicted with measured {self.rank_correlation:.3f} over "
            f"{len(self.layers)} layers",
        ]
        if self.is_alone:
            lines.append(f"One layer at a time: rank correlation {self.rank_correlation_alone:.3f}")
        if self.activations != "none":
            lines.append(f"Activations: {self.activations}")
        lines += [
            f"{name}: {own:.4g} as it was, {plan:.4g} with the plan"
            for name, (own, plan) in self.metrics.items()
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        found = f"error {self.error:.3g}, predicted {self.predicted_error:.3g}"
        return f"<Comparison over {len(self.errors)} runs: {found}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": f"<pre>{html.escape(str(self))}</pre>"}

    def _pairs(self, *columns: str) -> tuple[NDArray[np.float64], ...]:
        rows = zip(*(self.layers[column].to_pylist() for column in columns), strict=True)
        known = np.array([row for row in rows if None not in row], np.float64).reshape(-1, len(columns))
        return tuple(known.T)


def layer_effects(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is to be believed of each layer, from the logarithm of measured over predicted in some runs.

    A layer's mean over the runs is one of logarithms: an error is now and then many times what it usually is, where one
    image turns into another, and a mean of errors would be made by that run alone. Some runs are harder for all layers
    alike, which says nothing of any. What remains differs by chance from run to run, and will by as much at another
    option, whose rounding errors are others: the layers' means are drawn towards their median by that share of their
    variance (empirical Bayes). After a single run nothing is left of them.

    Parameters
    ----------
    logs : ndarray of float64, [layers, runs]

    Returns
    -------
    ndarray of float64, [layers]

    References
    ----------
    Efron and Morris, Data Analysis Using Stein's Estimator and its Generalizations, 1975, J. Am. Stat. Assoc. 70, for the
    share; the residuals of a two-way layout without interaction for the chance.
    """
    layers, runs = logs.shape
    means = logs.mean(axis=1)
    middle = float(np.median(means))
    spread = float(np.square(means - middle).mean())
    if runs < 2 or layers < 2 or spread == 0:
        return np.full_like(means, middle)
    residuals = logs - means[:, None] - logs.mean(axis=0) + logs.mean()
    chance = float(np.square(residuals).sum()) / ((layers - 1) * (runs - 1))
    part = max(1 - chance * (1 + 1 / runs) / spread, 0.0)
    return middle + part * (means - middle)


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank; NaN for fewer than three pairs."""
    if len(a) < 3:
        return float("nan")
    ranks = [np.unique(values, return_inverse=True, return_counts=True) for values in (a, b)]
    places = [(np.cumsum(counts) - (counts - 1) / 2)[inverse] for _, inverse, counts in ranks]
    with np.errstate(invalid="ignore", divide="ignore"):  # all equal
        return float(np.corrcoef(places[0], places[1])[0, 1])
