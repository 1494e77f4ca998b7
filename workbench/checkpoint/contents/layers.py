"""Which tensors of a checkpoint are layers, and where in the model they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.architectures import Architecture, is_norm, is_table, role_of
from workbench.checkpoint.tensors import FLOAT_DTYPES, TensorInfo
from workbench.plan import Layer, LayerKind, Role

Peek = Callable[[TensorInfo], NDArray[np.float32]]
"""Gives the first values of a tensor, at most `PEEK_VALUES`, as float32."""

PEEK_VALUES = 1024

_BLOCK = re.compile(r"\b((?:\w*(?:blocks?|layers?|stages?|refiner)|h|blk))\.(\d{1,6})\.")
_MIDDLE = re.compile(r"\b(mid_block|middle_block|bottleneck)\.")

_STAGES: tuple[tuple[str, int], ...] = (
    (r"refiner", 0),  # HunyuanVideo's token refiner and Lumina's refiners run before the model
    (r"down_?blocks?|input_blocks?|in_blocks|encoder", 1),
    (r"mid_block|middle_block|bottleneck", 3),
    (r"single", 4),  # Flux and HunyuanVideo: single-stream blocks follow the double-stream ones
    (r"up_?blocks?|output_blocks?|out_blocks|decoder", 5),
)
_MAIN_STAGE = 2


def roles_of(tensors: Iterable[TensorInfo], architecture: Architecture | None = None) -> dict[str, Role]:
    """The role of every tensor, by its name and shape.

    Parameters
    ----------
    tensors : iterable of TensorInfo
        The tensors of a checkpoint.
    architecture : Architecture, optional
        Its family.

    Returns
    -------
    dict of str to Role
        In the order given. A ``….weight`` of one dimension is a ``"norm"`` whatever its name, because in a
        Sequential norms have only numbers (``out.0.weight``). One of three or more dimensions is a ``"conv"``
        where no rule knows its name. A bias is what its weight is.
    """
    shapes = {info.name: info.shape for info in tensors}
    roles: dict[str, Role] = {}
    for name in shapes:
        roles[name] = role_of(name, architecture)
        weight = f"{name.removesuffix('.bias')}.weight" if name.endswith(".bias") else name
        rank = len(shapes.get(weight, ())) if weight.endswith(".weight") else 0
        if rank == 1:
            roles[name] = "norm"
        elif rank >= 3 and roles[name] == "other":
            roles[name] = "conv"
    return roles


def find_layers(
    tensors: Mapping[str, TensorInfo],
    roles: Mapping[str, Role],
    peek: Peek | None = None,
    lists: Sequence[str] = (),
) -> tuple[Layer, ...]:
    """The quantizable weights among the tensors of a checkpoint.

    A layer is the ``….weight`` of a Linear, Conv or Embedding: floating point, two dimensions or more, not
    empty, and not the gain of a norm. A gain is told by its place (the module is called a norm) or its bias
    (as large as the weight itself). Where no rule knows the name, a vector such as [1, n] without a bias of
    its own is kept, and so is a weight whose first values scatter closely around a constant, as a gain's do.

    Parameters
    ----------
    tensors : mapping of str to TensorInfo
        All tensors.
    roles : mapping of str to Role
        Their roles, see `roles_of`.
    peek : callable, optional
        Reads first values, asked only for names that no rule knows; without it they are not looked at.
    lists : sequence of str
        As for `block_depths`.

    Returns
    -------
    tuple of Layer
        In the order of `tensors`.
    """
    depths = block_depths(tensors, lists)
    layers = []
    for info in tensors.values():
        role = roles[info.name]
        if _is_layer(info, role, tensors, peek):
            kind = _kind(info, tensors)
            layers.append(Layer(info.name, role, kind, depths[info.name], info.shape, info.dtype))
    return tuple(layers)


def _is_layer(info: TensorInfo, role: Role, tensors: Mapping[str, TensorInfo], peek: Peek | None) -> bool:
    owner, _, leaf = info.name.rpartition(".")
    if leaf != "weight" or info.dtype not in FLOAT_DTYPES or len(info.shape) < 2 or 0 in info.shape:
        return False
    bias = tensors.get(f"{owner}.bias" if owner else "bias")
    if is_norm(info.name) or (bias is not None and bias.shape == info.shape):
        return False
    if role != "other":
        return True
    has_bias = bias is not None and bias.shape == info.shape[:1]
    if sum(size > 1 for size in info.shape) < 2:
        return has_bias
    return has_bias or peek is None or not _is_gain(peek(info))


def _is_gain(values: NDArray[np.float32]) -> bool:
    # Weights scatter around 0; a gain begins as a constant and stays near it.
    values = values[np.isfinite(values)]
    return values.size > 0 and bool(abs(values.mean(dtype=np.float64)) > 3 * values.std(dtype=np.float64))


def _kind(info: TensorInfo, tensors: Mapping[str, TensorInfo]) -> LayerKind:
    if len(info.shape) > 2:
        return "conv"
    has_bias = f"{info.name.removesuffix('.weight')}.bias" in tensors  # which no table has
    return "embedding" if is_table(info.name) and not has_bias else "linear"


def block_depths(names: Iterable[str], lists: Sequence[str] = ()) -> dict[str, int | None]:
    """The index of the block that each tensor belongs to, counted along the model.

    The outermost numbered list of blocks counts (in a UNet, ``down_blocks.1`` and not the transformer block
    inside). Lists run on one after the other: refiners, down or encoder, main, middle, single-stream, up or
    decoder.

    Parameters
    ----------
    names : iterable of str
        The tensors' names.
    lists : sequence of str
        Lists of blocks that a family calls otherwise, in the order in which they run; the others follow.

    Returns
    -------
    dict of str to int or None
        In the order given; None outside the blocks.
    """
    own = tuple(re.compile(rf"(?:^|\.)({re.escape(name)})\.(\d{{1,6}})\.") for name in lists)
    places = {name: _own_place(name, own) or _place(name) for name in names}
    lengths: dict[str, int] = {}
    for place in places.values():
        if place is not None:
            family, index = place
            lengths[family] = max(lengths.get(family, 0), index + 1)
    starts, total = {}, 0
    for family in sorted(lengths, key=lambda family: (_turn(family, lists), _stage(family), family)):
        starts[family] = total
        total += lengths[family]
    return {name: None if place is None else starts[place[0]] + place[1] for name, place in places.items()}


def _own_place(name: str, lists: Iterable[re.Pattern[str]]) -> tuple[str, int] | None:
    found = next((match for pattern in lists if (match := pattern.search(name))), None)
    return None if found is None else (name[: found.end(1)], int(found[2]))


def _turn(family: str, lists: Sequence[str]) -> int:
    """When a list runs, among those of a family."""
    return next(
        (turn for turn, name in enumerate(lists) if family == name or family.endswith(f".{name}")), len(lists)
    )


def _place(name: str) -> tuple[str, int] | None:
    middle = _MIDDLE.search(name)
    block = _BLOCK.search(name)
    if middle is not None and (block is None or middle.start() <= block.start()):
        return name[: middle.end() - 1], 0
    return None if block is None else (name[: block.end(1)], int(block[2]))


def _stage(family: str) -> int:
    return next((stage for pattern, stage in _STAGES if re.search(pattern, family)), _MAIN_STAGE)
