"""Which module of a running model holds which layer of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from workbench.checkpoint import Checkpoint
from workbench.errors import ShapeMismatchError, ValidationError
from workbench.plan import Kind

WEIGHT = ".weight"

KINDS: Mapping[type[nn.Module], Kind] = {
    nn.Linear: "linear",
    nn.Conv1d: "conv",
    nn.Conv2d: "conv",
    nn.Conv3d: "conv",
    nn.Embedding: "embedding",
}
"""Modules whose input can be watched, and subclasses of them."""


def kind_of(module: nn.Module) -> Kind | None:
    """The kind of a module that holds a layer; None where it is none that can be watched."""
    return next((kind for cls, kind in KINDS.items() if isinstance(module, cls)), None)


def channels_of(module: nn.Module) -> int:
    """Channels of a module's input; of an Embedding, its rows."""
    found: Any = module
    match kind_of(module):
        case "linear":
            return int(found.in_features)
        case "conv":
            return int(found.in_channels)
        case _:
            return int(found.num_embeddings)


def match_modules(model: nn.Module, checkpoint: Checkpoint) -> dict[str, nn.Module]:
    """The module of each layer, by the layer's name.

    A layer called ``a.b.weight`` belongs to the module ``a.b``. Where the model was loaded under a prefix, or the
    checkpoint's names have one (``model.diffusion_model.``), the prefix is found by itself.

    Parameters
    ----------
    model : torch.nn.Module
    checkpoint : Checkpoint

    Returns
    -------
    dict of str to torch.nn.Module
        In the checkpoint's order; without the layers that the model has no module for.

    Raises
    ------
    ValidationError
        If no layer is found in the model.
    ShapeMismatchError
        If a module's weight has another shape than its layer.
    """
    modules = _watchable(model)
    ours, theirs = prefixes(model, checkpoint)
    found = {}
    for layer in checkpoint.layers:
        name = theirs + layer.name.removesuffix(WEIGHT).removeprefix(ours)
        if name not in modules or not layer.name.startswith(ours):
            continue
        shape = tuple(modules[name].weight.shape)
        if math.prod(shape) != layer.params or shape[0] != layer.rows:
            raise ShapeMismatchError(
                f"{checkpoint.path}: {layer.name!r} is {layer.shape}, the module {name!r} has {shape}. Load this "
                "checkpoint into the model.",
                path=checkpoint.path,
                tensor=layer.name,
            )
        found[layer.name] = modules[name]
    if not found:
        raise ValidationError(
            f"{checkpoint.path}: none of its {len(checkpoint.layers)} layers, such as "
            f"{checkpoint.layers[0].name if checkpoint.layers else '–'!r}, is a module of this "
            f"{type(model).__name__}. Give the module that was loaded from this checkpoint, such as pipe.transformer.",
            path=checkpoint.path,
        )
    return found


def prefixes(model: nn.Module, checkpoint: Checkpoint) -> tuple[str, str]:
    """What to take off a checkpoint's names, and what to put before them, so that most layers are modules."""
    modules = _watchable(model)
    names = [layer.name.removesuffix(WEIGHT) for layer in checkpoint.layers]
    tried = {("", "")}
    for name in names[:1] + names[len(names) // 2 : len(names) // 2 + 1] + names[-1:]:
        for module in modules:
            if module.endswith(f".{name}"):
                tried.add(("", module.removesuffix(name)))
            elif name.endswith(f".{module}"):
                tried.add((name.removesuffix(module), ""))

    def fitting(pair: tuple[str, str]) -> tuple[int, int]:
        ours, theirs = pair
        hits = sum(theirs + name.removeprefix(ours) in modules for name in names if name.startswith(ours))
        return hits, -len(ours) - len(theirs)

    return max(sorted(tried), key=fitting)


def _watchable(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if kind_of(module)}
