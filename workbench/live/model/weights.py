"""Where a running module takes its tensors from, so that they can be read and replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from workbench.errors import ValidationError
from workbench.live.model.missing_layers import listed

Undo = Callable[[], None]


@dataclass(frozen=True)
class Slot:
    """A tensor of a module, in the place from which a call of the module takes it."""

    key: object
    """Equal for two names of one tensor."""
    read: Callable[[], Tensor]
    """Its value."""
    replace: Callable[[Tensor], Undo]
    """Puts another value there, and gives what puts the old one back, the very same tensor."""
    is_parameter: bool
    """Whether the module itself holds it, between its calls too."""


def slot_of(module: nn.Module, leaf: str) -> Slot | str:
    """Where a module takes a tensor from; where it cannot be replaced there, the reason.

    Parameters
    ----------
    module : torch.nn.Module
    leaf : str
        The tensor's name in it, such as ``"weight"``.
    """
    held = module._parameters.get(leaf)
    held = module._buffers.get(leaf) if held is None else held
    if held is None:
        if hasattr(module, leaf):
            return "computed from other parameters, as weight_norm does; remove the parametrization"
        return "not in the model"
    if held.is_meta:
        return _offloaded(module, leaf) or (
            "on the meta device: the model is offloaded, and its weights are elsewhere between calls; undo the "
            "offloading first"
        )
    if type(held.data) is not Tensor:
        return f"a {type(held.data).__name__}, not a plain tensor; load the model unquantized and unsharded"
    return _parameter(held)


def value_of(module: nn.Module, leaf: str) -> Tensor | None:
    """A tensor that a module computes with; None where it has none, or it is not known between calls."""
    held: Any = getattr(module, leaf, None)
    if not isinstance(held, Tensor):
        return None
    if not held.is_meta:
        return held.detach()
    slot = _offloaded(module, leaf)
    return None if slot is None else slot.read().detach()


def refuse_copies(model: nn.Module) -> None:
    """Make sure that diffusers' group offloading does not restore weights from copies, on a stream or on disk.

    Raises
    ------
    ValidationError
        If it does: what is put into the model would never be used.
    """
    for name, module in model.named_modules():
        hooks: Any = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        group = getattr(hooks.get("group_offloading"), "group", None)
        if group is not None and (group.stream is not None or group.offload_to_disk_path):
            raise ValidationError(
                f"The model's weights cannot be replaced: group offloading brings those of {name or 'the model'!r} "
                "from copies before each call. Load the model without it.",
                tensor=name,
            )


def require_weights(modules: Mapping[str, nn.Module], what: str, own: bool = False) -> dict[str, Slot]:
    """The slots of the weights of layers that are all to be changed.

    Parameters
    ----------
    modules : mapping of str to torch.nn.Module
    what : str
        What is to be done with the weights, for the message.
    own : bool
        Whether the modules must hold them between calls too.

    Raises
    ------
    ValidationError
        If one cannot be replaced; names it and the reason.
    """
    slots, reasons = {}, {}
    for name, module in modules.items():
        found = slot_of(module, "weight")
        if isinstance(found, Slot) and own and not found.is_parameter:
            found = "offloaded: not in the module between its calls; undo the offloading first"
        if isinstance(found, Slot):
            slots[name] = found
        else:
            reasons[name] = found
    if reasons:
        raise ValidationError(
            f"The weights of {len(reasons)} of {len(modules)} layers cannot be {what}: {listed(reasons)}.",
            tensor=next(iter(reasons)),
        )
    return slots


def _parameter(held: Tensor) -> Slot:
    def replace(value: Tensor) -> Undo:
        own = held.data

        def undo() -> None:
            held.data = own

        held.data = value.reshape(own.shape).to(own.device, own.dtype)
        return undo

    return Slot(id(held), lambda: held.data, replace, True)


def _offloaded(module: nn.Module, leaf: str) -> Slot | None:
    """Where accelerate's offloading keeps a tensor between the calls of a module."""
    hook: Any = getattr(module, "_hf_hook", None)
    for one in getattr(hook, "hooks", (hook,)):
        store: Any = getattr(one, "weights_map", None)
        key = leaf
        while hasattr(store, "dataset") and hasattr(store, "prefix"):  # names below a module's
            store, key = store.dataset, store.prefix + key
        if store is None:
            continue
        try:
            store[key]
        except KeyError:
            continue
        # A loader from disk prefers what it holds in memory.
        memory = getattr(store, "state_dict", store)
        return _stored(store, memory, key) if isinstance(memory, dict) else None
    return None


def _stored(store: Any, memory: dict[str, Any], key: str) -> Slot:
    def replace(value: Tensor) -> Undo:
        own = store[key]
        given = value.reshape(own.shape).to(own.device, own.dtype)
        # Tied weights are offloaded under each of their names.
        before = {
            name: found
            for name, found in memory.items()
            if name == key or (_same_memory(found, own) and found.shape == own.shape)
        }
        loaded = key not in memory

        def undo() -> None:
            memory.update(before)
            if loaded:
                del memory[key]

        memory.update(dict.fromkeys(before | {key: own}, given))
        return undo

    return Slot((id(memory), key), lambda: store[key], replace, False)


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return bool(one.numel()) and bool(one.data_ptr() == other.data_ptr())
