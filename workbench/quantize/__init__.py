"""Quantizers of one layer's rows, and what can be measured of weights and codes."""

from workbench.quantize.affine.real_zero import affine_error, decode_affine, encode_affine
from workbench.quantize.counts import count_codes, count_weights, entropy_bits
from workbench.quantize.encoded import Encoded, Rows
from workbench.quantize.encoding import FAST, Encoding, Encodings
from workbench.quantize.error import Error, measure_error
from workbench.quantize.patterns import check_finite

__all__ = [
    "FAST",
    "Encoded",
    "Encoding",
    "Encodings",
    "Error",
    "Rows",
    "affine_error",
    "check_finite",
    "count_codes",
    "count_weights",
    "decode_affine",
    "encode_affine",
    "entropy_bits",
    "measure_error",
]
