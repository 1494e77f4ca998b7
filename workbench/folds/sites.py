"""Where a checkpoint has exact folds: the places of its architecture that its names and shapes bear out.

What feeds what cannot be told from tensors: Gemma's blocks have the names of Llama's and add 1 to their gains. So only
architectures whose code is known are looked into (`workbench.architectures`), and in those only blocks without modules
that are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from workbench.architectures import architecture_of_config, known_architectures
from workbench.architectures.folds import (
    FeedForwardFold,
    FoldedBlocks,
    FoldPlace,
    LeftAlone,
    LinearFold,
    ModulationFold,
    NormFold,
    ValueFold,
)
from workbench.checkpoint import Checkpoint
from workbench.folds.fold import Divided, Producer, Site

NAMED = 2
"""How many places a remark names."""


@dataclass(frozen=True)
class FoldSites:
    """Where a checkpoint has exact folds, and what was left alone."""

    sites: tuple[Site, ...]
    """In the order of the model."""
    remarks: tuple[str, ...]
    """What has no exact fold, each in a sentence."""


def find_sites(checkpoint: Checkpoint) -> FoldSites:
    """Find the exact folds of a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its configuration names the architecture, and the heads where attention repeats them.

    Returns
    -------
    FoldSites
        Without sites where the architecture is unknown or has none; the remarks say so.
    """
    # By its configuration alone: the places are in the names of its classes, not in those of an original file.
    family = architecture_of_config(checkpoint.config)
    if family is None or family.folds is None:
        known = ", ".join(foldable_classes())
        name = "A checkpoint without config.json" if not checkpoint.config else checkpoint.architecture
        return FoldSites(
            (), (f"{name or 'This model'} has no fold that is known to be exact; known are: {known}.",)
        )
    folds = family.folds
    search = Search(checkpoint, folds.heads)
    if (obstacle := folds.obstacle(checkpoint.config)) is not None:
        search.add("", obstacle)
    else:
        for blocks in folds.lists:
            for block in search.blocks(blocks):
                for place in blocks.places(search.config, partial(search.has, block)):
                    search.add(block, place)
        for place in folds.outside(search.config, partial(search.has, "")):
            search.add("", place)
    if not search.sites:
        search.remark(checkpoint.architecture or family.name, "no fold is exact here")
    return FoldSites(tuple(search.sites), tuple(search.remarks()))


def foldable_classes() -> list[str]:
    """The classes of config.json whose models have folds that are known to be exact."""
    return sorted(
        name for family in known_architectures() if family.folds is not None for name in family.classes
    )


class Search:
    """The sites found so far, and the means to add one; modules are named within a block such as ``"layers.0."``.

    Parameters
    ----------
    checkpoint : Checkpoint
    heads : tuple of str
        What its configuration calls the numbers of heads of queries and of keys.
    """

    def __init__(self, checkpoint: Checkpoint, heads: tuple[str, str]) -> None:
        self.config = checkpoint.config
        self._heads = heads
        self.sites: list[Site] = []
        self._tensors = checkpoint.tensors
        self._layers = {layer.name: layer for layer in checkpoint.layers if layer.kind == "linear"}
        self._remarks: dict[str, list[str]] = {}

    def remark(self, place: str, text: str) -> None:
        self._remarks.setdefault(text, []).append(place)

    def remarks(self) -> Iterable[str]:
        for text, places in self._remarks.items():
            more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
            yield f"{', '.join(places[:NAMED])}{more}: {text}."

    def blocks(self, blocks: FoldedBlocks) -> list[str]:
        """Prefixes of the blocks of a list whose modules are all known."""
        modules: dict[str, set[str]] = {}
        for name in self._tensors:
            if match := re.match(rf"(?:{blocks.name})\.\d+\.", name):
                modules.setdefault(match[0], set()).add(name.removeprefix(match[0]).rpartition(".")[0])
        found = []
        for block, inside in modules.items():
            unknown = sorted(module for module in inside if module and not re.fullmatch(blocks.known, module))
            if unknown:
                self.remark(block[:-1], f"left alone, as {unknown[0]} is not known there")
            else:
                found.append(block)
        return found

    def has(self, block: str, *modules: str) -> bool:
        """Whether a block has all of some modules."""
        return all(f"{block}{module}.weight" in self._tensors for module in modules)

    def add(self, block: str, place: FoldPlace) -> None:
        """Add a place of a block where it has one, or the remark that it has none."""
        match place:
            case LeftAlone(where, why):
                self.remark(block + where, why)
            case NormFold(gain, consumers):
                if self.has(block, gain):
                    divided = [Divided(name) for name in self._parts(block + gain)]
                    self._add(block, "norm", [gain], consumers, divided)
            case ModulationFold():
                self._modulation(block, place)
            case ValueFold(values, outputs):
                self._value(block, values, outputs)
            case LinearFold(producers, consumers):
                self._linear(block, producers, consumers)
            case FeedForwardFold(module):
                self._feed_forward(block, module)

    def _modulation(self, block: str, fold: ModulationFold) -> None:
        linear = block + fold.linear
        if not self.has("", linear):
            return
        if f"{linear}.bias" not in self._tensors:
            self.remark(linear, "left alone, as a modulation without a bias cannot take the 1 of 1 + scale")
            return
        rows = self._tensors[f"{linear}.weight"].shape[0]
        size = rows // fold.parts
        divided = [
            Divided(name, part * size, adds_one=part == fold.scale and name.endswith(".bias"))
            for part in (fold.shift, fold.scale)
            for name in self._parts(linear)
        ]
        channels = size if rows == size * fold.parts else -1
        self._add(block, "modulation", [fold.linear], fold.consumers, divided, channels)

    def _linear(
        self,
        block: str,
        producers: Sequence[str],
        consumers: Sequence[str],
        *,
        heads: int = 1,
        rows: int | None = None,
    ) -> None:
        """Linears, all their rows or the first so many, whose outputs pass straight into others."""
        divided = [Divided(name) for producer in producers for name in self._parts(block + producer)]
        if divided:
            self._add(block, "linear", producers, consumers, divided, rows, heads)

    def _value(self, block: str, values: Sequence[str], outputs: Sequence[str]) -> None:
        query, key = (self.config.get(name) for name in self._heads)
        if not self.has(block, values[0], outputs[0]):
            return
        rows = self._tensors[f"{block}{values[0]}.weight"].shape[0]
        seen = self._tensors[f"{block}{outputs[0]}.weight"].shape[-1]
        if rows == seen:
            self._linear(block, values, outputs)
        elif isinstance(key, int) and isinstance(query, int) and key > 0 and seen * key == rows * query:
            self._linear(block, values, outputs, heads=key)
        else:
            where = " and ".join(self._heads)
            self.remark(block + values[0], f"left alone, as {where} of config.json do not tell its heads")

    def _feed_forward(self, block: str, module: str) -> None:
        """The first half of a gated FeedForward's rows is multiplied by the activation of the other."""
        inside, outside = f"{module}.net.0.proj", f"{module}.net.2"
        if self.config.get("activation_fn") in ("geglu", "swiglu") and self.has(block, inside, outside):
            rows = self._tensors[f"{block}{inside}.weight"].shape[0] // 2
            self._linear(block, [inside], [outside], rows=rows)

    def _parts(self, module: str) -> list[str]:
        return [name for name in (f"{module}.weight", f"{module}.bias") if name in self._tensors]

    def _add(
        self,
        block: str,
        producer: Producer,
        producers: Sequence[str],
        consumers: Sequence[str],
        divided: Sequence[Divided],
        channels: int | None = None,
        heads: int = 1,
    ) -> None:
        place = f"{', '.join(producers)} → {', '.join(consumers)}"
        name = f"{block[:-1]}: {place}" if block else place
        shapes = [self._tensors[part.tensor].shape for part in divided]
        size = shapes[0][0] if channels is None else channels
        layers = [self._layers.get(f"{block}{consumer}.weight") for consumer in consumers]
        widths = {layer.cols for layer in layers if layer is not None}
        repeats = max(widths, default=0) // max(size, 1)
        whole = channels is not None  # otherwise the producer has no other rows
        fits = (
            size > 0
            and None not in layers
            and widths == {size * repeats}
            and (repeats == 1 or size % heads == 0)
            and {shape[:1] for shape in shapes} == {shapes[0][:1]}
            and (shapes[0][0] == size or whole)
            and all(len(shape) == 1 for shape in shapes if producer == "norm")
        )
        if not fits:
            self.remark(name, "left alone, as the shapes do not fit one another")
            return
        names = tuple(layer.name for layer in layers if layer is not None)
        self.sites.append(Site(name, producer, size, tuple(divided), names, heads, repeats))
