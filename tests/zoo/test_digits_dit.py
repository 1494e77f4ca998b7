"""The shipped digits model is what its card says, draws digits that can be read, and can be trained again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench import zoo
from workbench.errors import ModelNotFoundError
from workbench.zoo.digits_dit import judge
from workbench.zoo.digits_dit.data import split
from workbench.zoo.digits_dit.sample import NULL_CLASS, load, sample
from workbench.zoo.digits_dit.train import save, train

FOLDER = zoo.locate("zoo:digits-dit")
WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"


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


def test_models_are_found_with_and_without_the_prefix():
    assert "digits-dit" in zoo.names()
    assert zoo.locate("digits-dit") == FOLDER
    assert (FOLDER / "model_index.json").is_file()


@pytest.mark.parametrize("name", ["digits", "zoo:nothing", "", ".", "../models/digits-dit"])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(ModelNotFoundError, match="digits-dit"):
        zoo.locate(name)


def test_finding_a_model_needs_no_torch():
    program = "import sys, workbench.zoo as z; z.locate('digits-dit'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_model_loads_in_bfloat16_and_is_small(shipped: tuple[Any, Any]):
    model, scheduler = shipped
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert 4_000_000 <= model.num_parameters() <= 5_000_000
    assert (FOLDER / WEIGHTS).stat().st_size <= 10_000_000
    assert scheduler.config.prediction_type == "v_prediction"


def test_rows_of_the_blocks_are_whole_blocks_of_256(shipped: tuple[Any, Any]):
    model, _ = shipped
    blocks = model.transformer_blocks.named_parameters()
    assert {p.shape[-1] % 256 for _, p in blocks if p.ndim == 2} == {0}


def test_the_index_names_the_classes_that_load(shipped: tuple[Any, Any]):
    index = json.loads((FOLDER / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers", type(shipped[0]).__name__]
    assert index["scheduler"] == ["diffusers", type(shipped[1]).__name__]


def test_no_configuration_holds_a_local_path():
    for config in FOLDER.rglob("*.json"):
        facts = json.loads(config.read_text())
        assert "_name_or_path" not in facts
        assert not [value for value in facts.values() if isinstance(value, str) and "/" in value]


def test_the_judge_reads_real_digits_it_has_not_seen():
    assert judge.held_out_accuracy() >= 0.98


def test_the_training_and_held_out_digits_do_not_overlap():
    seen, held_out = split()
    assert len(held_out.labels) == 360
    both = np.concatenate([seen.images, held_out.images]).reshape(-1, 64)
    assert len(np.unique(both, axis=0)) == len(both) == 1797


def test_generated_digits_are_read_as_what_was_asked_for(shipped: tuple[Any, Any]):
    # In many steps, for a scheduler that clips went wrong with guidance and 50 steps, and not with 10.
    labels = np.repeat(np.arange(10), 4)
    images = sample(*shipped, labels, seed=0, steps=50)
    assert images.shape == (40, 1, 8, 8)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1
    assert judge.accuracy(images, labels) >= 0.95
    assert judge.nearest(images).min() > 0.5  # none is a copy


def test_digits_of_one_class_differ_and_lie_nearer_to_real_ones_than_noise_does(shipped: tuple[Any, Any]):
    labels = np.arange(100) % 10
    images = sample(*shipped, labels, seed=1, steps=15)
    assert np.std(images[labels == 3], axis=0).max() > 0.3
    noise = np.random.default_rng(0).uniform(-1, 1, images.shape)
    _, real = split()
    drawn = judge.frechet_distance(images, real.images)
    assert drawn < 0.2 * judge.frechet_distance(noise, real.images)


def test_the_frechet_distance_of_a_set_to_itself_is_nothing():
    _, real = split()
    assert judge.frechet_distance(real.images, real.images) == pytest.approx(0, abs=1e-3)


def test_a_seed_settles_the_images(shipped: tuple[Any, Any]):
    first = sample(*shipped, [1, 2, 3], seed=5, steps=4)
    np.testing.assert_array_equal(first, sample(*shipped, [1, 2, 3], seed=5, steps=4))
    assert not np.array_equal(first, sample(*shipped, [1, 2, 3], seed=6, steps=4))


def test_without_guidance_the_null_class_draws_any_digit(shipped: tuple[Any, Any]):
    images = sample(*shipped, [NULL_CLASS] * 2, steps=4, guidance=1.0)
    guided = sample(*shipped, [NULL_CLASS] * 2, steps=4, guidance=3.0)
    np.testing.assert_allclose(images, guided, atol=0.05)


def test_a_few_training_steps_write_a_folder_that_loads(tmp_path, shipped: tuple[Any, Any]):
    model, scheduler = train(steps=3, batch=8)
    save(model, scheduler, tmp_path)
    again, its_scheduler = load(tmp_path)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in shipped[0].state_dict().items()
    }
    assert its_scheduler.config == shipped[1].config
    assert sample(again, its_scheduler, [7], steps=2).shape == (1, 1, 8, 8)
    assert "_name_or_path" not in json.loads((tmp_path / "transformer" / "config.json").read_text())


def test_training_again_gives_the_same_weights():
    first, second = (dict(train(steps=2, batch=8)[0].named_parameters()) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
