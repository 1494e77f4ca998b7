"""The network of `stdlib-mdlm`: Qwen2's blocks that see both ways, named as in a Dream checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

# Facts of config.json that shape the network; the others say what a reader of the folder must know.
_SHAPES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "initializer_range",
    "attention_dropout",
)


class DreamModel(torch.nn.Module):  # type: ignore[misc]
    """Predicts the token at every masked place from those on both sides of it.

    A module's path is the name of its tensor in the checkpoint without ``.weight``:
    ``model.layers.0.self_attn.q_proj``, ``lm_head``.

    Parameters
    ----------
    facts : dict
        What config.json says.

    References
    ----------
    Ye et al., Dream 7B: Diffusion Large Language Models, 2025, arXiv:2508.15487. Unlike Dream, which grew out
    of a left-to-right model, this one predicts a token at its own place, not at the place before it.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__()
        config = Qwen2Config(
            **{name: facts[name] for name in _SHAPES}, use_cache=False, tie_word_embeddings=False
        )
        config._attn_implementation = "sdpa"
        self.facts = facts
        self.model = Qwen2Model(config)
        self.lm_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        torch.nn.init.normal_(self.lm_head.weight, std=config.initializer_range)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype in memory."""
        dtype: torch.dtype = self.lm_head.weight.dtype
        return dtype

    def hidden_states(self, input_ids: torch.Tensor) -> torch.Tensor:
        """What the blocks make of the tokens: the input of the head.

        Parameters
        ----------
        input_ids : Tensor of int64, shape [n, length]

        Returns
        -------
        Tensor, shape [n, length, hidden_size]
        """
        length = input_ids.shape[1]
        # Without a mask Qwen2 makes a causal one; this one forbids nothing.
        everything = torch.zeros(1, 1, length, length, dtype=self.dtype)
        states: torch.Tensor = self.model(input_ids=input_ids, attention_mask=everything).last_hidden_state
        return states

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Predict the token at every place.

        Parameters
        ----------
        input_ids : Tensor of int64, shape [n, length]
            Tokens, ``mask_token_id`` where one is to be found.

        Returns
        -------
        Tensor, shape [n, length, vocab_size]
            Logits. Those of the mask itself mean nothing.
        """
        logits: torch.Tensor = self.lm_head(self.hidden_states(input_ids))
        return logits


def load(
    folder: str | Path, dtype: torch.dtype = torch.bfloat16
) -> tuple[DreamModel, PreTrainedTokenizerFast]:
    """Read the model and its tokenizer from a Hugging Face folder.

    Parameters
    ----------
    folder : path-like
        Holds ``config.json``, ``model.safetensors`` and the tokenizer's files.
    dtype : torch.dtype
        The weights' dtype in memory; the file is in bfloat16.

    Returns
    -------
    model : DreamModel
        In evaluation mode.
    tokenizer : PreTrainedTokenizerFast
    """
    folder = Path(folder)
    model = DreamModel(json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(dtype).eval(), PreTrainedTokenizerFast.from_pretrained(folder)
