"""Write code: the sampling loop of `stdlib-mdlm`, which fills in masked tokens a few at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast


def sample(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    count: int = 1,
    length: int = 128,
    steps: int = 64,
    seed: int = 0,
    temperature: float = 0.7,
    wander: float = 3.0,
    prompt: str = "",
) -> NDArray[np.int64]:
    """Write texts, from nothing but masks to nothing but tokens.

    Every step draws a token for each masked place and keeps the surest of them, so many that the mask ratio
    falls in equal steps; the rest stay masked.

    Parameters
    ----------
    model : torch.nn.Module
        Takes tokens, shape [n, length], and gives their logits.
    tokenizer : PreTrainedTokenizerFast
        Its ``decode`` makes text of what is returned.
    count : int
        Texts to write.
    length : int
        Tokens of each, those of the prompt included.
    steps : int
        Denoising steps; each is one call of the model on `count` sequences.
    seed : int
        Of all draws. The same seed, model and machine give the same tokens.
    temperature : float
        Divides the logits: below 1 the likelier tokens are drawn more often, at 0 always the likeliest.
    wander : float
        How much chance has a say in which places count as the surest: at 0 none, and texts tend to repeat
        themselves.
    prompt : str
        What every text begins with.

    Returns
    -------
    ndarray of int64, shape [count, length]

    References
    ----------
    Chang et al., MaskGIT: Masked Generative Image Transformer, 2022, arXiv:2202.04200, section 3.2: confidence
    and its Gumbel noise, which fades as the masks do.
    Nie et al., Large Language Diffusion Models, 2025, arXiv:2502.09992: low-confidence remasking.
    """
    begin = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    mask_id = tokenizer.mask_token_id
    chance = torch.Generator().manual_seed(seed)
    tokens = torch.full((count, length), mask_id)
    tokens[:, : len(begin)] = torch.tensor(begin[:length], dtype=torch.int64)
    masked = max(0, length - len(begin))
    with torch.no_grad():
        for step in range(steps):
            logits = model(tokens).float()
            logits[..., mask_id] = -torch.inf
            drawn = (logits + temperature * _gumbel(logits.shape, chance)).argmax(-1)
            sureness = logits.log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
            ratio = 1 - step / steps
            sureness += wander * ratio * _gumbel(sureness.shape, chance)
            sureness[tokens != mask_id] = -torch.inf
            left = masked * (steps - step - 1) // steps
            kept = sureness.topk(int((tokens[0] == mask_id).sum()) - left).indices
            tokens.scatter_(1, kept, drawn.gather(1, kept))
    written: NDArray[np.int64] = tokens.numpy()
    return written


def _gumbel(shape: torch.Size, chance: torch.Generator) -> torch.Tensor:
    # The largest of logits plus this noise is a draw from their softmax.
    return -torch.log(-torch.log(torch.rand(shape, generator=chance).clamp(1e-20, 1 - 1e-7)))
