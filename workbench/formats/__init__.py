"""Export targets: what each can store, exact bytes, writing and reading."""

from workbench.errors import ConfigurationError
from workbench.formats.gguf import GgufTarget
from workbench.formats.mlx import MlxTarget
from workbench.formats.parquet import ParquetTarget
from workbench.formats.target import BlockCheck, Payload, StoredTensor, Target, Unit, Writer

__all__ = [
    "BlockCheck",
    "Payload",
    "StoredTensor",
    "Target",
    "Unit",
    "Writer",
    "target_named",
    "target_names",
]

_TARGETS: dict[str, Target] = {target.name: target for target in (ParquetTarget(), MlxTarget(), GgufTarget())}


def target_names() -> tuple[str, ...]:
    """Names of the export targets there are."""
    return tuple(_TARGETS)


def target_named(name: str) -> Target:
    """The export target of a name.

    Raises
    ------
    ConfigurationError
        If there is none; the message lists those there are.
    """
    try:
        return _TARGETS[name]
    except KeyError:
        raise ConfigurationError(
            f"There is no export target {name!r}; there are: {', '.join(sorted(_TARGETS))}.",
            key="target",
            value=name,
            allowed=tuple(sorted(_TARGETS)),
        ) from None
