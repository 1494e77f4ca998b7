"""Other people's encoders, as far as they are installed, in the same terms as ours.

llama.cpp's are the ggml that llama-cpp-python bundles, through ctypes. HQQ, SDNQ and torchao may lie in a folder of
their own on PYTHONPATH (pip install --no-deps --target FOLDER hqq sdnq torchao termcolor); torch works in one thread
for each of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from contenders import GROUP, Array, Contender

from workbench.quantize.ggml import FORMATS

Missing = tuple[str, str]
"""A peer that is not there, and why."""


def installed(library: Path | None = None) -> tuple[list[Contender], list[Missing]]:
    """The peers that are there, and those that are not.

    Parameters
    ----------
    library : path-like, optional
        libggml-base, where llama-cpp-python is in another environment.
    """
    found: list[Contender] = list(numpy_peers())
    missing: list[Missing] = []
    makers: dict[str, Callable[[], Iterable[Contender]]] = {
        "llama.cpp": partial(ggml_peers, library), "gguf-py": gguf_peers, "mlx": mlx_peers,
        "torchao": torchao_peers, "HQQ": hqq_peers, "SDNQ": sdnq_peers,
    }  # fmt: skip
    for name, make in makers.items():
        try:
            with quiet():
                found += make()
        except (ImportError, OSError, AttributeError) as error:
            missing.append((name, str(error).partition("\n")[0]))
    return found, missing


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what packages say of themselves when they are imported."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def numpy_peers() -> Iterator[Contender]:
    """The 4-bit encoder as one would write it in NumPy: no care for hostile values, no scratch arrays reused."""

    def encode(rows: Array) -> tuple[Array, Array, Array]:
        groups = rows.astype(np.float32).reshape(len(rows), -1, GROUP)
        low, high = groups.min(axis=2, keepdims=True), groups.max(axis=2, keepdims=True)
        scale = (high - low) / np.float32(15)
        integers = np.rint((groups - low) / scale).astype(np.uint8).reshape(len(rows), -1)
        return integers[:, ::2] | integers[:, 1::2] << 4, scale, low

    def decode(made: tuple[Array, Array, Array]) -> Array:
        codes, scale, low = made
        integers = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*scale.shape[:2], GROUP)
        return integers * scale + low

    yield Contender("NumPy, RTN 4 bits", 4 + 64 / GROUP, encode, decode)


def ggml(path: Path | None = None) -> ctypes.CDLL:
    """The library that holds llama.cpp's encoders.

    Raises
    ------
    ImportError
        If it is not there.
    """
    spec = None if path else find_spec("llama_cpp")
    if spec and spec.origin:
        path = next(Path(spec.origin).parent.glob("lib/*ggml-base.*"), None)
    if path is None:
        raise ImportError("llama-cpp-python is not installed (or give --ggml …/libggml-base.so)")
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    return library


def ggml_encode(library: ctypes.CDLL, name: str, values: Array) -> Array:
    """llama.cpp's blocks of float32 rows; ctypes releases the GIL."""
    rows, cols = values.shape
    data = np.empty((rows, FORMATS[name].row_bytes(cols)), np.uint8)
    library.ggml_quantize_chunk(
        FORMATS[name].number, values.ctypes.data, data.ctypes.data, 0, rows, cols, None
    )
    return data


def ggml_peers(path: Path | None) -> Iterator[Contender]:
    """llama.cpp's encoders, from float32."""
    library = ggml(path)
    for name in FORMATS:
        yield Contender(
            f"llama.cpp {name}",
            8 * FORMATS[name].row_bytes(256) / 256,
            partial(ggml_encode, library, name),
            partial(gguf.dequantize, qtype=gguf.GGMLQuantizationType[name]),
            lambda weights: weights.astype(np.float32),
        )


def gguf_peers() -> Iterator[Contender]:
    """The encoders of the `gguf` package, from float32."""
    for name in ("Q4_0", "Q8_0"):
        kind = gguf.GGMLQuantizationType[name]
        yield Contender(
            f"gguf-py {name}",
            8 * FORMATS[name].row_bytes(256) / 256,
            partial(gguf.quantize, qtype=kind),
            partial(gguf.dequantize, qtype=kind),
            lambda weights: weights.astype(np.float32),
        )


def mlx_peers() -> Iterator[Contender]:
    """`mlx.core.quantize` on the processor."""
    import mlx.core as mx

    def encode(rows: Array, bits: int) -> Any:
        # An array belongs to the thread that made it.
        made = mx.quantize(mx.array(rows.view(np.uint16)).view(mx.bfloat16), group_size=GROUP, bits=bits)
        mx.eval(*made)
        return made

    def decode(made: Any, bits: int) -> Array:
        codes, scales, biases = made
        wide = [values.astype(mx.float32) for values in (scales, biases)]
        return np.array(mx.dequantize(codes, wide[0], wide[1], group_size=GROUP, bits=bits))

    for bits in (2, 3, 4, 5, 6, 8):
        yield Contender(
            f"mlx {bits} bits",
            bits + 32 / GROUP,
            partial(encode, bits=bits),
            partial(decode, bits=bits),
        )


def tensor_of(weights: Array) -> Any:
    """A bfloat16 torch tensor of the same memory."""
    import torch

    torch.set_num_threads(1)
    return torch.from_numpy(weights.view(np.uint16)).view(torch.bfloat16)


def torchao_peers() -> Iterator[Contender]:
    """torchao's affine primitives; codes are not packed."""
    import torch
    from torchao.quantization import quant_primitives as ao

    shape, kind = (1, GROUP), (torch.uint8, 0, 15)

    def encode(rows: Any) -> Any:
        scale, zero = ao.choose_qparams_affine(rows, ao.MappingType.ASYMMETRIC, shape, *kind)
        return ao.quantize_affine(rows, shape, scale, zero, *kind), scale, zero

    def decode(made: Any) -> Array:
        codes, scale, zero = made
        found: Array = ao.dequantize_affine(codes, shape, scale, zero, *kind).float().numpy()
        return found

    yield Contender("torchao 4 bits", 4 + 24 / GROUP, encode, decode, tensor_of)


def hqq_peers() -> Iterator[Contender]:
    """HQQ's half-quadratic search, its default number of steps."""
    import torch
    from hqq.core.quantize import Quantizer

    def encode(rows: Any) -> Any:
        return Quantizer.quantize(
            rows, nbits=4, group_size=GROUP, axis=1, device="cpu", compute_dtype=torch.bfloat16
        )

    def decode(made: Any) -> Array:
        found: Array = Quantizer.dequantize(*made).float().numpy()
        return found

    yield Contender("HQQ 4 bits", 4 + 64 / GROUP, encode, decode, tensor_of)


def sdnq_peers() -> Iterator[Contender]:
    """SDNQ's unsigned 4-bit weights."""
    from sdnq.quantizer import sdnq_quantize_layer_weight

    def encode(rows: Any) -> Any:
        return sdnq_quantize_layer_weight(
            rows.clone(), layer_class_name="Linear", weights_dtype="uint4", group_size=GROUP
        )

    def decode(made: Any) -> Array:
        dequantizer, stored = made
        weight = stored.pop("weight")
        found: Array = dequantizer(weight, **stored).float().numpy()
        return found

    yield Contender("SDNQ uint4", 4 + 64 / GROUP, encode, decode, tensor_of)
