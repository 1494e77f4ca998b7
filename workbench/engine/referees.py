"""The runtimes' own loaders and decoders, which say what an export holds independently of ours.

A referee loads the files and the configuration that a runtime would load, by the runtime's own package, and uses
nothing of `workbench.formats`. The record of a format names its own, as ``module:Class``: it need not stand here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open


@dataclass(frozen=True)
class Decoded:
    """Rows of a quantized layer, as a runtime's package decodes them."""

    weights: NDArray[Any]
    """The weights [rows, ...], in the dtype in which the package computes."""
    summands: NDArray[np.float32] | None = None
    """The greatest magnitude that was rounded on the way to each weight; None where it is the weight's own."""


class Referee(Protocol):
    """A runtime's own package, at work on the folder of an export."""

    PACKAGE: ClassVar[str]
    """What must be installed."""
    name: str
    """What loads and decodes, with its version."""

    def decode(self, layer: str, start: int, stop: int) -> Decoded:
        """Rows of a quantized layer; the first is a multiple of 32."""

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows [rows, ...] of a tensor that was kept, in the dtype in which the package gives them."""


class _Files:
    """The tensors of all safetensors files in a folder, or one below it, by the package of that name."""

    def __init__(self, folder: Path, framework: str) -> None:
        opened: list[Any] = [safe_open(path, framework) for path in _safetensors_in(folder)]
        self._owners = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 - no mapping

    def __contains__(self, name: str) -> bool:
        return name in self._owners

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Any:
        owner = self._owners[name]
        part = owner.get_slice(name)
        return part[start:stop] if part.get_shape() else owner.get_tensor(name)


class MlxReferee:
    """`mlx.core.load` and `mlx.core.dequantize`, with scales and biases in the dtype that they have in the file."""

    PACKAGE = "mlx"
    HELD = 4
    """Layers whose tensors stay in memory."""

    def __init__(self, folder: Path) -> None:
        import mlx.core as mx

        self._mx: Any = mx
        self.name = f"mlx.core.load and mlx.core.dequantize (mlx {version('mlx')})"
        # Arrays are read when they are first looked at, and then held for as long as the file's dictionary is.
        self._owners = {name: path for path in _safetensors_in(folder) for name in mx.load(str(path))}
        self._config = _config(folder)["quantization"]
        self._held: dict[str, list[Any]] = {}

    def decode(self, layer: str, start: int, stop: int) -> Decoded:
        module = layer.removesuffix(".weight")
        own = self._config.get(module, self._config)
        parts = self._load(layer, f"{module}.scales", f"{module}.biases")
        codes, scales, biases = (part[start:stop] for part in parts)
        weights = self._array(
            self._mx.dequantize(
                codes,
                scales,
                biases,
                group_size=own["group_size"],
                bits=own["bits"],
                mode=self._config["mode"],
            )
        )
        offsets = np.repeat(self._array(biases).astype(np.float32), own["group_size"], axis=1)
        values = weights.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a runtime may overflow, which the weights show
            products = np.abs(values - offsets)
        return Decoded(weights, np.maximum(np.maximum(np.abs(offsets), products), np.abs(values)))

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        (array,) = self._load(name)
        return self._array(array[start:stop] if array.ndim else array)

    def _load(self, *names: str) -> list[Any]:
        if names[0] not in self._held:
            while len(self._held) >= self.HELD:
                del self._held[next(iter(self._held))]
            self._held[names[0]] = [self._mx.load(str(self._owners[name]))[name] for name in names]
        return self._held[names[0]]

    def _array(self, found: Any) -> NDArray[Any]:
        import ml_dtypes

        if found.dtype == self._mx.bfloat16:
            return np.array(found.view(self._mx.uint16)).view(ml_dtypes.bfloat16)
        return np.array(found)


class CompressedTensorsReferee:
    """The decompression of compressed-tensors, on the processor."""

    PACKAGE = "compressed-tensors"
    PARTS = ("weight_packed", "weight_scale", "weight_zero_point")

    def __init__(self, folder: Path) -> None:
        import torch
        from compressed_tensors.compressors import BaseCompressor
        from compressed_tensors.quantization import QuantizationConfig

        self._torch = torch
        self.name = f"compressed-tensors {version('compressed-tensors')}"
        self._files = _Files(folder, "pt")
        config = QuantizationConfig(**_config(folder)["quantization_config"])
        self._packer = BaseCompressor.get_value_from_registry(config.format)
        self._schemes = {module: one for one in config.config_groups.values() for module in one.targets}

    def decode(self, layer: str, start: int, stop: int) -> Decoded:
        module = layer.removesuffix(".weight")
        scheme = self._schemes[module]
        bits, cols = scheme.weights.num_bits, int(self._files.rows(f"{module}.weight_shape")[1])
        # Version 0.20 fails on a single row of words of zero points: some rows more, and they are several.
        first = max(start - 32, 0) if stop - start <= 32 else start
        state = {}
        for part in self.PARTS:
            name = f"{module}.{part}"
            if name in self._files:
                is_packed_down = part == "weight_zero_point"
                place = (first * bits // 32, -(-stop * bits // 32)) if is_packed_down else (first, stop)
                state[part] = self._files.rows(name, *place)
        state["weight_shape"] = self._torch.tensor([stop - first, cols])
        weights = self._packer.decompress(state, scheme)["weight"][start - first :]
        return Decoded(_from_torch(weights))

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return _from_torch(self._files.rows(name, start, stop))


class SafetensorsReferee:
    """The package safetensors, as it fills torch's tensors: the stored weights are plain numbers."""

    PACKAGE = "torch"

    def __init__(self, folder: Path) -> None:
        import torch

        self.name = f"safetensors {version('safetensors')} (torch {torch.__version__})"
        self._files = _Files(folder, "pt")

    def decode(self, layer: str, start: int, stop: int) -> Decoded:
        return Decoded(self.read(layer, start, stop))

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return _from_torch(self._files.rows(name, start, stop))


class GgufReferee:
    """`gguf.dequantize`, on what the package's own reader finds."""

    PACKAGE = "gguf"

    def __init__(self, folder: Path) -> None:
        import gguf

        self._gguf = gguf
        self.name = f"gguf.dequantize (gguf {version('gguf')})"
        (path,) = folder.glob("*.gguf")
        reader = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._sources = json.loads(reader.fields["arrowquant.source"].contents())

    def decode(self, layer: str, start: int, stop: int) -> Decoded:
        kind, data = self._rows(layer, start, stop)
        return Decoded(np.asarray(self._gguf.dequantize(data, kind)))

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        kind, data = self._rows(name, start, stop)
        # The reader gives bfloat16 as bytes.
        return np.asarray(self._gguf.dequantize(data, kind) if data.dtype == np.uint8 else data)

    def _rows(self, name: str, start: int, stop: int) -> tuple[Any, NDArray[Any]]:
        _, shape, stored, _, heads = self._sources[name]
        count = shape[0] if shape else 1
        tensor = self._tensors[stored]
        rows = np.arange(start, stop)
        if heads:  # llama.cpp rotates neighbours, where the checkpoint has the halves of a head
            size = count // heads
            half, index = np.divmod(rows % size, size // 2)
            rows = rows // size * size + 2 * index + half
        return tensor.tensor_type, tensor.data.reshape(count, -1)[rows]


OURS = "ArrowQuant Workbench"
"""What decodes where there is no referee."""


def referee_for(reference: str | None, folder: Path) -> tuple[Referee | None, str]:
    """The runtime's own loader and decoder for an export, if its package is installed, and what to call it.

    Parameters
    ----------
    reference : str or None
        What the record of the export's format names, as ``module:Class``; None for what only this workbench decodes.
    folder : Path
        The export.
    """
    if reference is None:
        return None, OURS
    module, _, name = reference.partition(":")
    make: Any = getattr(import_module(module), name)
    try:
        referee: Referee = make(folder)
    except ImportError:
        return None, f"{OURS} ({make.PACKAGE} is not installed)"
    return referee, referee.name


def _config(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _safetensors_in(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")])


def _from_torch(tensor: Any) -> NDArray[Any]:
    """A torch tensor as an array of the same dtype."""
    import ml_dtypes
    import torch

    dtypes = {
        torch.bfloat16: ml_dtypes.bfloat16,
        torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
        torch.float8_e5m2: ml_dtypes.float8_e5m2,
    }
    if tensor.dtype not in dtypes:
        return np.asarray(tensor.numpy())
    patterns = tensor.contiguous().view(torch.int16 if tensor.dtype.itemsize == 2 else torch.uint8)
    found: NDArray[Any] = patterns.numpy().view(dtypes[tensor.dtype])
    return found
