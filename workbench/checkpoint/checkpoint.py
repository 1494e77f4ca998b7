"""A checkpoint, opened: its tensors, its layers, and the reads that stream them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workbench.architectures import Architecture
from workbench.checkpoint.contents.bundle import DENOISER, BundlePart
from workbench.checkpoint.contents.description import Description, describe
from workbench.checkpoint.contents.notes import (
    notes_on_bundle,
    notes_on_denoisers,
    notes_on_files,
    sentence_on_the_rest,
)
from workbench.checkpoint.folders.side_files import LeftFile, SideFile, find_left_files, find_side_files
from workbench.checkpoint.folders.weights import Layout, Weights
from workbench.checkpoint.modality import Modality
from workbench.checkpoint.original_names import Part
from workbench.checkpoint.readers.fusion import FusedReader
from workbench.checkpoint.readers.gguf import GgufReader
from workbench.checkpoint.readers.gguf_file import GgufFile
from workbench.checkpoint.readers.reader import TensorReader
from workbench.checkpoint.readers.selection import SelectedReader
from workbench.checkpoint.tensors import TensorInfo
from workbench.checkpoint.tied_head import TiedHead
from workbench.plan import Layer, Role


class Checkpoint(TensorReader):
    """An open checkpoint. Made by `open_checkpoint`; safe to read from several threads at once.

    The files must stay as they are while it is open: every read checks it. It is a reader around a reader, with what
    is known of the model; `around` and `over` give the same checkpoint read in another way.
    """

    description: Description
    """What is known of it besides its numbers, which readers around it share."""
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
    tied_head: TiedHead | None
    """A stored head that config.json ties to the embedding, and that is not among `tensors`."""
    bundle: tuple[BundlePart, ...]
    """The models of an all-in-one file, the denoiser first, whose are the layers; empty where it is one model."""
    left_out: tuple[BundlePart, ...]
    """Models of an all-in-one file that are not among `tensors`, see `denoiser_of`."""
    denoiser_prefix: str
    """What stands before the names of the denoiser's tensors in an all-in-one file, else nothing."""

    def __init__(
        self, description: Description, reader: TensorReader, *, opened: Checkpoint | None = None
    ) -> None:
        self.description = description
        self._reader = reader
        self._opened = opened
        self._guard = threading.Lock()
        self._holders = 0
        self._is_closing = False
        self.path = description.path
        self.metadata = reader.metadata
        self.keeps_rows = reader.keeps_rows
        self.tied_head = description.tied_head
        self.tensors = reader.tensors
        if self.tied_head is not None and self.tied_head.head in reader.tensors:
            rest = {name: info for name, info in reader.tensors.items() if name != self.tied_head.head}
            self.tensors = MappingProxyType(rest)
        self.roles = description.roles
        self.layers = description.layers_of(self.tensors)
        self.modality = description.modality
        self.layout = description.weights.layout
        self.component = description.weights.component
        self.config = MappingProxyType(dict(description.weights.config))
        self.architecture = description.architecture
        self.family = description.family
        self.bundle = description.bundle
        self.left_out = description.left_out
        self.denoiser_prefix = description.denoiser_prefix

    @classmethod
    def of(cls, path: Path, weights: Weights, reader: TensorReader, *, remarks: Sequence[str] = ()) -> Self:
        """The checkpoint that a reader gives the tensors of, with remarks for `notes`."""
        return cls(describe(path, weights, reader, remarks=remarks), reader)

    def over(
        self,
        reader: TensorReader,
        *,
        remarks: Sequence[str] = (),
        left_out: tuple[BundlePart, ...] | None = None,
    ) -> Checkpoint:
        """The same checkpoint with other tensors, whose layers are found anew, with further remarks for `notes`."""
        description = self.description
        found = describe(
            self.path,
            description.weights,
            reader,
            remarks=(*description.all_remarks, *remarks),
            left_out=self.left_out if left_out is None else left_out,
            denoiser_prefix=self.denoiser_prefix,
            is_one_model=isinstance(reader, FusedReader),
        )
        return Checkpoint(found, reader, opened=self.opened)

    def around(self, reader: TensorReader) -> Checkpoint:
        """The same checkpoint, its tensors, of the same names and shapes, read by a reader around this one."""
        return Checkpoint(self.description, reader, opened=self.opened)

    @property
    def opened(self) -> Checkpoint:
        """The checkpoint as it was opened: with all its models, and under the names of its files."""
        return self if self._opened is None else self._opened

    def hold(self) -> AbstractContextManager[None]:
        """Keep the files open until the context that is returned is left, also when `close` is called meanwhile."""
        root = self.opened
        with root._guard:
            root._holders += 1
        return _release(root)

    @property
    def tie_note(self) -> str | None:
        """A sentence on the head that config.json ties to the embedding, where it is stored and so left out."""
        return self.description.tie_note

    @property
    def gguf(self) -> GgufFile | None:
        """The file with its keys, where the checkpoint is a GGUF file."""
        found = self.description.reader
        return found.file if isinstance(found, GgufReader) else None

    @property
    def parts(self) -> Mapping[str, tuple[Part, ...]] | None:
        """Of which rows of the files' tensors each tensor is made; None where they are those of the files."""
        found = self.description.reader
        return found.parts if isinstance(found, FusedReader) else None

    @property
    def stored(self) -> Checkpoint:
        """The checkpoint under the names of its files; itself where it is not renamed."""
        found = self.description.reader
        inner = found.source if isinstance(found, FusedReader) else self
        return inner if isinstance(inner, Checkpoint) else self

    @property
    def files_fingerprint(self) -> str:
        """The fingerprint of the checkpoint under its own names; another than `fingerprint` where it is renamed."""
        return self.fingerprint if self.parts is None else self.stored.fingerprint

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of what was opened: names without wrappers, several models, files passed over."""
        return (
            *self.description.all_remarks,
            *notes_on_bundle(self.bundle, self.left_out),
            *notes_on_denoisers(self.description.weights),
            *notes_on_files({}, self.left_files),
        )

    @property
    def besides_layers(self) -> str:
        """A sentence on the tensors that are no layers: how many, their bytes and their share."""
        return sentence_on_the_rest(self.tensors, self.layers)

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components of a diffusers folder that are denoisers, such as the two transformers of Wan 2.2."""
        return self.description.weights.denoisers

    @property
    def nbytes(self) -> int:
        """Bytes of all tensor data."""
        return sum(info.nbytes for info in self.tensors.values())

    @cached_property
    def side_files(self) -> tuple[SideFile, ...]:
        """The small files that travel along into an export, see `find_side_files`."""
        root = self.description.weights.root
        return () if root is None else find_side_files(root, self.description.weights.folders)

    @cached_property
    def left_files(self) -> tuple[LeftFile, ...]:
        """Files beside the weights that do not travel along, with the reason, see `find_left_files`."""
        root = self.description.weights.root
        return () if root is None else find_left_files(root, self.description.weights.folders)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, that recognises this checkpoint's weights.

        It covers, for each weights file, its size, its whole header (names, dtypes, shapes, metadata) and 4
        KiB at the start, the middle and the end of every tensor; tensors of up to 12 KiB whole. It does not
        depend on where the files are, what they are called, in which layout, or when they were written, and
        it does not cover configurations and other side files.
        """
        return self._reader.fingerprint

    def read_rows(self, name: str, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read rows of a tensor, see `TensorReader.read_rows`."""
        self._info(name)
        return self._reader.read_rows(name, start, stop, out)

    def check_unchanged(self) -> None:
        """Make sure that the weights are what they were when they were opened, see `TensorReader.check_unchanged`."""
        self._reader.check_unchanged()

    def close(self) -> None:
        """Close the files, at once or when nobody holds them any more; views taken before stay valid."""
        with self._guard:
            self._is_closing = True
            if self._holders:
                return
        self._reader.close()

    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        self._reader.read_into(info.name, start, target)

    def _view(self, info: TensorInfo) -> NDArray[Any]:
        return self._reader.view(info.name)

    def __repr__(self) -> str:
        what = self.architecture or self.layout
        return f"<Checkpoint {str(self.path)!r}: {what}, {len(self.layers)} layers, {self.nbytes:,} bytes>"


@contextmanager
def _release(root: Checkpoint) -> Iterator[None]:
    try:
        yield
    finally:
        with root._guard:
            root._holders -= 1
            is_last = root._is_closing and not root._holders
        if is_last:
            root.close()


def denoiser_of(checkpoint: Checkpoint) -> Checkpoint:
    """The denoiser of an all-in-one file as a checkpoint of its own, under the names that it has there.

    Nothing is copied, and the files are shared. A checkpoint of one model stays as it is, and so does a GGUF file,
    which is written again as a whole.
    """
    if not checkpoint.bundle or checkpoint.gguf is not None:
        return checkpoint
    names = {name: name for name in checkpoint.bundle[0].tensors}
    others = tuple(part for part in checkpoint.bundle if part.name != DENOISER)
    return checkpoint.over(SelectedReader(checkpoint, names), left_out=others)
