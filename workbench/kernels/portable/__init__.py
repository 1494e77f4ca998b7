"""The kernels in NumPy: the same names, arguments and results as the compiled ones in `kernels_pythran`.

They run where nothing could be compiled, and they say what the compiled kernels must compute. Codes, scales,
zero points, decoded weights and counts are equal bit for bit, because every float32 operation happens here in
the same order; sums are taken in float64 and agree to about 1e-6. The docstrings of `kernels_pythran` say
what the arguments are.
"""

from workbench.kernels.portable.affine import affine_assign, affine_decode, affine_encode, affine_error
from workbench.kernels.portable.bitstream import pack_bits, unpack_bits
from workbench.kernels.portable.channels import channel_sums, output_energy
from workbench.kernels.portable.entropy import code_counts, histogram
from workbench.kernels.portable.kblocks import ggml_encode
from workbench.kernels.portable.klayout import ggml_decode, ggml_error
from workbench.kernels.portable.moments import error_sums, moments
from workbench.kernels.portable.offset import group_ranges, offset_decode, offset_encode, offset_error
from workbench.kernels.portable.patterns import count_patterns
from workbench.kernels.portable.search import improve_groups

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
