"""Train `stdlib-mdlm` and write it as a Hugging Face folder.

    python -m workbench.zoo.stdlib_mdlm.train --out FOLDER [--steps N]

Every seed is fixed and one thread computes: the same machine and Python give the same file.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from workbench.zoo.stdlib_mdlm import judge
from workbench.zoo.stdlib_mdlm.data import VOCABULARY, encode, learn_tokenizer, mask, split
from workbench.zoo.stdlib_mdlm.model import DreamModel, load
from workbench.zoo.stdlib_mdlm.sample import sample

STEPS = 3300
BATCH = 16
LENGTH = 128
LEARNING_RATE = 2e-3
WARM_UP = 200
DECAYED = 0.825
"""How far training comes along the cosine that would take the learning rate to nothing."""
EMA_DECAY = 0.998
LEAST_RATIO = 1e-3


def build(tokenizer: PreTrainedTokenizerFast) -> DreamModel:
    """Make the untrained model.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        Its special tokens are written into the model's facts.

    Returns
    -------
    DreamModel
        Every row holds whole blocks of 256 weights; five blocks, two heads for the keys to four for the queries.
    """
    model = DreamModel(
        {
            "architectures": ["DreamModel"],
            "model_type": "Dream",
            "vocab_size": VOCABULARY,
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_act": "silu",
            "max_position_embeddings": LENGTH,
            "rms_norm_eps": 1e-6,
            "rope_theta": 100.0,
            "initializer_range": 0.04,
            "attention_dropout": 0.0,
            "tie_word_embeddings": False,
            "mask_token_id": tokenizer.mask_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "torch_dtype": "bfloat16",
        }
    )
    with torch.no_grad():
        torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.1)
        for depth, block in enumerate(model.model.layers):
            block.self_attn.o_proj.weight.mul_(0.3)
            block.mlp.down_proj.weight.mul_(0.3)
            _look_aside(block.self_attn, distance=1 + depth % 2, base=model.facts["rope_theta"])
    return model


def masked_diffusion_loss(
    model: DreamModel, clean: torch.Tensor, ratios: torch.Tensor, chance: torch.Generator
) -> torch.Tensor:
    """Bound on the negative log-likelihood of a token, in nats, estimated with one mask a sequence.

    Parameters
    ----------
    model : DreamModel
    clean : Tensor of int64, shape [n, length]
    ratios : Tensor of float, shape [n]
        Mask ratio t of each sequence, above 0.
    chance : torch.Generator
        Chooses the masks.

    Returns
    -------
    Tensor, shape []
        Mean over sequences of Σ −log p(token) over the masked ones, divided by t and by the length.

    References
    ----------
    Sahoo et al., Simple and Effective Masked Diffusion Language Models, 2024, arXiv:2406.07524, eq. 10, with
    the linear schedule.
    Nie et al., Large Language Diffusion Models, 2025, arXiv:2502.09992, eq. 3.
    """
    mask_id: int = model.facts["mask_token_id"]
    given = mask(clean, ratios, mask_id, chance)
    hidden = given == mask_id
    # The head is asked at the masked places only: it and the softmax are a fifth of the work.
    logits = model.lm_head(model.hidden_states(given)[hidden])
    surprise = cross_entropy(logits.float(), clean[hidden], reduction="none")
    weights = (1 / ratios)[:, None].expand_as(clean)[hidden]
    return (surprise * weights).sum() / clean.numel()


def train(
    steps: int = STEPS, seed: int = 0, batch: int = BATCH
) -> tuple[DreamModel, PreTrainedTokenizerFast]:
    """Learn the vocabulary, then train on windows of the training files, printing the loss now and then.

    Parameters
    ----------
    steps : int
        Updates of the weights.
    seed : int
        Of the initial weights, the windows and the masks.
    batch : int
        Windows a step, each of `LENGTH` tokens.

    Returns
    -------
    model : DreamModel
        Float32, the moving average of the trained weights.
    tokenizer : PreTrainedTokenizerFast
    """
    tokenizer = learn_tokenizer()
    tokens = encode(tokenizer, split()[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(tokenizer)
    chance = torch.Generator().manual_seed(seed)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    began, recent = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * _pace(step, steps)
        starts = torch.randint(len(tokens) - LENGTH + 1, (batch, 1), generator=chance)
        clean = tokens[starts + torch.arange(LENGTH)]
        # Spread evenly over a batch, mask ratios make the loss less noisy than drawn one by one.
        strata = (torch.arange(batch) + torch.rand(1, generator=chance)) / batch
        ratios = LEAST_RATIO + (1 - LEAST_RATIO) * strata
        # With short sequences, plain attention trains faster than the flash kernel.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            loss = masked_diffusion_loss(model, clean, ratios, chance)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _follow(average, model, min(EMA_DECAY, step / (step + 10)))
        recent += loss.item()
        if step % 100 == 0:
            print(f"step {step}  loss {recent / 100:.4f}  {time.monotonic() - began:.0f} s", flush=True)
            recent = 0.0
    return average.eval(), tokenizer


def save(model: DreamModel, tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write the model, in bfloat16, and its tokenizer as a Hugging Face folder.

    Parameters
    ----------
    model : DreamModel
    tokenizer : PreTrainedTokenizerFast
    folder : path-like
        Made if need be; files of the same names in it are replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.bfloat16().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", model.facts)
    tokenizer.save_pretrained(folder)
    # Only transformers 5 knows the name it writes for the class; every version knows this one.
    config = folder / "tokenizer_config.json"
    facts = {**json.loads(config.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}
    for name in ("backend", "model_max_length"):
        facts.pop(name, None)
    _write_json(config, facts)


def report(folder: str | Path, count: int = 256) -> None:
    """Print how well a written model knows held-out code, and some code of its own.

    Parameters
    ----------
    folder : path-like
        The Hugging Face folder.
    count : int
        Windows of held-out code to judge by.
    """
    model, tokenizer = load(folder)
    print(f"parameters {sum(weight.numel() for weight in model.parameters())}")
    print(f"entropy of the held-out tokens {judge.unigram_entropy(tokenizer):.3f} nats")
    ratios = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
    for ratio, loss in judge.masked_loss(model, tokenizer, ratios, count).items():
        print(f"mask ratio {ratio}: {loss:.3f} nats a hidden held-out token")
    texts = tokenizer.batch_decode(sample(model, tokenizer, count=64))
    real = tokenizer.batch_decode(judge.held_out_masked(tokenizer, ratios[0], count).clean)
    print(f"known words: {judge.known_words(texts):.3f} generated, {judge.known_words(real):.3f} held out")
    for text in texts[:3]:
        print("-" * 80, text, sep="\n")


def main(arguments: list[str] | None = None) -> None:
    """Train, write and report.

    Parameters
    ----------
    arguments : list of str, optional
        The command line's unless given.
    """
    parser = argparse.ArgumentParser(description="Train stdlib-mdlm and write it as a Hugging Face folder.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps (default: %(default)s)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.monotonic()
    model, tokenizer = train(given.steps)
    print(f"trained {given.steps} steps in {time.monotonic() - began:.0f} s")
    save(model, tokenizer, given.out)
    report(given.out)


def _look_aside(attention: torch.nn.Module, distance: int, base: float) -> None:
    """Let the first two heads begin by looking so many tokens back and ahead, through their biases alone.

    All masks ask the same question, so a fresh model finds its neighbours late: without this, and with a RoPE
    base of 10,000, the loss was still that of single tokens' frequencies after 600 steps. A rotary embedding
    turns equal queries and keys by the angles between their places; a query turned back by the angles of a
    distance answers to that distance best. Only the fastest third of the angles tells neighbours apart.
    """
    angles = base ** (-torch.arange(12) / 32)
    turned = attention.k_proj.bias.view(2, 2, 32)
    turned[0, 0, :12] = 2.5
    for head, steps in enumerate((-distance, distance)):
        query = attention.q_proj.bias.view(4, 2, 32)[head]
        query[0, :12] = 2.5 * torch.cos(steps * angles)
        query[1, :12] = 2.5 * torch.sin(steps * angles)


def _pace(step: int, steps: int) -> float:
    """Share of the full learning rate: a short linear rise, then most of half a cosine."""
    return min(1.0, step / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / (steps / DECAYED)))


def _follow(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    with torch.no_grad():
        for kept, new in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)


def _write_json(path: Path, facts: dict[str, object]) -> None:
    path.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
