"""The codec of GGUF: GGML's block formats, and float16 for rows that no block fits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.blocks import Block
from workbench.formats.codec import BlockCheck, Codec, Encoder
from workbench.plan import Option
from workbench.quantize import Encoded, Rows, check_finite, measure_error
from workbench.quantize.float16 import FLOAT16, count_float16, to_float16
from workbench.quantize.ggml import decode_ggml, encode_ggml, ggml_error


class GgufCodec(Codec):
    """Rows as blocks, or as float16; a single piece."""

    def encode(self, rows: Rows, option: Option) -> Encoded:
        if option.scheme == FLOAT16:
            check_finite(rows.weights, rows.tensor, rows.row_start)
            stored = to_float16(rows.weights)
            return self.encoded(rows, option, (stored,), partial(count_float16, stored))
        found = encode_ggml(
            rows.weights, option.scheme, rows.tensor, rows.row_start, rows.encoding, rows.measured
        )

        def count() -> NDArray[np.int64]:
            if rows.measured:
                return found.code_counts
            return ggml_error(rows.weights, found.data, option.scheme, rows.tensor, rows.row_start)[1]

        return self.encoded(rows, option, (found.data,), count, found.sums)

    def decode(self, pieces: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        if option.scheme == FLOAT16:
            return pieces[0].astype(np.float32)
        return decode_ggml(pieces[0], option.scheme, cols)

    def check(
        self,
        weights: NDArray[Any],
        pieces: Sequence[NDArray[Any]],
        option: Option,
        block: Block,
        encoder: Encoder,
    ) -> BlockCheck:
        name = block.tensor.name
        if option.scheme == FLOAT16:
            error = measure_error(weights, pieces[0].astype(np.float32), name, block.row_start)
            return BlockCheck(name, weights.nbytes, error, count_float16(pieces[0]))
        error, counts = ggml_error(weights, pieces[0], option.scheme, name, block.row_start)
        return BlockCheck(name, weights.nbytes, error, counts)
