"""How a plan that follows from a configuration was made."""

from __future__ import annotations

from typing import Any

from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig


def made_by(method: str, config: DiffusionQuantConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    """What such a plan says of its origin: the method, and the settings that decide the widths."""
    decisive = {
        "deployment_profile": config.deployment_profile,
        "bit_width": config.bit_width,
        "group_size": config.group_size,
        "scheme": config.scheme,
        "min_accuracy": config.min_accuracy,
        "modality": config.modality or checkpoint.modality.value,
    }
    return {"method": method, **decisive}
