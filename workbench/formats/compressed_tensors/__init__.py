"""compressed-tensors, format ``pack-quantized``, as vLLM and transformers read it."""

from types import MappingProxyType

from workbench.formats.compressed_tensors.codec import CompressedTensorsCodec, nearest, options, stores
from workbench.formats.compressed_tensors.loading import LOADING
from workbench.formats.compressed_tensors.rules import RULES
from workbench.formats.format import Format
from workbench.formats.safetensors.export import safetensors_format

FORMAT: Format = safetensors_format(
    CompressedTensorsCodec(),
    name="compressed-tensors",
    title="compressed-tensors",
    about="safetensors for vLLM and transformers",
    offered=options,
    stored=stores,
    nearest=nearest,
    loading=LOADING,
    # transformers makes no room for zero points when it loads a model.
    scheme="symmetric",
    referee="workbench.engine.referees:CompressedTensorsReferee",
    rules=MappingProxyType({"compressed-tensors": RULES}),
)
"""The record of the format."""
