"""The kernels in NumPy: the same names, arguments and results as the compiled ones in `kernels_pythran`.

They run where nothing could be compiled, and they say what the compiled kernels must compute. Codes, scales,
zero points, decoded weights and counts are equal bit for bit, because every float32 operation happens here in
the same order; sums are taken in float64 and agree to about 1e-6. The docstrings of `kernels_pythran` say
what the arguments are.
"""

from workbench.reference.affine import affine_assign, affine_decode, affine_encode, affine_error
from workbench.reference.bitstream import pack_bits, unpack_bits
from workbench.reference.channels import channel_sums, output_energy
from workbench.reference.entropy import code_counts, histogram
from workbench.reference.kblocks import ggml_encode
from workbench.reference.klayout import ggml_decode, ggml_error
from workbench.reference.moments import error_sums, moments
from workbench.reference.offset import group_ranges, offset_decode, offset_encode, offset_error
from workbench.reference.patterns import count_patterns
from workbench.reference.search import improve_groups

__all__ = [
    "affine_assign",
    "affine_decode",
    "affine_encode",
    "affine_error",
    "channel_sums",
    "code_counts",
    "count_patterns",
    "error_sums",
    "ggml_decode",
    "ggml_encode",
    "ggml_error",
    "group_ranges",
    "histogram",
    "improve_groups",
    "moments",
    "offset_decode",
    "offset_encode",
    "offset_error",
    "output_energy",
    "pack_bits",
    "unpack_bits",
]
