"""The source of the running Python's standard library, split by file once for training and judging."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 1536
"""Tokens, the two special ones included."""
MASK = "<|mask|>"
END = "<|endoftext|>"
"""Stands after every file, and pads."""

_HELD_OUT_SHARE = 0.05
# Tables, generated help and programs written for another purpose than being read as library code.
_SKIPPED = frozenset({"encodings", "idlelib", "lib2to3", "pydoc_data", "turtledemo", "ensurepip"})
# How Qwen2 and Dream cut text before the byte pairs are joined: at most one digit, one word, one line end.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Source:
    """One file of the library."""

    name: str
    """Path inside the library, such as ``json/decoder.py``."""
    text: str


@cache
def split() -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """Read the library and set a twentieth of its files aside, by a hash of their names.

    Tests, site-packages and folders of tables are left out. A file that every Python version has is on the
    same side in all of them, whatever its text.

    Returns
    -------
    train, held_out : tuple of Source
        In the order of their names.

    Raises
    ------
    FileNotFoundError
        If this Python comes without its library's source.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    sources = tuple(
        Source(path.relative_to(root).as_posix(), path.read_text("utf-8"))
        for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix())
        if _is_wanted(path.relative_to(root))
    )
    held_out = tuple(source for source in sources if _is_held_out(source.name))
    if not held_out:
        raise FileNotFoundError(f"{root} holds no source of the standard library to train on or judge by")
    return tuple(source for source in sources if not _is_held_out(source.name)), held_out


@cache
def learn_tokenizer() -> PreTrainedTokenizerFast:
    """Learn a byte-level vocabulary from the training files.

    Returns
    -------
    PreTrainedTokenizerFast
        With `VOCABULARY` tokens, the first two of them `MASK` and `END`; any text survives encoding and decoding.

    References
    ----------
    Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units, 2015,
    arXiv:1508.07909.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[MASK, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((source.text for source in split()[0]), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        mask_token=MASK,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
    )


@lru_cache(maxsize=4)
def encode(tokenizer: PreTrainedTokenizerFast, sources: tuple[Source, ...]) -> torch.Tensor:
    """Write files as one row of tokens, `END` after each; the last few results are kept.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    sources : tuple of Source

    Returns
    -------
    Tensor of int64, shape [n]
    """
    encoded = tokenizer.backend_tokenizer.encode_batch_fast([source.text for source in sources])
    return torch.cat([torch.tensor([*file.ids, tokenizer.eos_token_id]) for file in encoded])


def mask(clean: torch.Tensor, shares: torch.Tensor, mask_id: int, chance: torch.Generator) -> torch.Tensor:
    """Hide each token with the probability that its sequence asks for.

    Parameters
    ----------
    clean : Tensor of int64, shape [n, length]
    shares : Tensor of float, shape [n]
        The mask ratio t of each sequence, 0 to 1.
    mask_id : int
        Goes where a token is hidden.
    chance : torch.Generator

    Returns
    -------
    Tensor of int64, shape [n, length]
    """
    hidden = torch.rand(clean.shape, generator=chance) < shares[:, None]
    return torch.where(hidden, mask_id, clean)


def _is_wanted(path: Path) -> bool:
    top = path.parts[0].removesuffix(".py")
    is_library = top in sys.stdlib_module_names and not top.startswith("_sysconfigdata")
    return is_library and not (_SKIPPED | {"test", "tests", "__pycache__"}) & set(path.parts)


def _is_held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] < 256 * _HELD_OUT_SHARE
