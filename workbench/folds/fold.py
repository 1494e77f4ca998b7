"""Exact folds: factors moved from the linears that read some channels into what makes those channels.

x → x / s in the producer and W → W·diag(s) in every consumer leave W·x as it is. The producer is a norm's gain, the
rows of a modulation that belong to one block, or a linear; nothing else may read its channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from workbench.errors import MetadataError

SingleArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

Producer = Literal["norm", "modulation", "linear"]
"""What makes the channels: a norm's gain, the shift and scale rows of an adaLN, or a linear."""

TOLERANCE = 1e-5
"""Most that a fold may change what the consumers give, relative and in float32."""


@dataclass(frozen=True)
class Divided:
    """Consecutive rows of a tensor that a fold divides by its factors, one row a channel."""

    tensor: str
    """The tensor, [rows, ...]."""
    start: int = 0
    """The first of the rows."""
    adds_one: bool = False
    """Whether the model adds 1 to what the rows give, as an adaLN does to its scale: 1 + b becomes (1 + b) / s."""


@dataclass(frozen=True)
class Site:
    """A place where a fold is exact."""

    name: str
    """What stands there, such as ``"transformer_blocks.0: norm1.linear → attn1.to_q, attn1.to_k, attn1.to_v"``."""
    producer: Producer
    """What makes the channels."""
    channels: int
    """Number of factors."""
    divided: tuple[Divided, ...]
    """What is divided by the factors: weights and biases of the producers."""
    consumers: tuple[str, ...]
    """The layers whose input the channels are, all of them."""
    heads: int = 1
    """Heads into which the channels fall, where attention repeats them (grouped-query attention)."""
    repeats: int = 1
    """How often the consumers see each head."""

    @property
    def spread(self) -> IntArray:
        """The factor that belongs to each input channel of a consumer, int64 [channels·repeats]."""
        by_head = np.arange(self.channels).reshape(self.heads, -1)
        return np.repeat(by_head, self.repeats, axis=0).reshape(-1)

    def gather(self, values: NDArray[Any]) -> NDArray[Any]:
        """The greatest of what the input channels that share a factor have, [channels·repeats] to [channels]."""
        found = np.zeros(self.channels, values.dtype)
        np.maximum.at(found, self.spread, values)
        return found


@dataclass(frozen=True, eq=False)
class Fold:
    """A fold that is to be made."""

    site: Site
    """Where."""
    alpha: float
    """The share of the activations in the factors, see `balance`."""
    factors: SingleArray
    """s, float32 [channels]."""

    def to_dict(self) -> dict[str, Any]:
        """The fold as plain JSON values; the factors are the shortest decimals that are read back as they are."""
        return {
            "site": self.site.name,
            "consumers": list(self.site.consumers),
            "alpha": self.alpha,
            "factors": [float(np.format_float_scientific(value)) for value in self.factors],
        }

    @classmethod
    def from_dict(cls, data: object, sites: Mapping[str, Site], where: str) -> Self:
        """The fold of plain values at one of a checkpoint's sites.

        Raises
        ------
        MetadataError
            If it is malformed, or at no such site.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("site"), str):
            raise MetadataError(f"{where}: a fold must be an object with a site, not {str(data)[:80]}.")
        site = sites.get(data["site"])
        if site is None:
            raise MetadataError(f"{where}: the checkpoint has no exact fold at {data['site']!r}.")
        alpha, given = data.get("alpha"), data.get("factors")
        factors = np.zeros(0, np.float32)
        if isinstance(given, list) and all(type(value) in (int, float) for value in given):
            with np.errstate(over="ignore"):
                factors = np.array(given, np.float32)
        sound = np.isfinite(factors).all() and (factors > 0).all()
        if (
            not isinstance(alpha, int | float)
            or isinstance(alpha, bool)
            or factors.shape != (site.channels,)
            or not sound
        ):
            raise MetadataError(
                f"{where}: the fold at {site.name!r} must have an alpha and {site.channels} factors above 0."
            )
        return cls(site, float(alpha), factors)


def balance(activations: SingleArray, weights: SingleArray, alpha: float) -> SingleArray:
    """Factors that share out the range of channels between activations and weights.

    s_j = max|x_j|^α / max|W_:,j|^(1−α), divided by their geometric mean, so that the fold moves the channels against
    each other and not all of them. A channel that is never active, or that no weight reads, keeps the factor 1.

    Parameters
    ----------
    activations : float32 [channels]
        max|x_j| over all times.
    weights : float32 [channels]
        max|W_:,j| over all consumers.
    alpha : float
        0 makes the weights' columns equally large, 1 the channels.

    Returns
    -------
    float32 [channels]

    References
    ----------
    Xiao et al., SmoothQuant, 2023, arXiv:2211.10438, equation 4.
    """
    seen = (activations > 0) & (weights > 0)
    exponents = np.zeros(len(activations))
    exponents[seen] = alpha * np.log(activations[seen], dtype=np.float64)
    exponents[seen] -= (1 - alpha) * np.log(weights[seen], dtype=np.float64)
    if seen.any():
        exponents[seen] -= exponents[seen].mean()
    factors: SingleArray = np.exp(np.clip(exponents, -80, 80)).astype(np.float32)
    return factors


def read_folds(document: object, sites: Sequence[Site], where: str) -> tuple[Fold, ...]:
    """The folds of a list of plain values, each at a site of its own.

    Raises
    ------
    MetadataError
        If it is malformed, or not of these sites.
    """
    if not isinstance(document, list):
        raise MetadataError(f"{where}: the folds must be a list, not {str(document)[:80]}.")
    by_name = {site.name: site for site in sites}
    folds = tuple(Fold.from_dict(entry, by_name, where) for entry in document)
    if len({fold.site.name for fold in folds}) < len(folds):
        raise MetadataError(f"{where}: two folds are at the same site.")
    return folds
