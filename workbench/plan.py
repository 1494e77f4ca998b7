"""The values that everything else passes around: `Layer`, `Option` and `Plan`."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Self

import yaml

from workbench.config import EFFORTS
from workbench.config_sources import yaml_values
from workbench.errors import PlanError, UsageError
from workbench.text_file import FileKind, write_text

Role = Literal[
    "attention.q", "attention.k", "attention.v", "attention.out", "mlp.in", "mlp.out", "conv", "embedding",
    "modulation", "time_embed", "norm", "head", "other",
]  # fmt: skip
"""What a layer is for. A fused q/k/v projection counts as ``attention.q``."""

LayerKind = Literal["linear", "conv", "embedding"]
"""The module that owns the weight, which decides what an export target can do with it."""


@dataclass(frozen=True)
class Layer:
    """A quantizable weight of a checkpoint."""

    name: str
    """The tensor's name in the checkpoint, such as ``"blocks.0.attn.to_q.weight"``."""
    role: Role
    """What the layer is for."""
    kind: LayerKind
    """The kind of module that owns it."""
    depth: int | None
    """Index of the block it belongs to, counted from 0 along the model; None outside the blocks."""
    shape: tuple[int, ...]
    """The tensor's shape, output axis first."""
    dtype: str
    """Source dtype by its safetensors name, such as ``"BF16"``."""

    @property
    def rows(self) -> int:
        """Size of the output axis."""
        return self.shape[0]

    @property
    def cols(self) -> int:
        """Weights per row: the input axis, for convolutions in·kh·kw."""
        return math.prod(self.shape[1:])

    @property
    def params(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


KEEP: Final = "keep"
"""The scheme of a layer that stays in its source dtype."""

OLD_KEEP: Final = "none"
"""`KEEP` in the files of version 0.1."""


@dataclass(frozen=True)
class Option:
    """One way a target can store a layer."""

    bits: int
    """Nominal bits per weight, 2 to 8; those of the source dtype where the layer is kept."""
    scheme: str
    """The target's own name for it, such as ``"asymmetric"`` or ``"Q4_K"``; ``"keep"`` for the source dtype."""
    group_size: int
    """Weights that share a scale, along the input axis; 0 where there are no scales."""
    nbytes: int
    """Exact bytes of its tensor data in the file, scales and padding included."""

    @property
    def is_kept(self) -> bool:
        """Whether the layer stays in its source dtype."""
        return self.scheme == KEEP


FORMAT: Final = "arrowquant-plan"
"""What the file of a plan says that it is."""

TOTALS: Final = ("nbytes", "bpw", "damage", "gap", "temperature")
"""What a plan may predict: bytes of the payload, bits per layer weight, Σ D over the layers, by how much another plan
of the same bytes could be better at most, and the price of a bit."""


@dataclass(frozen=True)
class Plan:
    """What an export does with every layer; immutable."""

    target: str
    """The export format, such as ``"parquet"``."""
    choices: Mapping[str, Option]
    """One option a layer, by the layer's name, in the checkpoint's order."""
    fingerprint: str
    """Fingerprint of the checkpoint it was made for."""
    locks: frozenset[str] = frozenset()
    """Layers that a solver must leave as they are."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: plain values, for people to read."""
    predicted: Mapping[str, float | None] = field(default_factory=dict)
    """What it was expected to add up to, by the names of `TOTALS`; None where that is not finite, empty where
    it was not computed."""
    effort: str = "fast"
    """How hard to look for the codes of every layer."""
    weighted_by: str | None = None
    """Digest of the calibration records whose moments weigh the errors of codes; None where all count alike."""

    VERSION = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", MappingProxyType(dict(self.choices)))
        object.__setattr__(self, "made_by", MappingProxyType(dict(self.made_by)))
        predicted = {key: _plain_number(value) for key, value in self.predicted.items()}
        object.__setattr__(self, "predicted", MappingProxyType(predicted))

    @property
    def nbytes(self) -> int:
        """Bytes of the layers' tensor data."""
        return sum(option.nbytes for option in self.choices.values())

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings cannot be pickled; the document that a plan's file has holds all of it.
        return type(self).from_dict, (self.to_dict(), "the plan")

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, as `from_dict` takes them."""
        return {
            "format": FORMAT,
            "version": self.VERSION,
            "target": self.target,
            "fingerprint": self.fingerprint,
            "made_by": dict(self.made_by),
            **({"predicted": dict(self.predicted)} if self.predicted else {}),
            **({} if self.effort == "fast" else {"effort": self.effort}),
            **({} if self.weighted_by is None else {"weighted_by": self.weighted_by}),
            "locks": sorted(self.locks),
            "layers": {name: dict(vars(option)) for name, option in self.choices.items()},
        }

    @property
    def recipe(self) -> dict[str, Any]:
        """The plan as a payload states it: plain values without `predicted`, which speaks of the payload itself."""
        return {key: value for key, value in self.to_dict().items() if key != "predicted"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "plan") -> Self:
        """The plan of plain values.

        Raises
        ------
        PlanError
            If something is missing, unknown or of the wrong type; `where` begins the message.
        """
        expected = {"format", "version", "target", "fingerprint", "made_by", "locks", "layers"}
        if data.get("format") != FORMAT:
            raise PlanError(f"{where}: this is not a plan: it has no line 'format: {FORMAT}'.", key="format")
        if data.get("version") != cls.VERSION:
            raise PlanError(
                f"{where}: plan version {data.get('version')!r} is unknown; this release reads version "
                f"{cls.VERSION}.",
                key="version",
                value=data.get("version"),
            )
        given = set(data) - {"predicted", "effort", "weighted_by"}
        if given != expected:
            key = sorted(given ^ expected)[0]
            problem = "is missing" if key in expected else "is unknown"
            raise PlanError(f"{where}: the key {key!r} {problem}.", key=key)
        shapes = {"target": str, "fingerprint": str, "made_by": Mapping, "locks": list, "layers": Mapping}
        for key, kind in shapes.items():
            if not isinstance(data[key], kind):
                raise PlanError(
                    f"{where}: {key!r} must be a {kind.__name__}, not {data[key]!r}.",
                    key=key,
                    value=data[key],
                )
        effort, weighted_by = data.get("effort", "fast"), data.get("weighted_by")
        if effort not in EFFORTS:
            allowed = ", ".join(EFFORTS)
            raise PlanError(
                f"{where}: the effort must be one of {allowed}, not {effort!r}.", key="effort", value=effort
            )
        if weighted_by is not None and (not isinstance(weighted_by, str) or effort == "fast"):
            raise PlanError(
                f"{where}: 'weighted_by' must be the digest of a calibration, and goes with an effort that searches; "
                f"it is {weighted_by!r}, the effort {effort}.",
                key="weighted_by",
                value=weighted_by,
            )
        choices = {
            name: _option(fields, f"{where}: layer {name!r}") for name, fields in data["layers"].items()
        }
        unknown = sorted(set(map(str, data["locks"])) - set(choices))
        if unknown:
            raise PlanError(f"{where}: the lock {unknown[0]!r} names no layer.", key="locks")
        return cls(
            target=data["target"],
            choices=choices,
            fingerprint=data["fingerprint"],
            locks=frozenset(data["locks"]),
            effort=effort,
            weighted_by=weighted_by,
            made_by=data["made_by"],
            predicted=_predicted(data.get("predicted", {}), where),
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the `recipe`: with the checkpoint it decides the payload's bytes."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the plan as YAML, one line a layer, in one step.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Replace the plan that is there; a file that is not a plan is never replaced.

        Raises
        ------
        ValidationError
            If there is another plan already, or something that is not a plan.
        PlanError
            If the file cannot be written; what was there stays.
        """
        text = yaml.safe_dump(
            self.to_dict(), sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=None
        )
        write_text(path, text, PLAN_FILE, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a plan that `save` wrote.

        Raises
        ------
        PlanError
            If the file cannot be read or is not a plan.
        """
        path = Path(path)
        return cls.from_dict({given.key: given.value for given in yaml_values(path, PlanError)}, str(path))


def _is_plan(path: Path) -> bool:
    try:
        return any(given.key == "format" and given.value == FORMAT for given in yaml_values(path, PlanError))
    except UsageError:
        return False


PLAN_FILE: Final = FileKind("a plan", _is_plan, error=PlanError)
"""The kind of file that `Plan.save` writes."""


def _option(fields: object, where: str) -> Option:
    if not isinstance(fields, Mapping) or set(fields) != {"bits", "scheme", "group_size", "nbytes"}:
        raise PlanError(f"{where} must have bits, scheme, group_size and nbytes, not {fields!r}.")
    for key, kind in {"bits": int, "scheme": str, "group_size": int, "nbytes": int}.items():
        if type(fields[key]) is not kind:
            raise PlanError(
                f"{where}: {key} must be a {kind.__name__}, not {fields[key]!r}.", key=key, value=fields[key]
            )
    return Option(**{**fields, "scheme": KEEP if fields["scheme"] == OLD_KEEP else fields["scheme"]})


def _plain_number(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, Integral) else float(value)


def _predicted(totals: object, where: str) -> Mapping[str, float | None]:
    if isinstance(totals, Mapping):  # files of version 0.1 call the damage nsr
        totals = {"damage" if key == "nsr" else key: value for key, value in totals.items()}
    if not isinstance(totals, Mapping) or not set(totals) <= set(TOTALS):
        raise PlanError(
            f"{where}: 'predicted' must be a mapping of {', '.join(TOTALS)}, not {totals!r}.", key="predicted"
        )
    for key, value in totals.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise PlanError(
                f"{where}: the predicted {key} must be a number, not {value!r}.", key=key, value=value
            )
    return totals
