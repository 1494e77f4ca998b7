"""Safetensors with the source's names and dtypes, dequantized: a plan to try before its real export."""

from workbench.formats.format import Format
from workbench.formats.safetensors import dequantized
from workbench.formats.safetensors.dequantized import DequantizedCodec
from workbench.formats.safetensors.export import checker_of, safetensors_format
from workbench.formats.safetensors.loading import LOADING

_CODEC = DequantizedCodec()

FORMAT: Format = safetensors_format(
    _CODEC,
    name=dequantized.NAME,
    title="dequantized safetensors",
    about="the source's dtype and size, to try a plan",
    offered=dequantized.options,
    stored=dequantized.stores,
    nearest=dequantized.nearest,
    checker=checker_of(_CODEC, encodes=True),
    loading=LOADING,
    keeps_size=True,
    plan_of=dequantized.dequantized,
    referee="workbench.engine.referees:SafetensorsReferee",
)
"""The record of the format."""
