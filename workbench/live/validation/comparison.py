"""`Comparison`: what a plan does to a running model, measured, beside what was predicted."""

from __future__ import annotations

import html
import math
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
        pa.field("damage", pa.float64(), nullable=False),
    ]
)
"""Columns of `Comparison.layers`: relative error power of the layer's own output, with its mean over time groups; and
its predicted share in that of the final output, D."""

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
    trials: pa.Table
    """A row a layer and option tried alone, see `workbench.live.alone.TRIALS_SCHEMA`."""
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
        """Spearman's, over the layers, of predicted with measured error of the layers' own outputs.

        NaN for fewer than three layers.
        """
        return rank_correlation(*self._pairs("predicted", "measured"))

    @property
    def rank_correlation_alone(self) -> float:
        """The same for the final output with one layer quantized at a time, at the plan's options.

        NaN where that was not measured.
        """
        return rank_correlation(*np.array(list(self.alone.values()), np.float64).reshape(-1, 2).T)

    @property
    def alone(self) -> dict[str, tuple[float, float]]:
        """Predicted and measured error of the final output with one layer quantized as in the plan, mean over the runs.

        Empty where it was not measured.
        """
        rows = [row for row in self.trials.to_pylist() if row["is_present"]]
        return {row["layer"]: (row["predicted"], float(np.mean(row["measured"]))) for row in rows}

    @property
    def factors(self) -> dict[str, float]:
        """What each layer's predicted damage is to be multiplied by, so that the sum is the error of the whole plan.

        That is the damage as it was before anything was learnt.
        The layers' shares in it are those of the final output's error with one layer quantized at a time, where that
        was measured, as far as `layer_effects` believes it; else those that follow from the errors of the layers' own
        outputs.
        """
        logs = self._effects() if len(self.trials) else self._ratios_of_own_outputs()
        damage = dict(zip(*(self.layers[column].to_pylist() for column in ("layer", "damage")), strict=True))
        total = sum(damage[name] * math.exp(value) for name, value in logs.items())
        # Where inputs were rounded too, the error is not the weights' alone.
        common = self.error / total if total > 0 and self.error > 0 and self.activations == "none" else 1.0
        return {name: self.learnt.get(name, 1.0) * math.exp(value) * common for name, value in logs.items()}

    def _effects(self) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for row in self.trials.to_pylist():
            measured = np.array(row["measured"], np.float64)
            if row["predicted"] > 0 and (measured > 0).all():
                means = found.setdefault(row["layer"], [math.nan, math.nan])
                means[int(row["is_present"])] = float(np.log(measured / row["predicted"]).mean())
        if not found:
            return {}
        return dict(zip(found, layer_effects(np.array(list(found.values()))).tolist(), strict=True))

    def _ratios_of_own_outputs(self) -> dict[str, float]:
        return {
            row["layer"]: math.log(row["measured"] / row["predicted"])
            for row in self.layers.to_pylist()
            if (row["measured"] or 0) > 0 and row["predicted"] > 0
        }

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
            f"{len(self._pairs('predicted', 'measured')[0])} layers",
        ]
        idle = [row["layer"] for row in self.layers.to_pylist() if row["measured"] is None]
        if idle:
            lines.append(
                f"{len(idle)} of {len(self.layers)} layers did not run, or gave only zeros: nothing is known of them"
            )
        if self.alone:
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
    """What is to be believed of each layer, from the logarithm of measured over predicted at some of its options.

    Another option rounds the weights otherwise, and what its errors happen to do to the output differs: a layer that is
    cheap at one may be dear at the next, where a solver would put it. So what a layer's options have in common is
    believed, drawn towards the median of all layers by the share that chance has in its variance (empirical Bayes);
    chance is what the options of a layer differ by, besides what they differ by in all layers. Of layers at one option
    only nothing tells it, and nothing is believed.

    Parameters
    ----------
    logs : ndarray of float64, [layers, options]
        Means over runs; of logarithms, for in a run where one image turns into another an error is many times what it
        usually is. NaN where there is no such option.

    Returns
    -------
    ndarray of float64, [layers]

    References
    ----------
    Efron and Morris, Data Analysis Using Stein's Estimator and its Generalizations, 1975, J. Am. Stat. Assoc. 70, for
    the share; chance is the mean square of the residuals of a two-way layout without interaction.
    """
    known = np.isfinite(logs)
    count = known.sum(axis=1)
    whole = logs[known.all(axis=1)]
    middle = float(np.median(logs[known]))
    if len(whole) < 2 or logs.shape[1] < 2:
        return np.full(len(logs), middle)
    level = whole.mean(axis=0) - whole.mean()
    residuals = whole - whole.mean(axis=1, keepdims=True) - level
    chance = float(np.square(residuals).sum()) / ((whole.shape[0] - 1) * (whole.shape[1] - 1))
    means = np.where(known, logs - level, 0.0).sum(axis=1) / count
    middle = float(np.median(means))
    spread = max(float(np.square(means - middle).mean() - (chance / count).mean()), 0.0)
    with np.errstate(invalid="ignore"):  # neither spread nor chance
        part = np.nan_to_num(spread / (spread + chance / count), nan=1.0)
    found: NDArray[np.float64] = middle + part * (means - middle)
    return found


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank; NaN for fewer than three pairs."""
    if len(a) < 3:
        return float("nan")
    ranks = [np.unique(values, return_inverse=True, return_counts=True) for values in (a, b)]
    places = [(np.cumsum(counts) - (counts - 1) / 2)[inverse] for _, inverse, counts in ranks]
    with np.errstate(invalid="ignore", divide="ignore"):  # all equal
        return float(np.corrcoef(places[0], places[1])[0, 1])
