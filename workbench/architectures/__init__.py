"""What is known of the families of models: a file each, and the generic rules for all others.

To add a family, write a module with one `Architecture` and add it to `workbench.architectures.registry`; to have it in
one process alone, hand the record to `register`.
"""

from workbench.architectures.original_names import OriginalNames, Place, original_names_of
from workbench.architectures.record import (
    MASK_RATIO,
    Architecture,
    BundlePrefix,
    Clock,
    LlamaCpp,
    Medium,
    Reader,
    Rule,
    Tie,
)
from workbench.architectures.registry import (
    DENOISER_PREFIX,
    architecture_named,
    architecture_of_config,
    architecture_of_tensors,
    class_of,
    is_denoiser_name,
    is_high_precision,
    known_architectures,
    recognise,
    register,
    unregister,
)
from workbench.architectures.roles import is_norm, is_table, module_of, role_of

__all__ = [
    "DENOISER_PREFIX",
    "MASK_RATIO",
    "Architecture",
    "BundlePrefix",
    "Clock",
    "LlamaCpp",
    "Medium",
    "OriginalNames",
    "Place",
    "Reader",
    "Rule",
    "Tie",
    "architecture_named",
    "architecture_of_config",
    "architecture_of_tensors",
    "class_of",
    "is_denoiser_name",
    "is_high_precision",
    "is_norm",
    "is_table",
    "known_architectures",
    "module_of",
    "original_names_of",
    "recognise",
    "register",
    "role_of",
    "unregister",
]
