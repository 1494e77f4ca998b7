"""Dense bit streams: codes of 1 to 8 bits, least significant bit first, with no gaps between them.

The layout is that of Extended Parquet V2, MLX and compressed-tensors ≥ 0.18 along the input axis.
"""

import numpy as np

from .blocks import BLOCK, pack, unpack


#pythran export pack_bits(uint8[], int, int, int, uint8[])
def pack_bits(codes, rows, cols, bits, packed):
    """Pack each row of `cols` codes into ceil(cols * bits / 8) bytes; higher bits of a code are ignored.

    Parameters
    ----------
    codes : uint8 [rows * cols]
    bits : int, 1 to 8
    packed : uint8 [rows * ceil(cols * bits / 8)], out
    """
    mask = np.uint8((1 << bits) - 1)
    row_bytes = (cols * bits + 7) // 8
    integers = np.empty(BLOCK, np.uint8)
    words = np.empty(BLOCK // 8, np.uint64)
    stream = words.view(np.uint8)
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            source = codes[first : first + n]
            target = integers[:n]
            for i in range(n):
                target[i] = source[i] & mask
            pack(integers, n, bits, words)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            packed[at : at + size] = stream[:size]


#pythran export unpack_bits(uint8[], int, int, int, uint8[])
def unpack_bits(packed, rows, cols, bits, codes):
    """Undo `pack_bits`."""
    row_bytes = (cols * bits + 7) // 8
    words = np.empty(BLOCK // 8 + 1, np.uint64)
    stream = words.view(np.uint8)
    integers = np.empty(BLOCK, np.uint8)
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            stream[:size] = packed[at : at + size]
            unpack(words, n, bits, integers)
            first = row * cols + start
            codes[first : first + n] = integers[:n]
