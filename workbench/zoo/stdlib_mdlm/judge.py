"""Judge a language model by what it makes of masked code that it was not trained on, and the words it writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from transformers import PreTrainedTokenizerFast

from workbench.zoo.stdlib_mdlm.data import encode, split

RATIOS = (0.15, 0.5, 0.85)
"""Mask ratios judged unless others are asked for: a late, a middle and an early denoising step."""

_WORD = re.compile(r"[A-Za-z_]{3,}")


@dataclass(frozen=True)
class Masked:
    """Held-out code with a fixed share of its tokens hidden."""

    clean: torch.Tensor
    """Int64, shape [n, length]."""
    given: torch.Tensor
    """The same with masks in it: what the model is asked about."""

    @property
    def hidden(self) -> torch.Tensor:
        """Bool, shape [n, length]: where they differ."""
        return self.clean != self.given


def held_out_masked(
    tokenizer: PreTrainedTokenizerFast, ratio: float, count: int = 32, length: int = 128, seed: int = 0
) -> Masked:
    """Hide tokens of the held-out files.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    ratio : float
        Share of the tokens of every window that is hidden, above 0 and at most 1.
    count : int
        Windows, spread evenly over the held-out files.
    length : int
        Tokens of each.
    seed : int
        Chooses which tokens are hidden.

    Returns
    -------
    Masked
        The same every time; with another ratio the windows are the same and the masks grow or shrink.
    """
    tokens = encode(tokenizer, split()[1])
    starts = torch.linspace(0, len(tokens) - length, count, dtype=torch.float64).long()
    clean = tokens[starts[:, None] + torch.arange(length)]
    draws = torch.rand(clean.shape, generator=torch.Generator().manual_seed(seed))
    hidden = draws.argsort(1).argsort(1) < max(1, round(ratio * length))
    return Masked(clean, torch.where(hidden, tokenizer.mask_token_id, clean))


def masked_logits(model: torch.nn.Module, masked: Masked, batch: int = 16) -> torch.Tensor:
    """What a model predicts at the hidden places.

    Parameters
    ----------
    model : torch.nn.Module
        Takes tokens, shape [n, length], and gives their logits.
    masked : Masked
    batch : int
        Windows asked about in one call.

    Returns
    -------
    Tensor of float32, shape [hidden places, vocabulary]
        Logits, window by window, in reading order.
    """
    with torch.no_grad():
        parts = [
            model(given)[hidden].float()
            for given, hidden in zip(masked.given.split(batch), masked.hidden.split(batch), strict=True)
        ]
    return torch.cat(parts)


def masked_loss(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    ratios: Sequence[float] = RATIOS,
    count: int = 32,
    seed: int = 0,
) -> dict[float, float]:
    """Mean surprise of a model at a hidden token of the held-out files.

    Parameters
    ----------
    model : torch.nn.Module
        Takes tokens, shape [n, length], and gives their logits.
    tokenizer : PreTrainedTokenizerFast
    ratios : sequence of float
        Shares of the tokens that are hidden.
    count : int
        Windows of 128 tokens asked about at each ratio.
    seed : int
        Chooses which tokens are hidden.

    Returns
    -------
    dict of float to float
        −log p(token), in nats a hidden token, for each ratio.
    """
    losses = {}
    for ratio in ratios:
        masked = held_out_masked(tokenizer, ratio, count, seed=seed)
        logits = masked_logits(model, masked)
        losses[ratio] = float(torch.nn.functional.cross_entropy(logits, masked.clean[masked.hidden]))
    return losses


def divergence(original: torch.Tensor, changed: torch.Tensor) -> float:
    """Kullback-Leibler divergence of a changed model's predictions from the original's.

    Parameters
    ----------
    original, changed : Tensor of float, shape [n, vocabulary]
        Logits of both for the same places, see `masked_logits`.

    Returns
    -------
    float
        Mean of Σ p·log(p / q) over the places, in nats; 0 for equal predictions.
    """
    ours, theirs = original.double().log_softmax(-1), changed.double().log_softmax(-1)
    return float(torch.nn.functional.kl_div(theirs, ours, log_target=True, reduction="batchmean"))


def unigram_entropy(tokenizer: PreTrainedTokenizerFast) -> float:
    """Entropy of the held-out tokens by how often each occurs among them.

    No prediction that ignores the context has a smaller masked loss on all of them.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast

    Returns
    -------
    float
        Nats a token.
    """
    counts = encode(tokenizer, split()[1]).bincount()
    shares = counts[counts > 0].double() / counts.sum()
    return float(-(shares * shares.log()).sum())


def known_words(texts: Iterable[str]) -> float:
    """Share of the words in some code that occur in the training files.

    Code pieced together from tokens that do not belong together is full of words that nobody wrote.

    Parameters
    ----------
    texts : iterable of str

    Returns
    -------
    float
        From 0 to 1, over all runs of three or more letters and underscores; 0 if there are none.
    """
    words = [word for text in texts for word in _WORD.findall(text)]
    return sum(word in _vocabulary() for word in words) / len(words) if words else 0.0


@cache
def _vocabulary() -> frozenset[str]:
    return frozenset(word for source in split()[0] for word in _WORD.findall(source.text))
