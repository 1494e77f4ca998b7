"""Export formats: each is a folder with one record, `Format`, and they are registered here; nothing else names them.

To add a format, write its record and register it:

- the options that it has for a layer, with their exact bytes, and which of them is nearest to a width;
- a codec (`workbench.formats.codec.Codec`): rows to what is stored and back, and what must be known of a whole tensor
  before its first row; where the files are safetensors, `SafetensorsCodec`, and `safetensors_format` makes the record;
- otherwise the layout of its files, what writes them (`PlacedWriter` where every row has its place), a reader;
- who loads it, its referee, rules of other tools and default names where there are any.

``tests/formats/toy_fp8.py`` is one in a single module.
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
