"""GGUF, as ComfyUI-GGUF, diffusers, stable-diffusion.cpp and llama.cpp read it."""

from types import MappingProxyType

from workbench.formats.format import Format
from workbench.formats.gguf.codec import GgufCodec
from workbench.formats.gguf.export import checker, layout_of, names_in_file
from workbench.formats.gguf.loading import LOADING
from workbench.formats.gguf.options import nearest, options
from workbench.formats.gguf.reader import GgufPayload
from workbench.formats.gguf.rules import LLAMA, STABLE_DIFFUSION
from workbench.formats.placed import PlacedWriter

FORMAT = Format(
    name="gguf",
    title="GGUF",
    about="for ComfyUI-GGUF, diffusers, stable-diffusion.cpp and llama.cpp",
    offered=options,
    nearest=nearest,
    codec=GgufCodec(),
    lay_out=layout_of,
    writer=PlacedWriter,
    open=GgufPayload,
    checker=checker,
    loading=LOADING,
    names="original",
    holds_denoiser_only=True,
    # K-quants without a search are worse than llama.cpp's own, and with it take twice the time.
    effort="normal",
    referee="workbench.engine.referees:GgufReferee",
    rules=MappingProxyType({"llama-quantize": LLAMA, "stable-diffusion.cpp": STABLE_DIFFUSION}),
    file_names=names_in_file,
)
"""The record of the format."""
