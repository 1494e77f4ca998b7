"""Some tensors of a checkpoint, or all, under other names; each is whole, as in its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.header import TensorInfo
from workbench.checkpoint.renamed import Source


class SelectedAdapter(Mapping[str, NDArray[Any]]):
    """Tensors of a checkpoint under names of their own; nothing is copied.

    Parameters
    ----------
    source : Source
        A checkpoint.
    names : mapping of str to str
        The checkpoint's name of each tensor, by the new one.
    """

    tensors: Mapping[str, TensorInfo]
    """The tensors by their new names, in the order of `names`."""

    def __init__(self, source: Source, names: Mapping[str, str]) -> None:
        self.source = source
        self.names = MappingProxyType(dict(names))
        self.metadata = source.metadata
        self.tensors = MappingProxyType(
            {new: replace(source.tensors[old], name=new) for new, old in self.names.items()}
        )

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.source.view(self.names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def read_into(self, name: str, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill a buffer with bytes of a tensor."""
        self.source.read_into(self.names[name], start, buffer)

    def digest(self) -> bytes:
        """That of the source: the weights are the same, and so plans and records fit."""
        return bytes.fromhex(self.source.fingerprint)

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when a file is not what it was when it was opened."""
        self.source.check_unchanged()

    def close(self) -> None:
        """Close the source's files."""
        self.source.close()
