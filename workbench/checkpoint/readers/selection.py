"""`SelectedReader`: some tensors of another reader, or all, under other names; each is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.readers.reader import DerivedReader, TensorReader
from workbench.checkpoint.tensors import TensorInfo


class SelectedReader(DerivedReader):
    """Tensors of a reader under names of their own; nothing is copied.

    The fingerprint is that of the source: the weights are the same, and so plans and records fit.

    Parameters
    ----------
    source : TensorReader
    names : mapping of str to str
        The source's name of each tensor, by the new one, in the new order.
    """

    def __init__(self, source: TensorReader, names: Mapping[str, str]) -> None:
        super().__init__(source)
        self.names = MappingProxyType(dict(names))
        self.tensors = MappingProxyType(
            {new: replace(source.tensors[old], name=new) for new, old in self.names.items()}
        )

    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        self.source.read_into(self.names[info.name], start, target)

    def _view(self, info: TensorInfo) -> NDArray[Any]:
        return self.source.view(self.names[info.name])
