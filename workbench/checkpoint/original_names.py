"""Of which rows of its tensors a checkpoint's original single-file form is made.

ComfyUI and stable-diffusion.cpp read the names of the original code. Where diffusers keeps query, key and value apart,
that has one tensor of all their rows; and where a norm's modulation gives scale before shift, it has shift before
scale. The way there is a rearrangement of whole rows, and exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.architectures import Architecture, Place, original_names_of
from workbench.checkpoint.tensors import TensorInfo
from workbench.errors import ValidationError

JOINED = frozenset({"F32", "F16", "BF16"})
"""Dtypes whose values one tensor can hold, as float32."""


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a tensor."""

    tensor: str
    """Its name."""
    start: int
    """First row."""
    stop: int
    """The row after the last."""


@dataclass(frozen=True)
class OriginalTensors:
    """The tensors of an original checkpoint."""

    parts: Mapping[str, tuple[Part, ...]]
    """By original name, in the order of the first part; the rows of all parts one after the other."""
    unplaced: tuple[str, ...]
    """Tensors that have no place there; they are among `parts` by their own names."""


def original_tensors(
    architecture: Architecture | None, tensors: Mapping[str, TensorInfo]
) -> OriginalTensors | None:
    """The tensors of the original single-file checkpoint, as rows of diffusers' tensors.

    Parameters
    ----------
    architecture : Architecture or None
        The family.
    tensors : mapping of str to TensorInfo
        All tensors by diffusers' names.

    Returns
    -------
    OriginalTensors or None
        None for a family whose original names are not known.

    Raises
    ------
    ValidationError
        If no tensor has a place in the original checkpoint, two would have one name, or parts of one do not fit each
        other: names the tensor.
    """
    names = original_names_of(architecture, tensors)
    if names is None or architecture is None:
        return None
    found: dict[str, tuple[Part, ...]] = {}
    done: set[str] = set()
    unplaced = []
    for name in tensors:
        if name in done:
            continue
        place = names.place_of(name)
        if place is None:
            unplaced.append(name)
            place = Place(name, (name,), False)
        if place.original in found or done & set(place.sources):
            raise ValidationError(
                f"Two tensors would be called {place.original!r}: {name!r} is one.", tensor=name
            )
        found[place.original] = _parts(place, tensors)
        done |= set(place.sources)
    if unplaced and len(unplaced) == len(tensors):
        raise ValidationError(
            f"None of the {len(tensors)} tensors has a place in an original {architecture.name} checkpoint, such as "
            f"{unplaced[0]!r}.",
            tensor=unplaced[0],
        )
    return OriginalTensors(found, tuple(unplaced))


def _parts(place: Place, tensors: Mapping[str, TensorInfo]) -> tuple[Part, ...]:
    sources = place.sources
    missing = next((source for source in sources if source not in tensors), None)
    if missing is not None:
        raise ValidationError(f"Tensor {missing!r} is missing beside {sources[0]!r}.", tensor=missing)
    infos = [tensors[source] for source in sources]
    shapes = {(info.shape[1:], len(info.shape)) for info in infos}
    dtypes = {info.dtype for info in infos}
    # A fold may have made one of them float32, which holds all values of the others.
    if len(shapes) > 1 or (len(dtypes) > 1 and not dtypes <= JOINED):
        raise ValidationError(
            f"{', '.join(map(repr, sources))} cannot be one tensor: their dtypes or shapes differ.",
            tensor=sources[0],
        )
    if place.is_swapped:
        rows = infos[0].shape[0] if infos[0].shape else 1
        if rows % 2:
            raise ValidationError(f"The {rows} rows of {sources[0]!r} have no halves.", tensor=sources[0])
        return Part(sources[0], rows // 2, rows), Part(sources[0], 0, rows // 2)
    return tuple(
        Part(source, 0, info.shape[0] if info.shape else 1)
        for source, info in zip(sources, infos, strict=True)
    )
