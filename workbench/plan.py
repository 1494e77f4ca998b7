"""The values that everything else passes around: `Layer`, `Option` and `Plan`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Role = Literal[
    "attention.q", "attention.k", "attention.v", "attention.out", "mlp.in", "mlp.out", "conv", "embedding",
    "modulation", "time_embed", "norm", "head", "other",
]  # fmt: skip
"""What a layer is for. A fused q/k/v projection counts as ``attention.q``."""

Kind = Literal["linear", "conv", "embedding"]
"""The module that owns the weight, which decides what an export target can do with it."""


@dataclass(frozen=True)
class Layer:
    """A quantizable weight of a checkpoint."""

    name: str
    """The tensor's name in the checkpoint, such as ``"blocks.0.attn.to_q.weight"``."""
    role: Role
    """What the layer is for."""
    kind: Kind
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
