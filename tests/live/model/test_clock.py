"""Guards the mask ratio as time: each sequence of a batch belongs to its own, whatever the padding of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.checkpoint import open_checkpoint
from workbench.live import capture, mask_ratio, match_modules

MASK = 9


class Language(nn.Module):
    """Logits of tokens, some of which are masked."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(10, 6)
        self.up_proj, self.down_proj = nn.Linear(6, 12), nn.Linear(12, 6)
        self.lm_head = nn.Linear(6, 10, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embed_tokens(input_ids)
        return self.lm_head(x + self.down_proj(nn.functional.silu(self.up_proj(x))))


@pytest.fixture
def language() -> Language:
    torch.manual_seed(0)
    return Language()


@pytest.fixture
def checkpoint(language: Language, tmp_path: Path) -> Any:
    save_file(language.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "Dream", "mask_token_id": MASK}))
    with open_checkpoint(tmp_path) as opened:
        yield opened


def ids(masked: list[int], length: int = 8) -> Tensor:
    chance = torch.Generator().manual_seed(sum(masked))
    found = torch.randint(0, MASK, (len(masked), length), generator=chance)
    for row, count in zip(found, masked, strict=True):
        row[torch.randperm(length, generator=chance)[:count]] = MASK
    return found


def ratio_of(found: Tensor) -> Tensor:
    """The middle of the 64th in which the share of masked tokens lies."""
    share = (found == MASK).double().mean(1).numpy()
    return torch.from_numpy((np.minimum(np.floor(share * 64), 63) + 0.5) / 64)


@pytest.mark.parametrize("named", [False, True])
def test_the_mask_ratio_is_the_time_of_a_masked_language_model(
    language: Language, checkpoint: Any, keep: Any, named: bool
) -> None:
    keeper = keep(match_modules(language, checkpoint))

    def times(args: Any, kwargs: Any) -> Tensor:
        return ratio_of(args[0] if args else kwargs["input_ids"])

    with torch.no_grad(), keeper.keeping(language, times), capture(language, checkpoint) as rec:
        for masked in ([8, 8, 8], [8, 4, 0], [4, 4, 1], [0, 0, 0]):
            found = ids(masked)
            language(input_ids=found) if named else language(found)
    records = rec.records
    assert records.time == "mask ratio"
    assert records.steps[:, 0].tolist() == [0.5 / 64, 8.5 / 64, 32.5 / 64, 63.5 / 64]
    assert records.step_calls.tolist() == pytest.approx([4 / 3, 1 / 3, 1, 4 / 3])
    assert records.layers["embed_tokens.weight"].mean[-1].tolist() == [0.0] * MASK + [1.0]
    keeper.check(records)


def test_ratios_have_at_most_64_values(language: Language) -> None:
    clock = mask_ratio(MASK)
    seen = {clock.times(language, (ids([count], 1000),), {})[0] for count in range(0, 1001, 4)}
    assert len(seen) == 64
    assert min(seen) > 0
    assert max(seen) < 1
    assert all(
        abs(clock.times(language, (ids([count], 1000),), {})[0] - count / 1000) <= 0.5 / 64 + 1e-12
        for count in range(0, 1001, 8)
    )


def test_the_default_can_be_overruled(language: Language, checkpoint: Any) -> None:
    read: Callable[..., Any] = lambda module, args, kwargs: len(args[0])  # noqa: E731
    with torch.no_grad(), capture(language, checkpoint, time=read) as rec:
        language(ids([1, 2, 3]))
    assert rec.records.steps.tolist() == [[3, 3]]
