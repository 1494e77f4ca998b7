"""The shipped language model is what its card says, knows library code it has not seen, and can be trained again.

Nothing here depends on which Python's library it is judged by: bounds leave room for another version's text.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from workbench import zoo
from workbench.checkpoint import open_checkpoint
from workbench.zoo.stdlib_mdlm import judge
from workbench.zoo.stdlib_mdlm.data import END, MASK, encode, split
from workbench.zoo.stdlib_mdlm.model import load
from workbench.zoo.stdlib_mdlm.sample import sample
from workbench.zoo.stdlib_mdlm.train import save, train

FOLDER = zoo.locate("zoo:stdlib-mdlm")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # Two threads that wait for each other take twenty times as long when another process has one of the cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, Any]:
    return load(FOLDER)


@pytest.fixture(scope="module")
def barely_trained() -> tuple[Any, Any]:
    return train(steps=2, batch=2)


def test_the_model_loads_in_bfloat16_and_is_small(shipped: tuple[Any, Any]):
    model, _ = shipped
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert 4_500_000 <= sum(weight.numel() for weight in model.parameters()) <= 5_000_000
    model_files = [file for file in FOLDER.iterdir() if file.name != "calibration.parquet"]
    assert sum(file.stat().st_size for file in model_files) <= 10_000_000


def test_the_workbench_sees_the_layers_and_roles_of_a_dream_checkpoint(shipped: tuple[Any, Any]):
    with open_checkpoint("zoo:stdlib-mdlm") as checkpoint:
        assert checkpoint.architecture == "DreamModel"
        assert checkpoint.modality.value == "text"
        assert "config.json has architectures = " in checkpoint.modality.evidence
        layers = checkpoint.layers
    assert Counter(layer.role for layer in layers) == {
        "embedding": 1,
        "attention.q": 5,
        "attention.k": 5,
        "attention.v": 5,
        "attention.out": 5,
        "mlp.in": 10,
        "mlp.out": 5,
        "head": 1,
    }
    by_name = {layer.name: layer for layer in layers}
    assert by_name["model.embed_tokens.weight"].kind == "embedding"
    assert by_name["lm_head.weight"].depth is None
    assert by_name["model.layers.4.mlp.down_proj.weight"].depth == 4
    assert {layer.dtype for layer in layers} == {"BF16"}
    assert {layer.cols % 256 for layer in layers} == {0}  # rows are whole blocks of K-quants


def test_a_tensors_name_is_the_path_of_its_module(shipped: tuple[Any, Any]):
    modules = dict(shipped[0].named_modules())
    with open_checkpoint(FOLDER) as checkpoint:
        assert set(checkpoint.tensors) == set(shipped[0].state_dict())
        for layer in checkpoint.layers:
            assert tuple(modules[layer.name.removesuffix(".weight")].weight.shape) == layer.shape


def test_the_head_is_not_the_embedding(shipped: tuple[Any, Any]):
    model, _ = shipped
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_the_configuration_speaks_dreams_language_and_holds_no_local_path(shipped: tuple[Any, Any]):
    facts = json.loads((FOLDER / "config.json").read_text())
    assert facts["model_type"] == "Dream"
    assert facts["vocab_size"] == len(shipped[1])
    assert facts["mask_token_id"] == shipped[1].convert_tokens_to_ids(MASK)
    for config in ("config.json", "tokenizer_config.json"):
        facts = json.loads((FOLDER / config).read_text())
        assert not [value for value in facts.values() if isinstance(value, str) and "/" in value]


def test_the_blocks_see_both_ways(shipped: tuple[Any, Any]):
    model, tokenizer = shipped
    tokens = torch.tensor([tokenizer("for name in names:\n    print(name)\n")["input_ids"]])
    later, earlier = tokens.clone(), tokens.clone()
    later[0, -2] = earlier[0, 1] = tokenizer.mask_token_id
    with torch.no_grad():
        plain = model(tokens)
        assert not torch.equal(plain[0, 0], model(later)[0, 0])
        assert not torch.equal(plain[0, -1], model(earlier)[0, -1])


@pytest.mark.parametrize("side", ["before", "after"])
def test_what_stands_on_either_side_helps_to_tell_what_is_hidden(shipped: tuple[Any, Any], side):
    model, tokenizer = shipped
    clean = judge.held_out_masked(tokenizer, 0.5, count=64).clean
    given = clean.clone()
    given[:, 64] = tokenizer.mask_token_id
    poorer = given.clone()
    poorer[:, slice(64) if side == "before" else slice(65, None)] = tokenizer.mask_token_id
    with torch.no_grad():
        whole, half = (
            float(torch.nn.functional.cross_entropy(model(tokens)[:, 64].float(), clean[:, 64]))
            for tokens in (given, poorer)
        )
    assert half > whole + 0.5


def test_the_tokenizer_keeps_every_byte(shipped: tuple[Any, Any]):
    _, tokenizer = shipped
    text = "def f(x):\n\treturn  'ü\x00 ☃'  # 1234\r\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    _, held_out = split()
    texts = (source.text + END for source in held_out)
    assert tokenizer.decode(encode(tokenizer, held_out)) == "".join(texts)


def test_transformers_finds_the_tokenizer_by_itself(shipped: tuple[Any, Any]):
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert tokenizer.get_vocab() == shipped[1].get_vocab()
    assert (tokenizer.mask_token, tokenizer.eos_token, tokenizer.pad_token) == (MASK, END, END)


def test_training_and_held_out_files_do_not_overlap_and_are_library_code():
    seen, held_out = ({source.name for source in side} for side in split())
    assert not seen & held_out
    assert {"argparse.py", "json/decoder.py"} <= seen
    assert {"secrets.py", "traceback.py"} <= held_out
    assert 0.02 < len(held_out) / len(seen | held_out) < 0.1
    parts = {part for name in seen | held_out for part in Path(name).parts}
    assert not parts & {"test", "tests", "site-packages"}
    assert not [name for name in seen | held_out if name.startswith("_sysconfigdata")]


def test_hidden_tokens_of_unseen_files_are_predicted_better_than_without_context(
    shipped: tuple[Any, Any], barely_trained: tuple[Any, Any]
):
    losses = judge.masked_loss(*shipped, ratios=(0.15, 0.5, 0.85))
    bound = judge.unigram_entropy(shipped[1])
    assert losses[0.15] < 3.5
    assert losses[0.5] < 4.5
    assert losses[0.85] < bound
    assert all(losses[less] < losses[more] for less, more in pairwise(losses))
    assert min(judge.masked_loss(*barely_trained, ratios=(0.15,), count=4).values()) > bound


def test_masks_hide_the_share_asked_for_and_grow_with_it(shipped: tuple[Any, Any]):
    _, tokenizer = shipped
    few, many = (judge.held_out_masked(tokenizer, ratio, count=3) for ratio in (0.25, 0.75))
    assert few.hidden.sum(1).tolist() == [32] * 3
    assert many.hidden.sum(1).tolist() == [96] * 3
    assert torch.equal(few.clean, many.clean)
    assert not (few.hidden & ~many.hidden).any()
    assert set(few.given[few.hidden].tolist()) == {tokenizer.mask_token_id}
    other = judge.held_out_masked(tokenizer, 0.25, count=3, seed=1)
    assert not torch.equal(few.given, other.given)


def test_divergence_is_nothing_for_the_same_model_and_grows_with_the_harm(shipped: tuple[Any, Any]):
    model, tokenizer = shipped
    masked = judge.held_out_masked(tokenizer, 0.5, count=4)
    original = judge.masked_logits(model, masked)
    assert original.shape == (4 * 64, len(tokenizer))
    assert original.dtype == torch.float32
    harmed, _ = load(FOLDER)
    found = [judge.divergence(original, judge.masked_logits(harmed, masked))]
    for _ in range(2):
        harmed.lm_head.weight.data.mul_(0.7)
        found.append(judge.divergence(original, judge.masked_logits(harmed, masked)))
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[0] < 1e-3 < found[1] < found[2]


def test_generated_code_is_made_of_words_that_exist(
    shipped: tuple[Any, Any], barely_trained: tuple[Any, Any]
):
    _, tokenizer = shipped
    real = tokenizer.batch_decode(judge.held_out_masked(tokenizer, 0.5).clean)
    ours, theirs = (
        tokenizer.batch_decode(sample(model, tokenizer, count=4, length=96, steps=24))
        for model in (shipped[0], barely_trained[0])
    )
    assert judge.known_words(ours) > 0.7
    assert judge.known_words(real) > 0.7
    assert judge.known_words(theirs) < 0.5


def test_a_seed_settles_the_text(shipped: tuple[Any, Any]):
    first = sample(*shipped, count=2, length=32, steps=8, seed=3)
    np.testing.assert_array_equal(first, sample(*shipped, count=2, length=32, steps=8, seed=3))
    assert not np.array_equal(first, sample(*shipped, count=2, length=32, steps=8, seed=4))
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("steps", [1, 7, 32, 50])
def test_every_step_is_one_call_that_sees_fewer_masks(shipped: tuple[Any, Any], steps):
    model, tokenizer = shipped
    seen = []
    watch = model.register_forward_pre_hook(
        lambda _, given: seen.append((given[0] == tokenizer.mask_token_id).sum(1).tolist())
    )
    try:
        tokens = sample(model, tokenizer, count=2, length=32, steps=steps)
    finally:
        watch.remove()
    assert tokens.shape == (2, 32)
    assert tokens.dtype == np.int64
    assert tokenizer.mask_token_id not in tokens
    assert seen == [[32 * (steps - step) // steps] * 2 for step in range(steps)]


def test_a_text_begins_with_its_prompt(shipped: tuple[Any, Any]):
    _, tokenizer = shipped
    prompt = "def __init__(self, "
    for text in tokenizer.batch_decode(sample(*shipped, count=2, length=32, steps=8, prompt=prompt)):
        assert text.startswith(prompt)


def test_without_temperature_and_wandering_no_seed_matters(shipped: tuple[Any, Any]):
    one, other = (
        sample(*shipped, length=24, steps=6, seed=seed, temperature=0, wander=0, prompt="import ")
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(one, other)


def test_a_few_training_steps_write_a_folder_that_loads(
    tmp_path, shipped: tuple[Any, Any], barely_trained: tuple[Any, Any]
):
    save(*barely_trained, tmp_path)
    again, tokenizer = load(tmp_path)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in shipped[0].state_dict().items()
    }
    assert again.facts == shipped[0].facts
    assert tokenizer.get_vocab() == barely_trained[1].get_vocab()
    assert sample(again, tokenizer, length=16, steps=2).shape == (1, 16)


def test_training_again_gives_the_same_weights(barely_trained: tuple[Any, Any]):
    first, second = (dict(model.named_parameters()) for model, _ in (barely_trained, train(steps=2, batch=2)))
    assert all(torch.equal(first[name], second[name]) for name in first)
