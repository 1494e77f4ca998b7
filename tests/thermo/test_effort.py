"""A search that is weighed by the moments of channels lowers D, the error of the denoiser's output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import open_checkpoint
from workbench.formats import target_named
from workbench.quantize import Encodings
from workbench.thermo import DamageModel, measure_options


@pytest.mark.parametrize("model", ["zoo:digits-dit", "zoo:stdlib-mdlm"])
def test_d_falls_with_a_search_that_is_weighed(model: str, tmp_path: Path) -> None:
    records = CalibrationRecords.load(model)
    found = {}
    with open_checkpoint(model) as checkpoint:
        damage_model = DamageModel.read(records, checkpoint)
        efforts = {
            "fast": Encodings(),
            "not weighed": Encodings("normal"),
            "weighed": Encodings("normal", records),
        }
        for name, encodings in efforts.items():
            table = measure_options(
                checkpoint, target_named("mlx"), group_sizes=[64], damage_model=damage_model, encodings=encodings,
                exact=True, cache=tmp_path,
            )  # fmt: skip
            bits, damage = (table[column].to_numpy() for column in ("bits", "damage"))
            found[name] = np.array([damage[bits == width].sum() for width in (2, 3, 4)])
    # Without weights less noise may even cost more: what is clipped may be what channels that count meet.
    assert (found["weighed"] < 0.9 * found["fast"]).all(), found
    assert (found["weighed"] < found["not weighed"]).all(), found


def test_weights_are_the_moments_of_the_input_relative_to_the_output() -> None:
    records = CalibrationRecords.load("zoo:digits-dit")
    name = "transformer_blocks.0.attn1.to_q.weight"
    record = records.layers[name]
    encoding = Encodings("normal", records).of(name, (128, record.channels))
    share = records.shares / record.output_energy
    expected = (share[:, None] * record.second_moment).sum(axis=0)
    expected += 0.01 * expected.mean()
    assert encoding.channel_weights is not None
    assert encoding.channel_weights.max() == 1.0
    np.testing.assert_allclose(encoding.channel_weights, expected / expected.max(), rtol=1e-5)
    assert Encodings("fast", records).of(name, (128, record.channels)).channel_weights is None
    assert Encodings("normal", records).of("no such layer", (4, 4)).channel_weights is None


def test_a_convolution_repeats_its_channels_and_an_embedding_has_none() -> None:
    image, text = (CalibrationRecords.load(f"zoo:{name}") for name in ("digits-dit", "stdlib-mdlm"))
    convolution = next(name for name, record in image.layers.items() if record.kind == "conv")
    channels = image.layers[convolution].channels
    weights = Encodings("normal", image).of(convolution, (8, channels, 2, 3)).channel_weights
    assert weights is not None
    assert weights.shape == (6 * channels,)
    assert (weights.reshape(channels, 6) == weights[::6, None]).all()
    embedding = next(name for name, record in text.layers.items() if record.kind == "embedding")
    shape = text.layers[embedding].channels, 64
    assert Encodings("normal", text).of(embedding, shape).channel_weights is None
