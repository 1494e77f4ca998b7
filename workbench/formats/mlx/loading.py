"""Who loads MLX safetensors."""

from __future__ import annotations

from pathlib import Path

from workbench.checkpoint import Checkpoint
from workbench.formats.format import Language, Loading
from workbench.formats.model_classes import is_causal, quoted
from workbench.plan import Plan


def _readers(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    if is_causal(checkpoint):
        kind = checkpoint.config["model_type"]
        return (f"Known to load it: mlx-lm, where it has the model type {kind!r}.",)
    return (
        "mlx.core.load reads the arrays and mlx.core.dequantize decodes them; no program is known that runs this "
        "architecture from such a file.",
    )


def _lines(checkpoint: Checkpoint, folder: Path, plan: Plan) -> tuple[Language, list[str]]:
    if is_causal(checkpoint):
        return "python", ["from mlx_lm import load", "", f"model, tokenizer = load({quoted(folder)})"]
    return "python", [
        "from pathlib import Path",
        "",
        "import mlx.core as mx",
        "",
        "arrays = {}",
        f"for file in sorted(Path({quoted(folder)}).glob('*.safetensors')):",
        "    arrays.update(mx.load(str(file)))",
    ]


LOADING = Loading(_readers, _lines)
"""Who loads it."""
