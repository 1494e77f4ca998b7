"""Export targets: what each can store, exact bytes, writing and reading."""

from collections.abc import Callable

from workbench.config import DiffusionQuantConfig
from workbench.config_sources import did_you_mean
from workbench.errors import ConfigurationError
from workbench.formats.compressed_tensors.target import CompressedTensorsTarget
from workbench.formats.gguf.target import GgufTarget
from workbench.formats.mlx.target import MlxTarget
from workbench.formats.parquet.target import ParquetTarget
from workbench.formats.safetensors.dequantized import DequantizedTarget, dequantized
from workbench.formats.target import (
    BlockCheck,
    Check,
    Payload,
    StoredTensor,
    Target,
    TargetSettings,
    Unit,
    Writer,
    kept_as,
    require_storable,
)

__all__ = [
    "DEFAULTS",
    "BlockCheck",
    "Check",
    "Payload",
    "StoredTensor",
    "Target",
    "TargetSettings",
    "Unit",
    "Writer",
    "dequantized",
    "kept_as",
    "require_storable",
    "settings_of",
    "target_named",
    "target_names",
]

DEFAULTS = TargetSettings()
"""What targets do where nobody asks for more."""

_TARGETS: dict[str, Callable[[TargetSettings], Target]] = {
    "parquet": lambda settings: ParquetTarget(),
    "gguf": lambda settings: GgufTarget(),
    "mlx": MlxTarget,
    "compressed-tensors": CompressedTensorsTarget,
    "safetensors": lambda settings: DequantizedTarget(
        lambda name: target_named(name, TargetSettings(all_widths=True, scheme="asymmetric"))
    ),
}


def target_names() -> tuple[str, ...]:
    """Names of the export targets there are."""
    return tuple(_TARGETS)


def target_named(name: str, settings: TargetSettings = DEFAULTS) -> Target:
    """The export target of a name.

    Parameters
    ----------
    name : str
    settings : TargetSettings, optional
        What the user asks of it; it matters for what is offered and written, not for reading.

    Raises
    ------
    ConfigurationError
        If there is none; the message lists those there are.
    """
    try:
        make = _TARGETS[name]
    except KeyError:
        near = did_you_mean(name, _TARGETS)
        raise ConfigurationError(
            f"There is no export target {name!r}; there are: {', '.join(sorted(_TARGETS))}"
            f"{'; ' if near else '.'}{near}",
            key="target",
            value=name,
            allowed=tuple(sorted(_TARGETS)),
        ) from None
    return make(settings)


def settings_of(config: DiffusionQuantConfig) -> TargetSettings:
    """What a configuration asks of its target."""
    return TargetSettings(int(config.shard_size_mb * 1e6), config.all_widths, config.scheme)
