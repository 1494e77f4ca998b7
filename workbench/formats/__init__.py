"""Export formats: each a folder with one record, `Format`, and this their registry.

Whoever adds a format writes its record and registers it; nothing else in the workbench names formats.
"""

from workbench.formats import compressed_tensors, gguf, mlx, parquet, safetensors
from workbench.formats.codec import BlockCheck, Codec, Encoder
from workbench.formats.format import (
    DEFAULTS,
    Check,
    Format,
    Layout,
    Payload,
    StoredTensor,
    TargetSettings,
    Unit,
    Writer,
    kept_as,
)
from workbench.formats.registry import (
    check_target,
    exported,
    formats,
    named,
    plan_for,
    register,
    require_storable,
    settings_of,
    target_named,
    target_names,
)

__all__ = [
    "DEFAULTS",
    "BlockCheck",
    "Check",
    "Codec",
    "Encoder",
    "Format",
    "Layout",
    "Payload",
    "StoredTensor",
    "TargetSettings",
    "Unit",
    "Writer",
    "check_target",
    "exported",
    "formats",
    "kept_as",
    "named",
    "plan_for",
    "register",
    "require_storable",
    "settings_of",
    "target_named",
    "target_names",
]

for _folder in (parquet, gguf, mlx, compressed_tensors, safetensors):
    register(_folder.FORMAT)
