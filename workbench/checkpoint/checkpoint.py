"""A checkpoint, opened: its tensors, its layers, and the reads that stream them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workbench.architectures import DENOISER_PREFIX, Architecture, class_of, recognise
from workbench.checkpoint.bundle import DENOISER, BundlePart, find_bundle
from workbench.checkpoint.folders import Layout, Weights
from workbench.checkpoint.gguf import GgufAdapter
from workbench.checkpoint.gguf_file import GgufFile
from workbench.checkpoint.header import DTYPES, TensorInfo
from workbench.checkpoint.layers import PEEK_VALUES, find_layers, roles_of
from workbench.checkpoint.modality import Modality, detect_modality
from workbench.checkpoint.notes import (
    notes_on_bundle,
    notes_on_denoisers,
    notes_on_files,
    sentence_on_the_rest,
)
from workbench.checkpoint.original_names import Part
from workbench.checkpoint.renamed import RenamedAdapter
from workbench.checkpoint.safetensors import ShardedSafeTensorsAdapter
from workbench.checkpoint.selected import SelectedAdapter
from workbench.checkpoint.side_files import LeftFile, SideFile, find_left_files, find_side_files
from workbench.checkpoint.tied_head import TiedHead, find_tied_head, note_on_tied_head
from workbench.errors import ShapeMismatchError, ValidationError
from workbench.plan import Layer, Role

Adapter = ShardedSafeTensorsAdapter | GgufAdapter | RenamedAdapter | SelectedAdapter
"""What reads the tensors of a checkpoint."""


class Checkpoint:
    """An open checkpoint. Made by `open_checkpoint`; safe to read from several threads at once.

    The files must stay as they are while it is open: every read checks it.
    """

    path: Path
    """What was opened, as an absolute path."""
    layout: Layout
    """How it is stored: one file, an index with shards, a Hugging Face folder or a diffusers folder."""
    component: str | None
    """The component of a diffusers folder, such as ``"transformer"``."""
    tensors: Mapping[str, TensorInfo]
    """All tensors by name: by file, then in the order of their data."""
    roles: Mapping[str, Role]
    """What every tensor is for, kept ones too."""
    layers: tuple[Layer, ...]
    """The quantizable weights, in the order of `tensors`."""
    modality: Modality
    """What the model generates, with the evidence."""
    architecture: str | None
    """The model's class by its configuration, such as ``"DiTTransformer2DModel"``."""
    family: Architecture | None
    """What is known of models of its kind, by its configuration or its tensors; None where nothing is."""
    metadata: Mapping[str, str]
    """``__metadata__`` of the safetensors files; where two differ, the first file's value."""
    config: Mapping[str, Any]
    """config.json of the component, empty when there is none."""
    gguf: GgufFile | None
    """The file with its keys, where the checkpoint is a GGUF file."""
    parts: Mapping[str, tuple[Part, ...]] | None
    """Of which rows of the files' tensors each tensor is made; None where they are those of the files."""
    tied_head: TiedHead | None
    """A stored head that config.json ties to the embedding, and that is not among `tensors`."""
    bundle: tuple[BundlePart, ...]
    """The models of an all-in-one file, the denoiser first, whose are the layers; empty where it is one model."""
    left_out: tuple[BundlePart, ...]
    """Models of an all-in-one file that are not among `tensors`, see `denoiser_of`."""
    denoiser_prefix: str
    """What stands before the names of the denoiser's tensors in an all-in-one file, else nothing."""

    def __init__(
        self,
        path: Path,
        weights: Weights,
        source: Adapter,
        *,
        remarks: Sequence[str] = (),
        left_out: tuple[BundlePart, ...] = (),
        denoiser_prefix: str = "",
    ) -> None:
        self.path = path
        self._remarks = tuple(remarks)
        self.layout = weights.layout
        self.component = weights.component
        self.tied_head = find_tied_head(source.tensors, weights.config)
        self.tensors = source.tensors
        if self.tied_head is not None:
            rest = {name: info for name, info in source.tensors.items() if name != self.tied_head.head}
            self.tensors = MappingProxyType(rest)
        self.metadata = source.metadata
        self.gguf = source.file if isinstance(source, GgufAdapter) else None
        self.parts = source.parts if isinstance(source, RenamedAdapter) else None
        self.config = MappingProxyType(dict(weights.config))
        self.architecture = class_of(weights.config)
        self._weights = weights
        self._source = source
        self.left_out = left_out
        self.bundle = (
            () if self.parts is not None or left_out else find_bundle(source.tensors, weights.config)
        )
        self.denoiser_prefix = self.bundle[0].prefix if self.bundle else denoiser_prefix
        model = self.tensors
        if self.bundle:
            model = {name: source.tensors[name] for name in self.bundle[0].tensors}
        prefix = self.denoiser_prefix or DENOISER_PREFIX
        self.family = recognise(self.config, {name.removeprefix(prefix) for name in model})
        roles = roles_of(self.tensors.values(), self.family)
        self.roles = MappingProxyType(roles)
        lists = () if self.family is None else self.family.lists
        self.layers = find_layers(model, roles, self._peek, lists)
        self.modality = detect_modality(
            pipeline=weights.pipeline,
            config=weights.config,
            metadata=source.metadata,
            names=source.tensors,
            title=path.name,
        )

    def over(
        self, source: Adapter, *, remarks: Sequence[str] = (), left_out: tuple[BundlePart, ...] | None = None
    ) -> Checkpoint:
        """The same checkpoint with its tensors taken from elsewhere, with further remarks for `notes`."""
        return Checkpoint(
            self.path,
            self._weights,
            source,
            remarks=(*self._remarks, *filter(None, [self.tie_note]), *remarks),
            left_out=self.left_out if left_out is None else left_out,
            denoiser_prefix=self.denoiser_prefix,
        )

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of what was opened: names without wrappers, several models, files passed over."""
        return (
            *dict.fromkeys((*self._remarks, *filter(None, [self.tie_note]))),
            *notes_on_bundle(self.bundle, self.left_out),
            *notes_on_denoisers(self._weights),
            *notes_on_files({}, self.left_files),
        )

    @property
    def besides_layers(self) -> str:
        """A sentence on the tensors that are no layers: how many, their bytes and their share."""
        return sentence_on_the_rest(self.tensors, self.layers)

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components of a diffusers folder that are denoisers, such as the two transformers of Wan 2.2."""
        return self._weights.denoisers

    @property
    def nbytes(self) -> int:
        """Bytes of all tensor data."""
        return sum(info.nbytes for info in self.tensors.values())

    @cached_property
    def side_files(self) -> tuple[SideFile, ...]:
        """The small files that travel along into an export, see `find_side_files`."""
        root = self._weights.root
        return () if root is None else find_side_files(root, self._weights.folders)

    @cached_property
    def tie_note(self) -> str | None:
        """A sentence on the head that config.json ties to the embedding, where it is stored and so left out."""
        tied = self.tied_head
        return None if tied is None else note_on_tied_head(tied, self._row_of)

    @cached_property
    def left_files(self) -> tuple[LeftFile, ...]:
        """Files beside the weights that do not travel along, with the reason, see `find_left_files`."""
        root = self._weights.root
        return () if root is None else find_left_files(root, self._weights.folders)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, that recognises this checkpoint's weights.

        It covers, for each weights file, its size, its whole header (names, dtypes, shapes, metadata) and 4
        KiB at the start, the middle and the end of every tensor; tensors of up to 12 KiB whole. It does not
        depend on where the files are, what they are called, in which layout, or when they were written, and
        it does not cover configurations and other side files.
        """
        return self._source.digest().hex()

    @cached_property
    def files_fingerprint(self) -> str:
        """The fingerprint of the checkpoint under its own names; another than `fingerprint` where it is renamed."""
        source = self._source
        return source.source.fingerprint if isinstance(source, RenamedAdapter) else self.fingerprint

    @property
    def stored(self) -> Checkpoint:
        """The checkpoint under the names of its files; itself where it is not renamed."""
        source = self._source
        inner = source.source if isinstance(source, RenamedAdapter) else self
        return inner if isinstance(inner, Checkpoint) else self

    def read_into(self, name: str, start_byte: int, buffer: Any) -> None:
        """Fill a buffer with bytes of a tensor by positioned reads.

        Parameters
        ----------
        name : str
            The tensor.
        start_byte : int
            First byte, counted from the start of the tensor's data.
        buffer : writable buffer
            A C-contiguous array of any dtype, a bytearray or a memoryview; filled completely.

        Raises
        ------
        QuantizationError
            If the file changed since it was opened, ends early or cannot be read.
        ShapeMismatchError
            If the bytes asked for are not all the tensor's.
        ValidationError
            If there is no such tensor, the buffer is read-only or not contiguous, or the checkpoint was
            closed.
        """
        info = self._info(name)
        target = _writable_bytes(buffer, name)
        if not 0 <= start_byte <= info.nbytes - target.size:
            raise ShapeMismatchError(
                f"{info.path}: tensor {name!r} has {info.nbytes:,} bytes; {target.size:,} from "
                f"{start_byte:,} on are not within it.",
                path=info.path,
                tensor=name,
            )
        self._source.read_into(name, start_byte, target)

    def read_rows(self, name: str, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read rows of a tensor, seen as two-dimensional.

        Parameters
        ----------
        name : str
            The tensor, [out, ...], seen as [out, in]; a vector as [n, 1], a scalar as [1, 1].
        start, stop : int
            Rows, ``0 <= start <= stop <= out``.
        out : ndarray, optional
            Filled and returned: C-contiguous, shape (stop - start, in), with an item size of the tensor's
            dtype (so that BF16 may be read as the uint16 patterns that kernels take).

        Returns
        -------
        ndarray
            Shape (stop - start, in), in the dtype stored (`DTYPES`) unless `out` has another.

        Raises
        ------
        QuantizationError
            If the file changed since it was opened, ends early or cannot be read.
        ShapeMismatchError
            If the rows are not within the tensor or `out` does not fit.
        ValidationError
            If there is no such tensor, `out` is read-only or not contiguous, or the checkpoint was closed.
        """
        info = self._info(name)
        dtype = DTYPES[info.dtype]
        rows = info.shape[0] if info.shape else 1
        cols = math.prod(info.shape[1:])
        if not 0 <= start <= stop <= rows:
            raise ShapeMismatchError(
                f"{info.path}: tensor {name!r} has {rows} rows; there are no rows {start} to {stop}.",
                path=info.path,
                tensor=name,
            )
        shape = (stop - start, cols)
        if out is None:
            out = np.empty(shape, dtype)
        elif out.shape != shape or out.itemsize != dtype.itemsize:
            raise ShapeMismatchError(
                f"{info.path}: rows {start} to {stop} of tensor {name!r} have the shape {shape} and "
                f"{dtype.itemsize} bytes an item; the array to fill has {out.shape} and {out.itemsize}.",
                path=info.path,
                tensor=name,
            )
        self._source.read_into(name, start * cols * dtype.itemsize, _writable_bytes(out, name))
        return out

    def view(self, name: str) -> NDArray[Any]:
        """A read-only, memory-mapped array of a tensor, for looking.

        A file that is truncated while it is mapped kills the process that looks: stream with `read_rows`.

        Parameters
        ----------
        name : str
            The tensor.

        Returns
        -------
        ndarray
            In the dtype stored, without copying; it stays valid after `close`.

        Raises
        ------
        QuantizationError
            If the file changed since it was opened.
        ValidationError
            If there is no such tensor, or the checkpoint was closed.
        """
        self._info(name)
        return self._source[name]

    def check_unchanged(self) -> None:
        """Make sure that the weights are what they were when they were opened.

        Raises
        ------
        QuantizationError
            If a file's size, modification time or inode is another, or it is gone; the message names it.
        """
        self._source.check_unchanged()

    def close(self) -> None:
        """Close the files; views taken before stay valid."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        what = self.architecture or self.layout
        return f"<Checkpoint {str(self.path)!r}: {what}, {len(self.layers)} layers, {self.nbytes:,} bytes>"

    def _info(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise ValidationError(
                f"{self.path}: there is no tensor {name!r}.", path=self.path, tensor=name
            ) from None

    def _row_of(self, name: str, row: int) -> NDArray[Any]:
        """A row of a tensor of the files."""
        info = self._source.tensors[name]
        values = np.empty(info.shape[1:], DTYPES[info.dtype])
        self._source.read_into(name, row * values.nbytes, values.view(np.uint8).reshape(-1))
        return values

    def _peek(self, info: TensorInfo) -> NDArray[np.float32]:
        values = np.empty(min(math.prod(info.shape), PEEK_VALUES), DTYPES[info.dtype])
        self._source.read_into(info.name, 0, values.view(np.uint8))
        with np.errstate(all="ignore"):
            return values.astype(np.float32)


def denoiser_of(checkpoint: Checkpoint) -> Checkpoint:
    """The denoiser of an all-in-one file as a checkpoint of its own, under the names that it has there.

    Nothing is copied, and the files are shared. A checkpoint of one model stays as it is, and so does a GGUF file,
    which is written again as a whole.
    """
    if not checkpoint.bundle or checkpoint.gguf is not None:
        return checkpoint
    names = {name: name for name in checkpoint.bundle[0].tensors}
    others = tuple(part for part in checkpoint.bundle if part.name != DENOISER)
    return checkpoint.over(SelectedAdapter(checkpoint, names), left_out=others)


def _writable_bytes(buffer: Any, tensor: str) -> NDArray[np.uint8]:
    # NumPy does not export arrays of ml_dtypes as buffers, so arrays are viewed, not wrapped.
    array = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValidationError(
            f"The buffer for tensor {tensor!r} must be writable and C-contiguous.", tensor=tensor
        )
    return array.reshape(-1).view(np.uint8)
