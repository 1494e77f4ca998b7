"""`Description`: what is known of a checkpoint besides its numbers, found once when it is opened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from workbench.architectures import DENOISER_PREFIX, Architecture, class_of, recognise
from workbench.checkpoint.contents.bundle import BundlePart, find_bundle
from workbench.checkpoint.contents.layers import PEEK_VALUES, find_layers, roles_of
from workbench.checkpoint.folders.weights import Weights
from workbench.checkpoint.modality import Modality, detect_modality
from workbench.checkpoint.readers.reader import TensorReader
from workbench.checkpoint.tensors import DTYPES, TensorInfo
from workbench.checkpoint.tied_head import TiedHead, find_tied_head, note_on_tied_head
from workbench.plan import Layer, Role


@dataclass(frozen=True, eq=False)
class Description:
    """What is known of a checkpoint besides its numbers."""

    path: Path
    """What was opened, as an absolute path."""
    weights: Weights
    """Where it is stored, with its configuration."""
    reader: TensorReader
    """Whose tensors are described; readers around it share the description."""
    tied_head: TiedHead | None
    """A stored head that config.json ties to the embedding, and that is left out."""
    family: Architecture | None
    """What is known of models of its kind, by its configuration or its tensors; None where nothing is."""
    roles: Mapping[str, Role]
    """What every tensor is for, kept ones too."""
    layers: tuple[Layer, ...]
    """The quantizable weights, in the order of the tensors."""
    modality: Modality
    """What the model generates, with the evidence."""
    bundle: tuple[BundlePart, ...]
    """The models of an all-in-one file, the denoiser first, whose are the layers; empty where it is one model."""
    left_out: tuple[BundlePart, ...]
    """Models of an all-in-one file that are not among the tensors."""
    denoiser_prefix: str
    """What stands before the names of the denoiser's tensors in an all-in-one file, else nothing."""
    remarks: tuple[str, ...]
    """Sentences for the user on how it was opened."""

    @property
    def architecture(self) -> str | None:
        """The model's class by its configuration, such as ``"DiTTransformer2DModel"``."""
        return class_of(self.weights.config)

    @cached_property
    def tie_note(self) -> str | None:
        """A sentence on the head that config.json ties to the embedding, where it is stored and so left out."""
        return None if self.tied_head is None else note_on_tied_head(self.tied_head, self._row_of)

    @property
    def all_remarks(self) -> tuple[str, ...]:
        """The remarks, and the note on a tied head; each once."""
        return tuple(dict.fromkeys((*self.remarks, *filter(None, [self.tie_note]))))

    def layers_of(self, tensors: Mapping[str, TensorInfo]) -> tuple[Layer, ...]:
        """The layers in the dtypes that a reader around the one described gives them."""
        return tuple(
            layer
            if layer.dtype == tensors[layer.name].dtype
            else replace(layer, dtype=tensors[layer.name].dtype)
            for layer in self.layers
        )

    def _row_of(self, name: str, row: int) -> NDArray[np.generic]:
        info = self.reader.tensors[name]
        values = np.empty(info.shape[1:], DTYPES[info.dtype])
        self.reader.read_into(name, row * values.nbytes, values)
        return values


def describe(
    path: Path,
    weights: Weights,
    reader: TensorReader,
    *,
    remarks: Sequence[str] = (),
    left_out: tuple[BundlePart, ...] = (),
    denoiser_prefix: str = "",
    is_one_model: bool = False,
) -> Description:
    """Describe a checkpoint by its configuration and its tensors.

    Parameters
    ----------
    path : Path
        What was opened.
    weights : Weights
        Where it is stored.
    reader : TensorReader
        Its tensors; the first values of some are read where no rule knows their names.
    remarks : sequence of str
        Sentences for the user.
    left_out : tuple of BundlePart
        Models of an all-in-one file that are not among the tensors.
    denoiser_prefix : str
        What stood before the names of the denoiser in the file.
    is_one_model : bool
        Do not look for other models among the tensors.
    """
    config = weights.config
    tied_head = find_tied_head(reader.tensors, config)
    tensors = {
        name: info for name, info in reader.tensors.items() if tied_head is None or name != tied_head.head
    }
    bundle = () if is_one_model or left_out else find_bundle(reader.tensors, config)
    denoiser_prefix = bundle[0].prefix if bundle else denoiser_prefix
    model = {name: reader.tensors[name] for name in bundle[0].tensors} if bundle else tensors
    prefix = denoiser_prefix or DENOISER_PREFIX
    family = recognise(config, {name.removeprefix(prefix) for name in model})
    roles = roles_of(tensors.values(), family)

    def first_values(info: TensorInfo) -> NDArray[np.float32]:
        values = np.empty(min(math.prod(info.shape), PEEK_VALUES), DTYPES[info.dtype])
        reader.read_into(info.name, 0, values)
        with np.errstate(all="ignore"):
            return values.astype(np.float32)

    return Description(
        path=path,
        weights=weights,
        reader=reader,
        tied_head=tied_head,
        family=family,
        roles=MappingProxyType(roles),
        layers=find_layers(model, roles, first_values, () if family is None else family.lists),
        modality=detect_modality(
            pipeline=weights.pipeline,
            config=config,
            metadata=reader.metadata,
            names=reader.tensors,
            title=path.name,
        ),
        bundle=bundle,
        left_out=left_out,
        denoiser_prefix=denoiser_prefix,
        remarks=tuple(remarks),
    )
