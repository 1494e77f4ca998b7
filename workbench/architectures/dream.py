"""Dream, a masked-diffusion language model whose blocks compute like Llama's."""

from __future__ import annotations

from workbench.architectures.llama import LLAMA_FOLDS
from workbench.architectures.record import MASK_RATIO, Architecture, LlamaCpp, Reader

DREAM = Architecture(
    name="Dream",
    classes=("DreamModel",),
    model_types=("dream",),
    medium="text",
    library="",
    folds=LLAMA_FOLDS,
    clock=MASK_RATIO,
    gguf="dream",
    readers=(
        Reader(
            "llama.cpp",
            names="llama.cpp",
            lines=(
                "llama-diffusion-cli -m {export} -p 'Hello' -ub 512 --diffusion-eps 0.001 --diffusion-algorithm 3 "
                "--diffusion-steps 128",
            ),
        ),
    ),
    llama_cpp=LlamaCpp(),
)
