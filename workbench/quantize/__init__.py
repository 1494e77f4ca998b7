"""Quantizers of one layer's rows, and what can be measured of weights and codes."""

from workbench.quantize.affine import Encoded, affine_error, decode_affine, encode_affine
from workbench.quantize.counts import count_codes, count_weights, entropy_bits, find_range
from workbench.quantize.error import Error, measure_error

__all__ = [
    "Encoded",
    "Error",
    "affine_error",
    "count_codes",
    "count_weights",
    "decode_affine",
    "encode_affine",
    "entropy_bits",
    "find_range",
    "measure_error",
]
