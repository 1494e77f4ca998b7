"""The output head of a language model that its configuration ties to the embedding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.architectures import Tie, known_architectures
from workbench.checkpoint.tensors import TensorInfo

_TIE = Tie(
    "tie_word_embeddings", "lm_head|embed_out", "embed_tokens|wte|word_embeddings?|embed_in|tok_embeddings"
)
"""That of transformers; families with another have it in their record."""

SAMPLED_ROWS = 1024
"""Rows of both that are compared."""

ReadRow = Callable[[str, int], NDArray[Any]]
"""Gives a row of a tensor, by its name."""


@dataclass(frozen=True)
class TiedHead:
    """A head that is stored although runtimes use the embedding in its place."""

    key: str
    """What ties it in config.json."""
    head: str
    """The head's tensor."""
    embedding: str
    """The embedding's tensor."""
    rows: int
    """Rows of each."""


def find_tied_head(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> TiedHead | None:
    """The stored head of a model whose configuration ties it; None where it has none, or is not tied."""
    ties = (_TIE, *(family.tie for family in known_architectures() if family.tie is not None))
    key = next((tie.key for tie in ties if config.get(tie.key) is True), None)
    if key is None:
        return None
    heads = _weights(tensors, [tie.head for tie in ties])
    tables = _weights(tensors, [tie.embedding for tie in ties])
    if len(heads) != 1 or len(tables) != 1:
        return None
    head, table = tensors[heads[0]], tensors[tables[0]]
    is_pair = head.shape == table.shape and len(head.shape) == 2
    return TiedHead(key, head.name, table.name, head.shape[0]) if is_pair else None


def _weights(tensors: Iterable[str], modules: Iterable[str]) -> list[str]:
    """The weights of modules whose names end in one of some patterns."""
    pattern = re.compile(rf"(?:^|\.)(?:{'|'.join(modules)})\.weight$")
    return [name for name in tensors if pattern.search(name)]


def note_on_tied_head(tied: TiedHead, read_row: ReadRow) -> str:
    """A sentence on a head that is left out, and on whether it has the numbers of the embedding."""
    step = max(tied.rows // SAMPLED_ROWS, 1)
    differs = any(
        not np.array_equal(
            read_row(tied.head, row).astype(np.float64),
            read_row(tied.embedding, row).astype(np.float64),
            equal_nan=True,
        )
        for row in range(0, tied.rows, step)
    )
    note = (
        f"config.json ties {tied.head} to {tied.embedding} ({tied.key}), which runtimes then use in its place: the "
        "stored head is left out."
    )
    if differs:
        note += f" Its numbers are not the embedding's; to have them used, set {tied.key} to false in config.json."
    return note
