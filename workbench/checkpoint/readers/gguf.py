"""A GGUF file as a checkpoint: one whose tensors are plain numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.readers.byte_source import LocalFile, OpenBytes
from workbench.checkpoint.readers.gguf_file import STRING, GgufFile
from workbench.checkpoint.readers.reader import TensorFiles
from workbench.checkpoint.readers.safetensors import SAMPLE_BYTES
from workbench.checkpoint.tensors import DTYPES, TensorInfo
from workbench.errors import ValidationError

GGUF_SUFFIX: Final = ".gguf"
SPLIT_KEY: Final = "split.count"
"""Key that says into how many files a model is split."""


class GgufReader(TensorFiles):
    """A GGUF file whose tensors are plain numbers.

    Parameters
    ----------
    path : Path
    open_bytes : callable
        Opens the file, see `ByteSource`.

    Raises
    ------
    ModelNotFoundError, MetadataError, ShapeMismatchError
        If there is no sound file.
    ValidationError
        If a tensor is in a block format: the file is already quantized; or if the file is one of several.
    """

    tensors: Mapping[str, TensorInfo]
    """The tensors by name, in the order of their data."""
    metadata: Mapping[str, str]
    """The keys whose values are strings."""

    def __init__(self, path: Path, *, open_bytes: OpenBytes = LocalFile) -> None:
        self.path = path
        self.file = GgufFile(path, open_bytes=open_bytes)
        try:
            self._refuse_part()
            self.tensors = MappingProxyType(self._tensors())
        except BaseException:
            self.close()
            raise
        self.metadata = MappingProxyType(
            {name: str(key.value) for name, key in self.file.keys.items() if key.kind == STRING}
        )

    def _refuse_part(self) -> None:
        """Raise when the file is one of several into which llama.cpp has split a model."""
        count = self.file.keys.get(SPLIT_KEY)
        if count is not None and isinstance(count.value, int) and count.value > 1:
            raise ValidationError(
                f"{self.path}: this is one of {count.value} files of a model, and not the whole. Put them together "
                "with llama.cpp's llama-gguf-split --merge, and open that file.",
                path=self.path,
            )

    def _tensors(self) -> dict[str, TensorInfo]:
        found = {}
        for name, tensor in self.file.tensors.items():
            if tensor.kind not in DTYPES:
                raise ValidationError(
                    f"{self.path}: this GGUF file is already quantized: tensor {name!r} is {tensor.kind}. Open the "
                    "F16, BF16 or F32 file that it was made from.",
                    path=self.path,
                    tensor=name,
                )
            found[name] = TensorInfo(name, tensor.kind, tensor.shape, self.path, tensor.offset, tensor.nbytes)
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the file's size, all before the data, and three samples of every tensor."""
        digest = hashlib.sha256(self.file.file.size.to_bytes(8, "little"))
        digest.update(self.file.header_bytes())
        for info in self.tensors.values():
            last = max(info.nbytes - SAMPLE_BYTES, 0)
            for start in sorted({0, last // 2, last}):
                sample = np.empty(min(SAMPLE_BYTES, info.nbytes - start), np.uint8)
                self.read_into(info.name, start, sample)
                digest.update(sample.tobytes())
        return digest.hexdigest()

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when the file is not what it was when it was opened."""
        self.file.file.check_unchanged()

    def close(self) -> None:
        """Close the file; arrays taken before stay valid."""
        self.file.file.close()

    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        self.file.read_into(info.name, start, target)

    def _view(self, info: TensorInfo) -> NDArray[Any]:
        return self.file.file.view(info.offset, DTYPES[info.dtype], info.shape)
