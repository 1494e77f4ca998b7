"""Which module of a running model holds which layer of a checkpoint."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from workbench.checkpoint import Checkpoint, opened
from workbench.errors import ArgumentError, ShapeMismatchError, ValidationError
from workbench.plan import LayerKind

WEIGHT = ".weight"

KINDS: Mapping[type[nn.Module], LayerKind] = {
    nn.Linear: "linear",
    nn.Conv1d: "conv",
    nn.Conv2d: "conv",
    nn.Conv3d: "conv",
    nn.Embedding: "embedding",
}
"""Modules whose input can be watched, and subclasses of them."""

WRAPPERS = frozenset({"_orig_mod", "base_layer", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What wrappers call the module that they wrap: torch.compile, PEFT's adapters, FSDP, activation checkpointing."""

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)

FUSED = frozenset({"to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"})
"""Projections of a block of diffusers that stand idle while it runs them fused."""


def kind_of(module: nn.Module) -> LayerKind | None:
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


@dataclass(frozen=True)
class Match:
    """The layers of a checkpoint in a running model, by their names in the checkpoint's files."""

    root: nn.Module
    """The model without what is wrapped around it."""
    modules: Mapping[str, nn.Module]
    """The module of each layer that the model has, in the checkpoint's order."""
    missing: Mapping[str, str]
    """The layers that it does not have, and why."""
    _all: Mapping[str, nn.Module]
    _ours: str
    _theirs: str

    def owner(self, tensor: str) -> tuple[nn.Module, str] | None:
        """The module that holds any tensor of the checkpoint, and the tensor's name in it; None where there is none."""
        if tensor in self.modules:
            return self.modules[tensor], "weight"
        path, _, leaf = (self._theirs + tensor.removeprefix(self._ours)).rpartition(".")
        module = self._all.get(path)
        return None if module is None or not tensor.startswith(self._ours) else (module, leaf)


def match_modules(model: nn.Module, checkpoint: Checkpoint | str | os.PathLike[str]) -> dict[str, nn.Module]:
    """The module of each layer, by the layer's name.

    A layer called ``a.b.weight`` belongs to the module ``a.b``. Where the model was loaded under a prefix, or the
    checkpoint's names have one (``model.diffusion_model.``), the prefix is found by itself. Wrappers of torch.compile,
    DataParallel and PEFT are looked through.

    Parameters
    ----------
    model : torch.nn.Module
    checkpoint : Checkpoint or path-like
        Under whatever names it is: the layers are called as in its files.

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
    with opened(checkpoint) as found:
        return dict(match_layers(model, found).modules)


def match_layers(model: nn.Module, checkpoint: Checkpoint) -> Match:
    """The same as `match_modules`, with the layers that are missing and why."""
    stored = checkpoint.stored
    root = unwrapped(model)
    modules = _without_wrappers(root)
    watchable = {name: module for name, module in modules.items() if kind_of(module)}
    ours, theirs = _prefixes(watchable, stored)
    found: dict[str, nn.Module] = {}
    missing: dict[str, str] = {}
    holders: dict[int, str] = {}
    for layer in stored.layers:
        if not layer.params:
            continue
        name = theirs + layer.name.removesuffix(WEIGHT).removeprefix(ours)
        module = modules.get(name) if layer.name.startswith(ours) else None
        why = _why_not(modules, name, module, holders)
        if why or module is None:
            missing[layer.name] = why
            continue
        _check_shape(stored, layer.name, layer.params, layer.rows, name, module)
        found[layer.name] = module
        holders[id(module)] = layer.name
    if not found:
        first = f", such as {stored.layers[0].name!r}," if stored.layers else ""
        raise ValidationError(
            f"{stored.path}: none of its {len(stored.layers)} layers{first} is a module of this "
            f"{type(root).__name__}. Give the module that was loaded from this checkpoint, such as pipe.transformer.",
            path=stored.path,
        )
    return Match(root, found, missing, modules, ours, theirs)


def unwrapped(model: nn.Module) -> nn.Module:
    """A model without torch.compile and DataParallel around it.

    Raises
    ------
    ArgumentError
        If it is run in parallel on several devices, in copies that cannot be watched.
    """
    while True:
        inner = model._modules.get("_orig_mod")
        if isinstance(model, PARALLEL):
            if len(model.device_ids or ()) > 1:
                raise ArgumentError(
                    f"The model is a {type(model).__name__} over {len(model.device_ids)} devices, whose copies cannot "
                    "be watched. Run and give its .module on one device.",
                    key="module",
                )
            inner = model.module
        if inner is None:
            return model
        model = inner


def _without_wrappers(root: nn.Module) -> dict[str, nn.Module]:
    """All modules by their paths; a wrapped one also by the path it would have without its wrappers."""
    modules = dict(_walk(root, "", ()))
    for name, module in list(modules.items()):
        clean = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if clean not in modules or not kind_of(modules[clean]):
            modules[clean] = module
    return modules


def _walk(module: nn.Module, name: str, above: tuple[nn.Module, ...]) -> Iterator[tuple[str, nn.Module]]:
    # Not named_modules: it names a module that is used twice only once, or never ends where modules form a circle.
    yield name, module
    for key, child in module._modules.items():
        if child is not None and child is not module and child not in above:
            yield from _walk(child, f"{name}.{key}" if name else key, (*above, module))


def _why_not(
    modules: Mapping[str, nn.Module], name: str, module: nn.Module | None, holders: Mapping[int, str]
) -> str:
    """Why the module under a layer's name cannot stand for it; empty where it can."""
    if module is None:
        return "not in the model"
    if not kind_of(module):
        return f"hidden in a {type(module).__name__}"
    if id(module) in holders:
        return f"the model uses the module of {holders[id(module)]} in its place"
    parent, _, leaf = name.rpartition(".")
    block: Any = modules.get(parent)
    if leaf in FUSED and _runs_fused(block, leaf):
        return "unused while its block runs fused projections; unfuse_qkv_projections() ends that"
    return ""


def _runs_fused(block: Any, leaf: str) -> bool:
    # Older blocks of diffusers are fused as their processor has it, and keep the flag; newer ones go by the flag.
    by_processor = type(getattr(block, "processor", None)).__name__.startswith("Fused")
    by_flag = hasattr(block, "unfuse_projections") and getattr(block, "fused_projections", False) is True
    if not (by_processor or by_flag):
        return False
    if leaf.startswith("add_"):
        return hasattr(block, "to_added_qkv")
    return hasattr(block, "to_qkv") or (leaf != "to_q" and hasattr(block, "to_kv"))


def _check_shape(checkpoint: Checkpoint, layer: str, params: int, rows: int, name: str, module: Any) -> None:
    weight = module.weight
    shape = tuple(weight.shape)
    if not weight.dtype.is_floating_point:
        raise ValidationError(
            f"{checkpoint.path}: the weight of {name!r} is {weight.dtype} in the running model, which is quantized "
            "already. Load the model in float32, bfloat16 or float16.",
            path=checkpoint.path,
            tensor=layer,
        )
    if math.prod(shape) != params or shape[0] != rows:
        raise ShapeMismatchError(
            f"{checkpoint.path}: {layer!r} is {checkpoint.tensors[layer].shape}, the module {name!r} has {shape}. "
            "Load this checkpoint into the model.",
            path=checkpoint.path,
            tensor=layer,
        )


def _prefixes(modules: Mapping[str, nn.Module], checkpoint: Checkpoint) -> tuple[str, str]:
    """What to take off a checkpoint's names, and what to put before them, so that most layers are modules."""
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
