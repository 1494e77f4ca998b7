"""What is known of a family of models, as one value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from workbench.architectures.folds import Folds
from workbench.plan import Role

Medium = Literal["text", "code", "image", "audio", "unknown"]
"""What a model generates; video counts as image."""

Library = Literal["diffusers", "transformers", ""]
"""The library whose classes load a model; empty where only its own code does."""

Names = Literal["original", "diffusers", "llama.cpp"]
"""Whose names the tensors of a file have."""

Rule = tuple[str, tuple[str, ...]]
"""A module's original name, and diffusers' modules whose rows it has, one after the other.

``#`` stands for a number, in any list and as often as there are lists; both sides have equally many. ``~`` before
diffusers' name swaps the two halves of its rows.
"""


@dataclass(frozen=True)
class Reader:
    """A program that loads files of a family."""

    program: str
    """The program: one of `workbench.formats.gguf.families.PROGRAMS`, or what it is called."""
    format: str = "gguf"
    """The export format that it reads."""
    names: Names = "original"
    """The names by which it knows the tensors."""
    width: int | None = None
    """The only width (``num_attention_heads`` times ``attention_head_dim``) of which it loads them; None for all."""
    lines: tuple[str, ...] = ()
    """Lines that load an export, in which ``{export}`` stands for its file, or its folder where it has several; by
    default those usual for the program."""
    language: Literal["python", "sh"] = "sh"
    """What the lines are written in."""


@dataclass(frozen=True)
class Clock:
    """How a model gets to know how noisy its input is."""

    name: str = "timestep"
    """What time means, such as ``"timestep"``, ``"sigma"`` or ``"mask ratio"``."""
    arguments: tuple[str, ...] = ("timestep",)
    """The arguments of ``forward`` that hold it, the first that is given counts; of a mask ratio, the tokens."""


MASK_RATIO = Clock("mask ratio", ("input_ids",))
"""The share of tokens that are masked, by ``mask_token_id`` of config.json."""


@dataclass(frozen=True)
class LlamaCpp:
    """What llama.cpp must find in the GGUF file of a language model, besides what follows from config.json."""

    is_interleaved: bool = False
    """Whether it wants the rows of queries and keys interleaved within each head."""
    keys: tuple[tuple[str, bool], ...] = ()
    """Keys of the model."""
    tokenizer_keys: tuple[tuple[str, bool], ...] = ()
    """Keys of the tokenizer."""


@dataclass(frozen=True)
class Tie:
    """How config.json says that the head of a language model has the weights of its embedding."""

    key: str
    """The key, which is true where they are tied."""
    head: str
    """The head's module, a regular expression on the end of its name."""
    embedding: str
    """The embedding's module, likewise."""


@dataclass(frozen=True)
class BundlePrefix:
    """What stands before the names of a denoiser in an all-in-one file, where no generic rule knows it."""

    prefix: str
    """Before the names of the denoiser."""
    beside: str
    """The prefix of another model's names, by which such a file is recognised."""


@dataclass(frozen=True)
class Architecture:
    """A family of models: how it is recognised, and what holds for its checkpoints.

    Whatever is left out follows from generic rules: roles and medium by the words in names, the clock by the arguments
    of ``forward``. To add a family, write a module with one record and add it to `workbench.architectures.registry`, or
    hand the record to `workbench.architectures.register`.
    """

    name: str
    """What the family is called."""
    classes: tuple[str, ...] = ()
    """Classes of config.json that are of this family."""
    model_types: tuple[str, ...] = ()
    """Values of ``model_type`` of config.json, in lower case."""
    signs: tuple[tuple[str, ...], ...] = ()
    """Tensors that only this family has, in the original names; all of one tuple are needed."""
    medium: Medium = "unknown"
    """What it generates."""
    library: Library = "diffusers"
    """Whose classes load it."""
    lists: tuple[str, ...] = ()
    """Numbered lists of blocks, in the order in which they run, whose names no generic rule knows."""
    bundle_prefix: BundlePrefix | None = None
    """How its all-in-one files call the denoiser."""
    roles: tuple[tuple[Role, str], ...] = ()
    """Roles of modules by regular expressions on their names; they go before the generic rules."""
    original_names: Callable[[Collection[str]], Iterable[Rule]] | None = None
    """Rules between the original modules and diffusers', given the names of all tensors."""
    folds: Folds | None = None
    """Where channels can be equalised exactly, in the names of its classes."""
    tie: Tie | None = None
    """How its head may be tied to its embedding."""
    clock: Clock | None = None
    """How the time is given to it."""
    high_precision: str = ""
    """A regular expression on tensors that stay float32 in a GGUF file, whatever their shape."""
    gguf: str = ""
    """``general.architecture`` of a GGUF file; empty where no program has a word for it."""
    readers: tuple[Reader, ...] = ()
    """Programs that are known to load it."""
    llama_cpp: LlamaCpp | None = None
    """What llama.cpp needs, of a language model that it reads."""

    def readers_of(self, format_name: str, names: Names | None = None) -> tuple[Reader, ...]:
        """The programs that read a format, under some names or any."""
        return tuple(
            reader
            for reader in self.readers
            if reader.format == format_name and (names is None or reader.names == names)
        )
