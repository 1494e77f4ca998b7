"""MLX safetensors, as mlx-lm and mflux read them on Macs."""

from types import MappingProxyType

from workbench.formats.format import Format
from workbench.formats.mlx.codec import MlxCodec, nearest, options
from workbench.formats.mlx.loading import LOADING
from workbench.formats.mlx.rules import RULES
from workbench.formats.safetensors.export import safetensors_format

FORMAT: Format = safetensors_format(
    MlxCodec(),
    name="mlx",
    title="MLX",
    about="safetensors for mlx-lm and mflux on Macs",
    offered=options,
    nearest=nearest,
    loading=LOADING,
    referee="workbench.engine.referees:MlxReferee",
    rules=MappingProxyType({"mlx": RULES}),
)
"""The record of the format."""
