"""Opening what a user points at: a path or a model of the zoo."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workbench.checkpoint.checkpoint import Checkpoint
from workbench.checkpoint.contents.bundle import find_bundle
from workbench.checkpoint.contents.notes import notes_on_files
from workbench.checkpoint.folders.weights import Weights, find_weights
from workbench.checkpoint.readers.gguf import GGUF_SUFFIX, GgufReader
from workbench.checkpoint.readers.reader import TensorFiles, TensorReader
from workbench.checkpoint.readers.safetensors import SafeTensorsAdapter, ShardedSafeTensorsAdapter
from workbench.checkpoint.readers.selection import SelectedReader
from workbench.checkpoint.refusals.adapters import refuse_adapter
from workbench.checkpoint.refusals.quantized import refuse_quantized
from workbench.checkpoint.wrappers import describe_wrappers, unwrapped_names
from workbench.errors import ModelNotFoundError

ZOO_PREFIX = "zoo:"


def open_checkpoint(path: str | Path, component: str | None = None) -> Checkpoint:
    """Open a checkpoint; only headers and configurations are read.

    Parameters
    ----------
    path : path-like
        A safetensors file, the index of a sharded checkpoint, a Hugging Face folder, a diffusers folder, a GGUF
        file in F32, F16 or BF16, or ``"zoo:NAME"`` for a model that ships with the workbench.
    component : str, optional
        The component of a diffusers folder; by default its denoiser.

    Returns
    -------
    Checkpoint
        A context manager.

    Raises
    ------
    ModelNotFoundError
        If there is nothing at `path`, a shard is missing, or there is no such component.
    MetadataError, ShapeMismatchError
        If a header, index or configuration is malformed; the message names file and tensor.
    ValidationError
        If the weights are pickles, already quantized, an adapter such as a LoRA, one of several shards, of an unknown
        dtype, or it is not clear which are meant.

    Notes
    -----
    Wrappers that training code left in the names, such as ``_orig_mod.``, are taken off; `Checkpoint.notes` says so.
    """
    location = _locate(path)
    weights = find_weights(location, component)
    source = _open(weights)
    try:
        refuse_adapter(location, source.tensors, source.metadata, weights.adapter)
        _refuse_quantized_denoiser(location, weights, source)
        if isinstance(source, GgufReader):
            return Checkpoint.of(location, weights, source)
        remarks = tuple(notes_on_files(source.trailing, ()))
        is_language_model = "architectures" in weights.config or "model_type" in weights.config
        names = unwrapped_names(source.tensors, location, is_language_model=is_language_model)
        wrapped = describe_wrappers(names)
        if wrapped is None:
            return Checkpoint.of(location, weights, source, remarks=remarks)
        clean = SelectedReader(source, {new: old for old, new in names.items()})
        return Checkpoint.of(location, weights, clean, remarks=(*remarks, wrapped))
    except BaseException:
        source.close()
        raise


@contextmanager
def opened(source: Checkpoint | str | os.PathLike[str], component: str | None = None) -> Iterator[Checkpoint]:
    """A checkpoint, or the one at a path, which is closed again at the end.

    Parameters
    ----------
    source : Checkpoint or path-like
    component : str, optional
        Of a path: as for `open_checkpoint`.
    """
    if isinstance(source, Checkpoint):
        yield source
    else:
        with open_checkpoint(os.fspath(source), component) as checkpoint:
            yield checkpoint


def _refuse_quantized_denoiser(path: Path, weights: Weights, source: TensorReader) -> None:
    """Raise when what would be quantized is so already; what else an all-in-one file holds is kept as it is."""
    bundle = find_bundle(source.tensors, weights.config)
    if not bundle:
        refuse_quantized(path, weights.config, source.tensors, source.metadata)
        return
    # The metadata may speak of the text encoders.
    refuse_quantized(path, {}, {name: source.tensors[name] for name in bundle[0].tensors})


def load_sharded_safetensors(path: str | Path) -> Mapping[str, NDArray[Any]]:
    """Open the tensors of a model as a lazy mapping of read-only, memory-mapped arrays.

    Parameters
    ----------
    path : path-like
        As for `open_checkpoint`; of a diffusers folder, the denoiser.

    Returns
    -------
    mapping of str to ndarray
        Arrays in their own dtype, BF16 and F8 by those of ml_dtypes; nothing is copied. Quantized checkpoints
        are accepted here: their codes and scales are tensors like any other.

    Raises
    ------
    ModelNotFoundError, MetadataError, ShapeMismatchError, ValidationError
        As `open_checkpoint`.
    """
    weights = find_weights(_locate(path), whole=False)
    if weights.paths[0].suffix == GGUF_SUFFIX:
        return GgufReader(weights.paths[0])
    if len(weights.paths) == 1 and weights.paths[0].suffix != ".json":
        return SafeTensorsAdapter(weights.paths[0])
    return ShardedSafeTensorsAdapter(*weights.paths)


def _open(weights: Weights) -> TensorFiles:
    if weights.paths[0].suffix == GGUF_SUFFIX:
        return GgufReader(weights.paths[0])
    return ShardedSafeTensorsAdapter(*weights.paths)


def _locate(path: str | Path) -> Path:
    if isinstance(path, str) and path.startswith(ZOO_PREFIX):
        from workbench.zoo import locate  # only those who ask for the zoo need it

        return Path(locate(path.removeprefix(ZOO_PREFIX)))
    # A Path forgets "./" at its beginning, which tells a folder called "~" from the home.
    if not str(path).startswith("~") or (isinstance(path, Path) and path.exists()):
        return Path(path).absolute()
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # "~name" of a user who does not exist
        raise ModelNotFoundError(f"{path}: {error}", path=path) from error
