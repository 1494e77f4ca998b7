"""Plans go out as other tools' rules and come back the same; wrong rules are refused with the way out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compressed_tensors.quantization import QuantizationConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats import TargetSettings, target_named
from workbench.formats.rules import read_rules, syntaxes, target_of_rules, write_rules
from workbench.plan import Layer, Option

TYPES = {"Q4_0": (4, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (4, 256, 144), "Q6_K": (6, 256, 210)}
"""Bits, weights and bytes of a block."""


class Typed:
    """A target whose schemes are types, as GGML's are."""

    name = "typed"

    def options(self, layer: Layer) -> Sequence[Option]:
        fitting = {name: of for name, of in TYPES.items() if layer.cols % of[1] == 0}
        found = [
            Option(bits, name, block, layer.params // block * nbytes)
            for name, (bits, block, nbytes) in fitting.items()
        ]
        return [*found, Option(32, "keep", 0, 4 * layer.params)]


def target_of(name: str) -> Any:
    return (
        Typed()
        if name == "gguf"
        else target_named(name, TargetSettings(all_widths=True, scheme="asymmetric"))
    )


def kept(layers: Sequence[Layer], target: Any) -> dict[str, Option]:
    return {
        layer.name: next(option for option in target.options(layer) if option.is_kept) for layer in layers
    }


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Layer]:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    shapes = {
        "model.embed_tokens.weight": (40, 256), "patch.proj.weight": (8, 4, 2, 2),
        "blocks.0.attn.toQ.weight": (32, 256), "blocks.0.attn.toK.weight": (32, 96),
        "blocks.1.ff.net.0.weight": (9, 50), "blocks.1.ff.net.2.weight": (4, 512),
        "blocks.10.ff.net.2.weight": (64, 64),
    }  # fmt: skip
    path = tmp_path_factory.mktemp("rules") / "model.safetensors"
    save_file({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}, path)
    with open_checkpoint(path) as checkpoint:
        return checkpoint.layers


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", syntaxes())
def test_a_plan_comes_back_the_same(layers: Sequence[Layer], name: str, data: st.DataObject) -> None:
    target = target_of(target_of_rules(name))
    choices = {layer.name: data.draw(st.sampled_from(list(target.options(layer)))) for layer in layers}
    text = write_rules(wb.Plan(target.name, choices, "f"), name, layers, target)
    assert read_rules(text, name, layers, target, kept(layers, target)) == choices


def test_what_is_written_is_what_the_tools_take(layers: Sequence[Layer]) -> None:
    target: Any = Typed()
    choices = kept(layers, target)
    for layer in layers:
        found = {option.scheme: option for option in target.options(layer)}
        choices[layer.name] = found.get("Q4_K") or found.get("Q4_0") or found["keep"]
    plan = wb.Plan("typed", choices, "f")
    lines = write_rules(plan, "llama-quantize", layers, target).splitlines()
    # Patterns are searched for, and llama-quantize makes them lower case; types are spelt as GGML spells them.
    assert r"^blocks\.0\.attn\.to\x51\.weight$=q4_K" in lines, "Q by its number"
    assert r"^blocks\.0\.attn\.to\x4b\.weight$=q4_0" in lines
    assert r"^blocks\.1\.ff\.net\.0\.weight$=f32" in lines
    (line,) = write_rules(plan, "stable-diffusion.cpp", layers, target).splitlines()
    assert line.split(",") == lines


def test_names_may_be_those_of_the_runtime(layers: Sequence[Layer]) -> None:
    target: Any = Typed()

    def naming(name: str) -> str:
        return (
            name.replace("blocks.", "blk.").replace(".ff.net.2", ".ffn_down").replace(".attn.toQ", ".attn_q")
        )

    found = read_rules(
        "attn_q=q6_K --tensor-type ffn_down=Q8_0", "llama-quantize", layers, target, kept(layers, target),
        naming=naming,
    )  # fmt: skip
    assert {name: option.scheme for name, option in found.items() if not option.is_kept} == {
        "blocks.0.attn.toQ.weight": "Q6_K",
        "blocks.1.ff.net.2.weight": "Q8_0",
        "blocks.10.ff.net.2.weight": "Q8_0",
    }
    text = write_rules(wb.Plan("typed", found, "f"), "llama-quantize", layers, target, naming=naming)
    assert r"^blk\.10\.ffn_down\.weight$=q8_0" in text.splitlines()
    assert read_rules(text, "llama-quantize", layers, target, {}, naming=naming) == found


def test_the_first_rule_that_matches_counts(layers: Sequence[Layer]) -> None:
    target: Any = Typed()
    rest = {layer.name: target.options(layer)[0] for layer in layers}
    found = read_rules(r"blocks\.1\.ff\.net\.2=f32,net\.2=q8_0", "stable-diffusion.cpp", layers, target, rest)
    assert found["blocks.1.ff.net.2.weight"].is_kept
    assert found["blocks.10.ff.net.2.weight"].scheme == "Q8_0"
    assert found["blocks.0.attn.toQ.weight"] == rest["blocks.0.attn.toQ.weight"], "no rule names it"


def test_mlx_rules_have_a_default_and_exceptions(layers: Sequence[Layer]) -> None:
    target = target_named("mlx")
    rules = {
        "group_size": 64, "bits": 4, "mode": "affine", "model.embed_tokens": False,
        "blocks.1.ff.net.2": {"group_size": 128, "bits": 8}, "blocks.10.ff.net.2": True,
    }  # fmt: skip
    for document in (rules, {"model_type": "x", "quantization": rules}, {"quantization_config": rules}):
        found = read_rules(json.dumps(document), "mlx", layers, target, {})
        quantized = {name: (o.bits, o.group_size) for name, o in found.items() if not o.is_kept}
        assert quantized == {
            "blocks.0.attn.toQ.weight": (4, 64),
            "blocks.1.ff.net.2.weight": (8, 128),
            "blocks.10.ff.net.2.weight": (4, 64),
        }
    parquet = read_rules(json.dumps(rules), "mlx", layers, target_named("parquet"), {})
    assert parquet["blocks.0.attn.toQ.weight"].scheme == "asymmetric", "Parquet's name for it"


def test_compressed_tensors_rules_are_matched_as_the_package_does(layers: Sequence[Layer]) -> None:
    def group(bits: int, targets: list[str], size: int | None = 32) -> dict[str, Any]:
        strategy = "group" if size else "channel"
        weights = {"num_bits": bits, "group_size": size, "strategy": strategy, "symmetric": True}
        return {"targets": targets, "weights": weights}

    rules = {
        "config_groups": {
            "group_0": group(4, ["Linear"], None), "group_1": group(8, [r"re:blocks\.\d\..*"], None),
            "group_2": group(2, ["blocks.0.attn.toQ"]),
        },
        "ignore": ["re:.*net.0$"],
    }  # fmt: skip
    QuantizationConfig(**rules)  # the package takes it too
    found = read_rules(
        json.dumps(rules), "compressed-tensors", layers, target_named("compressed-tensors"), {}
    )
    assert {name: (o.bits, o.group_size) for name, o in found.items() if not o.is_kept} == {
        "blocks.0.attn.toQ.weight": (2, 32),
        "blocks.0.attn.toK.weight": (8, 96),
        "blocks.1.ff.net.2.weight": (8, 512),
        "blocks.10.ff.net.2.weight": (4, 64),
    }


def group_with(**weights: Any) -> dict[str, Any]:
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, **weights}}}}


LLAMA, MLX, CT = "llama-quantize", "mlx", "compressed-tensors"
WRONG: Mapping[str, tuple[str, Any, str]] = {
    "names nothing": (LLAMA, "attn_z=q4_0", "'attn_z' matches no layer; layers are called like "),
    "no type": (LLAMA, "attn_q", "'attn_q' is not NAME=TYPE"),
    "no pattern": (LLAMA, "[=q4_0", "'\\[' is not a regular expression"),
    "no such type": (LLAMA, "attn=iq9", "'blocks.0.attn.toK.weight' cannot be stored as iq9"),
    "illegal shape": ("stable-diffusion.cpp", r"net\.0=q4_K", "'blocks.1.ff.net.0.weight' cannot be stored as q4_K"),
    "not JSON": (MLX, "{", "this is not JSON"),
    "no rules": (MLX, {"model_type": "dit"}, "neither 'quantization' nor 'bits'"),
    "unknown module": (MLX, {"bits": 4, "group_size": 64, "blocks.7": False}, "'blocks.7' names no layer"),
    "unknown mode": (MLX, {"bits": 4, "group_size": 64, "mode": "mxfp4"}, "mode 'mxfp4' of .* is not affine"),
    "no group": (MLX, {"bits": 4}, "group_size must be a whole number"),
    "7 bits": (MLX, {"bits": 7, "group_size": 64}, "cannot be stored as affine 7 bits in groups of 64 in mlx"),
    "unknown target": (
        CT, {"config_groups": {"a": {"targets": ["x.y"], "weights": {"num_bits": 4}}}}, "'x.y' names no layer",
    ),
    "activations": (
        CT, {"config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8}, "input_activations": {}}}},
        "quantizes input activations; a plan speaks of weights only",
    ),
    "floats": (CT, group_with(type="float"), "weights of type 'float' are not integers"),
    "strategy": (CT, group_with(strategy="tensor"), "'tensor' is neither group nor channel"),
    "wide": (CT, group_with(num_bits=3), "cannot be stored as symmetric 3 bits in rows"),
    "group that does not divide": (CT, group_with(strategy="group", group_size=128), "in groups of 128"),
    "list": (CT, {"config_groups": {"W4A16": ["Linear"]}}, "W4A16 must be a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_rules_are_refused(layers: Sequence[Layer], case: str) -> None:
    name, rules, message = WRONG[case]
    target: Any = Typed() if target_of_rules(name) == "gguf" else target_named(name)
    text = rules if isinstance(rules, str) else json.dumps(rules)
    with pytest.raises(wb.ConfigurationError, match=message) as caught:
        read_rules(text, name, layers, target, kept(layers, target), where="rules.txt")
    assert caught.value.key == "rules"
    if "cannot be stored" in message:
        assert "It can be" in str(caught.value)
        assert "Write one of these in its rule, or take it out" in str(caught.value)


def test_a_plan_that_rules_cannot_say_is_refused(layers: Sequence[Layer]) -> None:
    target = target_named("mlx")
    plan = wb.Plan("mlx", {layer.name: target.options(layer)[0] for layer in layers}, "f")
    with pytest.raises(wb.ConfigurationError, match="cannot be written as types of tensors: affine"):
        write_rules(plan, "llama-quantize", layers, target)
    with pytest.raises(wb.ConfigurationError, match=r"the plan is for mlx\. Make one for compressed-tensors"):
        write_rules(plan, "compressed-tensors", layers, target)
    with pytest.raises(wb.ConfigurationError, match="no rules format 'gptq'; allowed: llama-quantize"):
        write_rules(plan, "gptq", layers, target)


def test_a_session_takes_and_gives_rules(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    with wb.open(make_checkpoint(), target="mlx", cache=tmp_path / "cache") as session:
        session.set_bits("*to_k*", 6)
        before = session.plan
        session.save_rules(tmp_path / "rules.json", "mlx")
        session.set_bits("*", 2)
        session.load_rules(tmp_path / "rules.json", "mlx")
        assert dict(session.plan.choices) == dict(before.choices)
        assert session.plan.made_by == {"method": "rules", "format": "mlx"}
        assert session.script[-1] == f"s.load_rules({str(tmp_path / 'rules.json')!r}, 'mlx')"
        session.undo()
        assert {option.bits for option in session.plan.choices.values() if not option.is_kept} == {2}
        with pytest.raises(wb.ConfigurationError, match="cannot be read"):
            session.load_rules(tmp_path / "none.json", "mlx")
