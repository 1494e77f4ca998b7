"""The runtimes' own decoders, which say what an export holds independently of ours.

A referee reads the files and the configuration that a runtime would read, and nothing of `workbench.formats`. Another
format's stands here once it is added to `_REFEREES`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open


class Referee(Protocol):
    """A runtime's own decoder, at work on the folder of an export."""

    name: str
    """What decodes, with its version."""

    def decode(self, layer: str, start: int, stop: int) -> NDArray[Any]:
        """Rows of a quantized layer [rows, ...], in the dtype in which the package computes; the first is a multiple
        of 32."""


class _Files:
    """The tensors of all safetensors files in a folder, or one below it, by the package of that name."""

    def __init__(self, folder: Path, framework: str = "numpy") -> None:
        paths = sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")])
        opened: list[Any] = [safe_open(path, framework) for path in paths]
        self._owners = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 - no mapping

    def __contains__(self, name: str) -> bool:
        return name in self._owners

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Any:
        return self._owners[name].get_slice(name)[start:stop]


class MlxReferee:
    """`mlx.core.dequantize`, with scales and biases as float32."""

    def __init__(self, folder: Path) -> None:
        import mlx.core as mx

        self._mx = mx
        self.name = f"mlx.core.dequantize (mlx {version('mlx')})"
        self._files = _Files(folder)
        self._config = _config(folder)["quantization"]

    def decode(self, layer: str, start: int, stop: int) -> NDArray[Any]:
        module = layer.removesuffix(".weight")
        own = self._config.get(module, self._config)
        scales, biases = (
            self._mx.array(self._files.rows(f"{module}.{part}", start, stop).astype(np.float32))
            for part in ("scales", "biases")
        )
        codes = self._mx.array(self._files.rows(layer, start, stop))
        return np.array(
            self._mx.dequantize(
                codes,
                scales,
                biases,
                group_size=own["group_size"],
                bits=own["bits"],
                mode=self._config["mode"],
            )
        )


class CompressedTensorsReferee:
    """The decompression of compressed-tensors, on the processor."""

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

    def decode(self, layer: str, start: int, stop: int) -> NDArray[Any]:
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
        return _from_torch(weights)


class SafetensorsReferee:
    """The package safetensors: the stored weights are plain numbers."""

    def __init__(self, folder: Path) -> None:
        self.name = f"safetensors {version('safetensors')}"
        self._files = _Files(folder)

    def decode(self, layer: str, start: int, stop: int) -> NDArray[Any]:
        found: NDArray[Any] = self._files.rows(layer, start, stop)
        return found


class GgufReferee:
    """`gguf.dequantize`, on what the package's own reader finds."""

    def __init__(self, folder: Path) -> None:
        import gguf

        self._dequantize = gguf.dequantize
        self.name = f"gguf.dequantize (gguf {version('gguf')})"
        (path,) = folder.glob("*.gguf")
        reader = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._sources = json.loads(reader.fields["arrowquant.source"].contents())

    def decode(self, layer: str, start: int, stop: int) -> NDArray[Any]:
        _, (count, *_), name, _, heads = self._sources[layer]
        tensor = self._tensors[name]
        rows = np.arange(start, stop)
        if heads:  # llama.cpp rotates neighbours, where the checkpoint has the halves of a head
            size = count // heads
            half, index = np.divmod(rows % size, size // 2)
            rows = rows // size * size + 2 * index + half
        data = tensor.data.reshape(count, -1)[rows]
        return np.asarray(self._dequantize(data, tensor.tensor_type))


_REFEREES: Mapping[str, tuple[Callable[[Path], Referee], str]] = {
    "gguf": (GgufReferee, "gguf"),
    "mlx": (MlxReferee, "mlx"),
    "compressed-tensors": (CompressedTensorsReferee, "compressed-tensors"),
    "safetensors": (SafetensorsReferee, "safetensors"),
}
"""By target: what makes its referee, and the package that must be installed."""

OURS = "ArrowQuant Workbench"
"""What decodes where there is no referee."""


def referee_for(target: str, folder: Path) -> tuple[Referee | None, str]:
    """The runtime's own decoder for an export, if its package is installed, and what to call what decodes.

    Parameters
    ----------
    target : str
        The export's target; Parquet is ours, and has none.
    folder : Path
        The export.
    """
    if target not in _REFEREES:
        return None, OURS
    make, package = _REFEREES[target]
    try:
        referee = make(folder)
    except ImportError:
        return None, f"{OURS} ({package} is not installed)"
    return referee, referee.name


def _config(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _from_torch(tensor: Any) -> NDArray[Any]:
    """A torch tensor as an array of the same dtype."""
    import ml_dtypes
    import torch

    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.contiguous().view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())
