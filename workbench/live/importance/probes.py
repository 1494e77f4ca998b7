"""Probes: random scalars of a model's output whose squared gradients say how much the output feels a change."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Probe = Callable[[Tensor, torch.Generator], Tensor]
"""Takes an output and a source of chance; gives a scalar s such that E[(∂s/∂θ)²] is the error power of the output, in
the probe's own measure, for a small change of θ with unit variance."""


def gaussian(output: Tensor, chance: torch.Generator) -> Tensor:
    """vᵀy / ‖y‖ with v ~ N(0, I): measures the relative error power ‖Δy‖² / ‖y‖² of images, latents, sounds.

    References
    ----------
    M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1989: E[(vᵀJδ)²] = ‖Jδ‖².
    """
    values = output.float()
    noise = torch.randn(values.shape, generator=chance, dtype=torch.float32).to(values.device)
    return (noise * values).sum() / values.detach().norm()


def categorical(logits: Tensor, chance: torch.Generator) -> Tensor:
    """Σ log p(k) / √n with a token k drawn from p at each of n places: measures 2·KL(p ‖ p̂) per token, in nats.

    Parameters
    ----------
    logits : torch.Tensor
        [..., vocabulary]; every place counts, so give those of the masked places.

    References
    ----------
    J. Martens, "New insights and perspectives on the natural gradient method", JMLR 21, 2020: the Fisher matrix
    E[∇log p ∇log pᵀ], k drawn from the model itself, is the second derivative of the KL divergence.
    """
    flat = logits.float().reshape(-1, logits.shape[-1])
    shares = flat.detach().softmax(dim=1).cpu()
    drawn = torch.multinomial(shares, 1, generator=chance).to(flat.device)
    return flat.log_softmax(dim=1).gather(1, drawn).sum() / len(flat) ** 0.5
