"""Notes on an opened checkpoint for the user: what was passed over, renamed or left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from workbench.checkpoint.contents.bundle import DENOISER, EMA, BundlePart
from workbench.checkpoint.folders.side_files import LeftFile
from workbench.checkpoint.folders.weights import Weights
from workbench.checkpoint.tensors import TensorInfo
from workbench.plan import Layer


def notes_on_files(trailing: Mapping[Path, int], left: Iterable[LeftFile]) -> Iterator[str]:
    """Sentences on bytes that belong to no tensor, and on files that do not travel along."""
    for path, count in trailing.items():
        yield (
            f"{count:,} bytes follow the last tensor of {path.name} and belong to none. All tensors are there; the "
            "bytes are passed over, and the safetensors library itself would refuse the file."
        )
    for file in left:
        yield f"{file.relative} was not copied: it is {file.reason}."


def notes_on_bundle(bundle: Sequence[BundlePart], left_out: Sequence[BundlePart]) -> Iterator[str]:
    """Sentences on the models of an all-in-one file."""
    if bundle:
        others = [part for part in bundle if part.name != DENOISER]
        yield (
            f"This file holds several models: {', '.join(map(str, bundle))}. Only the denoiser has layers to quantize; "
            f"the rest stays in its own precision, {_megabytes(others)} in all."
        )
    if left_out:
        yield (
            f"Left out of the file: {', '.join(map(str, left_out))}, {_megabytes(left_out)} in all. A GGUF file holds "
            "one model, the denoiser, under its bare names; load the others from files of their own."
        )
    if any(part.name == EMA for part in (*bundle, *left_out)):
        yield f"The {EMA} is a second set of the same weights and is never quantized; no pipeline needs it to draw."


def notes_on_denoisers(weights: Weights) -> Iterator[str]:
    """A sentence on the other denoisers of a pipeline, which this component is only one of."""
    others = [name for name in weights.denoisers if name != weights.component]
    if not others:
        return
    ratio = weights.pipeline.get("boundary_ratio")
    switch = (
        f" The pipeline switches between them at boundary_ratio {ratio:g}."
        if isinstance(ratio, int | float) and not isinstance(ratio, bool)
        else ""
    )
    for name in others:
        yield (
            f"This is the component {weights.component}; {name} is another denoiser of the same pipeline and stays "
            f"untouched.{switch} To quantize it too, name it: --component {name}, in Python component={name!r}."
        )


def sentence_on_the_rest(tensors: Mapping[str, TensorInfo], layers: Iterable[Layer]) -> str:
    """How many tensors are no layers, with their bytes and their share."""
    names = {layer.name for layer in layers}
    rest = [info.nbytes for name, info in tensors.items() if name not in names]
    total = sum(info.nbytes for info in tensors.values())
    held = sum(rest)
    are = "is not a layer and is" if len(rest) == 1 else "are not layers and are"
    return (
        f"{len(rest)} of {len(tensors)} tensors {are} not quantized: {held:,} bytes, "
        f"{held / max(total, 1):.1%} of the source. Bits per weight and NSR speak of the layers alone."
    )


def _megabytes(parts: Iterable[BundlePart]) -> str:
    return f"{sum(part.nbytes for part in parts) / 1e6:,.3f} MB"
