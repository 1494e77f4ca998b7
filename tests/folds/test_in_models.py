"""Every fold keeps the float32 function of the whole model: all sites at once, by factors far from 1.

The models are those of diffusers and transformers with random weights, but for LLaDA, whose code comes with its
checkpoints; its network stands here. Each is saved, folded on the files, and loaded again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench import zoo
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.folds.fold import TOLERANCE, Fold
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.sites import find_sites, foldable_classes
from workbench.zoo.digits_dit.sample import load as load_digits
from workbench.zoo.stdlib_mdlm.model import load as load_language_model

Run = Callable[[nn.Module], Tensor]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    # Two threads that wait for each other take twenty times as long when another process has one of the cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dit(**changes: Any) -> tuple[nn.Module, Run, int]:
    facts = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 3,
        "num_layers": 2,
        "sample_size": 8,
    }
    model = diffusers.DiTTransformer2DModel(**facts, num_embeds_ada_norm=5, **changes)
    labels = torch.tensor([0, 3])
    gated = changes.get("activation_fn") == "geglu"
    return (
        model,
        lambda model: model(noise(2, 3, 8, 8), timestep=torch.tensor([900, 20]), class_labels=labels).sample,
        2 * (4 if gated else 3) + 1,
    )


def stable_diffusion_3(dual: tuple[int, ...] = (), qk_norm: str | None = None) -> tuple[nn.Module, Run, int]:
    model = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=24, caption_projection_dim=32, pooled_projection_dim=20, out_channels=4,
        pos_embed_max_size=8, dual_attention_layers=dual, qk_norm=qk_norm,
    )  # fmt: skip
    given = {
        "hidden_states": noise(2, 4, 8, 8), "encoder_hidden_states": noise(2, 7, 24, seed=1),
        "pooled_projections": noise(2, 20, seed=2), "timestep": torch.tensor([900.0, 20.0]),
    }  # fmt: skip
    return model, lambda model: model(**given).sample, 5 + 5 + 4 + 2 * len(dual) + 1


def flux() -> tuple[nn.Module, Run, int]:
    model = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=20, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    given = {
        "hidden_states": noise(2, 16, 4), "encoder_hidden_states": noise(2, 5, 24, seed=1),
        "pooled_projections": noise(2, 20, seed=2), "timestep": torch.tensor([0.9, 0.1]),
        "img_ids": torch.stack(torch.meshgrid(*3 * [torch.arange(4.0)], indexing="ij"), -1)[0].reshape(16, 3),
        "txt_ids": torch.zeros(5, 3),
    }  # fmt: skip
    return model, lambda model: model(**given).sample, 2 * 5 + 2 + 1


def pixart() -> tuple[nn.Module, Run, int]:
    model = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=20,
        in_channels=4, cross_attention_dim=24, out_channels=8, use_additional_conditions=False,
    )  # fmt: skip
    given = {
        "hidden_states": noise(2, 4, 8, 8), "encoder_hidden_states": noise(2, 7, 20, seed=1),
        "timestep": torch.tensor([900, 20]), "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }  # fmt: skip
    return model, lambda model: model(**given).sample, 2 * 2


def wan() -> tuple[nn.Module, Run, int]:
    model = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=32, ffn_dim=32, num_layers=2, cross_attn_norm=True, rope_max_seq_len=32,
    )  # fmt: skip
    given = {
        "hidden_states": noise(2, 4, 2, 8, 8), "encoder_hidden_states": noise(2, 7, 16, seed=1),
        "timestep": torch.tensor([900, 20]),
    }  # fmt: skip
    return model, lambda model: model(**given).sample, 2 * 3


def language(
    kind: str, groups: int = 2, head: str = "ForCausalLM", tied: bool = False
) -> tuple[nn.Module, Run, int]:
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=groups, tie_word_embeddings=tied, use_cache=False, head_dim=8,
    )  # fmt: skip
    tokens = torch.arange(14).reshape(2, 7) % 50
    model = getattr(transformers, f"{kind}{head}")(config)
    with torch.no_grad():  # biases are made as zeros
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(generator=torch.Generator().manual_seed(3))
    has_head = head == "ForCausalLM" and not tied
    return model, lambda model: model(tokens)[0], 2 * 4 + has_head


class Llada(nn.Module):
    """LLaDA's network with its names: blocks that see both ways, with grouped-query attention."""

    FACTS: ClassVar[dict[str, Any]] = {
        "architectures": ["LLaDAModelLM"], "n_heads": 4, "n_kv_heads": 2, "d_model": 32, "n_layers": 2,
        "layer_norm_type": "rms", "block_type": "llama", "weight_tying": False, "clip_qkv": None,
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        wide, hidden = 32, 48
        block = {
            "attn_norm": nn.RMSNorm(wide), "ff_norm": nn.RMSNorm(wide), "q_proj": nn.Linear(wide, wide, bias=False),
            "k_proj": nn.Linear(wide, 16, bias=False), "v_proj": nn.Linear(wide, 16, bias=False),
            "attn_out": nn.Linear(wide, wide, bias=False), "ff_proj": nn.Linear(wide, hidden, bias=False),
            "up_proj": nn.Linear(wide, hidden, bias=False), "ff_out": nn.Linear(hidden, wide, bias=False),
        }  # fmt: skip
        make = lambda part: type(part)(*_arguments(part))  # noqa: E731
        blocks = nn.ModuleList(
            nn.ModuleDict({key: make(part) for key, part in block.items()}) for _ in range(2)
        )
        self.model = nn.ModuleDict(
            {
                "transformer": nn.ModuleDict(
                    {
                        "wte": nn.Embedding(50, wide), "blocks": blocks, "ln_f": nn.RMSNorm(wide),
                        "ff_out": nn.Linear(wide, 50, bias=False),
                    }
                )
            }
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        parts: Any = self.model["transformer"]
        x = parts["wte"](tokens)
        for block in parts["blocks"]:
            seen = block["attn_norm"](x)
            q, k, v = (
                block[name](seen).unflatten(-1, (-1, 8)).transpose(1, 2)
                for name in ("q_proj", "k_proj", "v_proj")
            )
            k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = x + block["attn_out"](mixed)
            seen = block["ff_norm"](x)
            x = x + block["ff_out"](nn.functional.silu(block["ff_proj"](seen)) * block["up_proj"](seen))
        logits: Tensor = parts["ff_out"](parts["ln_f"](x))
        return logits


def _arguments(part: Any) -> tuple[Any, ...]:
    return (
        (part.in_features, part.out_features, False) if isinstance(part, nn.Linear) else part.normalized_shape
    )


def llada() -> tuple[nn.Module, Run, int]:
    tokens = torch.arange(14).reshape(2, 7)
    return Llada(), lambda model: model(tokens), 2 * 4 + 1


MODELS: dict[str, Callable[[], tuple[nn.Module, Run, int]]] = {
    "DiT": dit,
    "DiT with gains and gates": lambda: dit(norm_elementwise_affine=True, activation_fn="geglu"),
    "Stable Diffusion 3": stable_diffusion_3,
    "Stable Diffusion 3.5": lambda: stable_diffusion_3((0, 1), "rms_norm"),
    "Flux": flux,
    "PixArt": pixart,
    "Wan": wan,
    "Qwen2 with groups": lambda: language("Qwen2"),
    "Qwen2 with a head each": lambda: language("Qwen2", groups=4),
    "Qwen2 with one group": lambda: language("Qwen2", groups=1),
    "Qwen2 with a tied head": lambda: language("Qwen2", tied=True),
    "Qwen2 alone": lambda: language("Qwen2", head="Model"),
    "Qwen3": lambda: language("Qwen3"),
    "Qwen3 alone": lambda: language("Qwen3", head="Model"),
    "Llama": lambda: language("Llama"),
    "Llama alone": lambda: language("Llama", head="Model"),
    "Mistral": lambda: language("Mistral"),
    "Mistral alone": lambda: language("Mistral", head="Model"),
    "LLaDA": llada,
}


def saved(model: nn.Module, folder: Path) -> Path:
    if isinstance(model, Llada):
        folder.mkdir()
        save_file(model.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(model.FACTS))
    else:
        model.save_pretrained(folder)
    return folder


def everywhere(checkpoint: Checkpoint, spread: float = 1.0, seed: int = 0) -> FoldedCheckpoint:
    """Folds at all sites, by factors that scatter over two orders of magnitude."""
    rng = np.random.default_rng(seed)
    return FoldedCheckpoint(
        checkpoint,
        [
            Fold(site, 0.5, np.exp(spread * rng.standard_normal(site.channels)).astype(np.float32))
            for site in find_sites(checkpoint).sites
        ],
    )


def put(model: nn.Module, folded: FoldedCheckpoint) -> None:
    changed = {name: torch.from_numpy(np.array(folded.view(name))) for name in folded.changes}
    missing = model.load_state_dict(changed, strict=False)
    assert not missing.unexpected_keys


def relative(output: Tensor, true: Tensor) -> float:
    return float((output - true).norm() / true.norm())


@pytest.mark.parametrize("name", MODELS)
def test_the_function_stays(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, run, sites = MODELS[name]()
    model.eval()
    with torch.no_grad(), open_checkpoint(saved(model, tmp_path / "model")) as checkpoint:
        folded = everywhere(checkpoint)
        assert len(folded.folds) == sites
        before = run(model)
        put(model, folded)
        assert relative(run(model), before) < TOLERANCE
        # The test would see a fold that is not exact: one consumer without its factors.
        spoilt = folded.folds[0].site.consumers[0]
        model.load_state_dict({spoilt: torch.from_numpy(np.array(checkpoint.view(spoilt)))}, strict=False)
        assert relative(run(model), before) > 100 * TOLERANCE


def test_no_architecture_is_known_that_is_not_tried() -> None:
    tried = {type(make()[0]).__name__ for make in MODELS.values()} - {"Llada"}
    assert tried | {"LLaDAModelLM", "DreamModel"} == set(foldable_classes()), (
        "LLaDA is above, Dream's network in the zoo"
    )


def test_the_function_of_the_zoo_stays() -> None:
    chance = torch.Generator().manual_seed(0)
    digits, _ = load_digits(zoo.locate("digits-dit"), torch.float32)
    images, times = torch.randn(8, 1, 8, 8, generator=chance), torch.linspace(0, 999, 8).long()
    language, tokenizer = load_language_model(zoo.locate("stdlib-mdlm"), torch.float32)
    tokens = torch.randint(0, len(tokenizer), (4, 64), generator=chance)
    runs: dict[str, tuple[nn.Module, Run, int]] = {
        "zoo:digits-dit": (digits, lambda m: m(images, times, torch.arange(8)).sample, 10),
        "zoo:stdlib-mdlm": (language, lambda m: m(tokens), 21),
    }
    for name, (model, run, sites) in runs.items():
        with torch.no_grad(), open_checkpoint(name) as checkpoint:
            before = run(model)
            folded = everywhere(checkpoint)
            assert len(folded.folds) == sites
            put(model, folded)
            assert relative(run(model), before) < TOLERANCE
