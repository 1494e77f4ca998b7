"""Where the channels of a model can be equalised exactly, as plain values that `workbench.folds` looks up in tensors.

Modules are named within their block. A place counts only where names and shapes of the checkpoint bear it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
"""config.json."""

Has = Callable[..., bool]
"""Whether the block has all the modules of these names."""


@dataclass(frozen=True)
class NormFold:
    """A norm's gain, and its bias if it has one, before the linears that it feeds."""

    gain: str
    consumers: tuple[str, ...]


@dataclass(frozen=True)
class ModulationFold:
    """Shift and scale rows of an adaLN that belongs to the block alone."""

    linear: str
    consumers: tuple[str, ...]
    shift: int
    """Which of its parts is the shift."""
    scale: int
    """Which of its parts is the scale, to which the model adds 1."""
    parts: int
    """Equal parts into which its rows fall."""


@dataclass(frozen=True)
class ValueFold:
    """The values of an attention and its output projections: each head's output is a mean of values."""

    values: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class LinearFold:
    """Linears whose outputs pass straight into others."""

    producers: tuple[str, ...]
    consumers: tuple[str, ...]


@dataclass(frozen=True)
class FeedForwardFold:
    """diffusers' FeedForward; a fold only where ``activation_fn`` of config.json is gated."""

    module: str


@dataclass(frozen=True)
class LeftAlone:
    """A place without an exact fold, to be named."""

    place: str
    why: str


FoldPlace = NormFold | ModulationFold | ValueFold | LinearFold | FeedForwardFold | LeftAlone

Places = Callable[[Config, Has], Iterable[FoldPlace]]
"""The places of one block, by config.json and by the modules that it has."""


def nowhere(config: Config, has: Has) -> Iterable[FoldPlace]:
    """No places."""
    return ()


@dataclass(frozen=True)
class FoldedBlocks:
    """The places in each block of a numbered list."""

    name: str
    """The list, a regular expression."""
    known: str
    """The modules of a block, a regular expression; a block with another module is left alone."""
    places: Places


@dataclass(frozen=True)
class Folds:
    """All places of a family."""

    lists: tuple[FoldedBlocks, ...]
    outside: Places = nowhere
    """The places outside the lists, with whole names."""
    heads: tuple[str, str] = ("num_attention_heads", "num_key_value_heads")
    """What config.json calls the numbers of heads of queries and of keys."""
    obstacle: Callable[[Config], LeftAlone | None] = lambda config: None
    """Why a model of the family has no exact fold at all; None where it may have some."""


def joined_head(norm: str, head: str, is_tied: bool, has: Has) -> Iterable[FoldPlace]:
    """The last norm of a language model, before a head whose weights are its own."""
    if has(norm, head) and not is_tied:
        yield NormFold(norm, (head,))
    elif has(norm):
        yield LeftAlone(norm, "left alone, as its head has the weights of the embedding")


SHARED = "left alone, as all blocks share it and a fold would be of one"
"""Of a modulation."""
