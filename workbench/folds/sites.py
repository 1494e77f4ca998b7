"""Collecting the places of a checkpoint where a fold is exact: `Search` adds one where names and shapes bear it out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


class Search:
    """The sites found so far, and the means to add one; modules are named within a block such as ``"layers.0."``.

    Parameters
    ----------
    checkpoint : Checkpoint
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
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

    def blocks(self, pattern: str, known: str) -> list[str]:
        """Prefixes of the blocks whose modules are all known; both are regular expressions."""
        modules: dict[str, set[str]] = {}
        for name in self._tensors:
            if match := re.match(rf"(?:{pattern})\.\d+\.", name):
                modules.setdefault(match[0], set()).add(name.removeprefix(match[0]).rpartition(".")[0])
        found = []
        for block, inside in modules.items():
            foreign = sorted(module for module in inside if module and not re.fullmatch(known, module))
            if foreign:
                self.remark(block[:-1], f"left alone, as {foreign[0]} is not known there")
            else:
                found.append(block)
        return found

    def has(self, *modules: str) -> bool:
        return all(f"{module}.weight" in self._tensors for module in modules)

    def norm(self, block: str, gain: str, consumers: Sequence[str]) -> None:
        """A norm's gain, and its bias if it has one, before the linears that it feeds."""
        if self.has(block + gain):
            self._add(block, "norm", [gain], consumers, [Divided(name) for name in self._parts(block + gain)])

    def modulation(
        self, block: str, linear: str, consumers: Sequence[str], *, shift: int, scale: int, parts: int
    ) -> None:
        """The shift and scale rows, of several parts, of an adaLN that belongs to the block alone."""
        if not self.has(block + linear):
            return
        if f"{block}{linear}.bias" not in self._tensors:
            self.remark(
                block + linear, "left alone, as a modulation without a bias cannot take the 1 of 1 + scale"
            )
            return
        rows = self._tensors[f"{block}{linear}.weight"].shape[0]
        size = rows // parts
        divided = [
            Divided(name, part * size, adds_one=part == scale and name.endswith(".bias"))
            for part in (shift, scale)
            for name in self._parts(block + linear)
        ]
        self._add(block, "modulation", [linear], consumers, divided, size if rows == size * parts else -1)

    def linear(
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

    def value(self, block: str, values: Sequence[str], outputs: Sequence[str]) -> None:
        """The values of an attention and its output projections: each head's output is a mean of values."""
        query, key = (self.config.get(name) for name in self._head_keys)
        if not self.has(block + values[0], block + outputs[0]):
            return
        rows = self._tensors[f"{block}{values[0]}.weight"].shape[0]
        seen = self._tensors[f"{block}{outputs[0]}.weight"].shape[-1]
        if rows == seen:
            self.linear(block, values, outputs)
        elif isinstance(key, int) and isinstance(query, int) and key > 0 and seen * key == rows * query:
            self.linear(block, values, outputs, heads=key)
        else:
            where = " and ".join(self._head_keys)
            self.remark(block + values[0], f"left alone, as {where} of config.json do not tell its heads")

    _head_keys = ("num_attention_heads", "num_key_value_heads")

    def named_heads(self, query: str, key: str) -> None:
        """What the configuration calls the numbers of heads."""
        self._head_keys = (query, key)

    def feed_forward(self, block: str, module: str) -> None:
        """diffusers' gated FeedForward: the first half of its rows is multiplied by the activation of the other."""
        inside, outside = f"{module}.net.0.proj", f"{module}.net.2"
        if self.config.get("activation_fn") in ("geglu", "swiglu") and self.has(
            block + inside, block + outside
        ):
            self.linear(
                block, [inside], [outside], rows=self._tensors[f"{block}{inside}.weight"].shape[0] // 2
            )

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
