"""What the records say agrees with the libraries that they speak of, and families are told apart."""

from __future__ import annotations

import inspect
import itertools

import diffusers
import gguf
import pytest
import transformers

from workbench.architectures import (
    MASK_RATIO,
    Architecture,
    architecture_of_config,
    architecture_of_tensors,
    is_high_precision,
    known_architectures,
    original_names_of,
    recognise,
    role_of,
)
from workbench.checkpoint.contents.layers import block_depths

LIBRARIES = {"diffusers": diffusers, "transformers": transformers}

FAMILIES = {one.name: one for one in known_architectures()}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Architecture:
    return FAMILIES[request.param]


def test_its_classes_are_in_its_library_and_tell_it(family: Architecture) -> None:
    for name in family.classes:
        if family.library:
            assert inspect.isclass(getattr(LIBRARIES[family.library], name))
        assert architecture_of_config({"_class_name": name}) is family
        assert architecture_of_config({"architectures": [name], "model_type": "unheard_of"}) is family
    for word in family.model_types:
        assert architecture_of_config({"architectures": ["Unheard"], "model_type": word}) is family


def test_its_signs_tell_it_and_no_other(family: Architecture) -> None:
    for signs in family.signs:
        assert architecture_of_tensors({*signs, "x.weight"}) is family
        assert recognise({}, signs) is family
        if len(signs) > 1:
            assert architecture_of_tensors(set(signs[1:])) is not family


def test_a_configuration_goes_before_tensors() -> None:
    tensors = FAMILIES["Flux"].signs[0]
    assert recognise({"_class_name": "WanTransformer3DModel"}, tensors) is FAMILIES["Wan"]
    assert (
        recognise({"_class_name": "Unheard", "architectures": "odd", "model_type": 7}, tensors)
        is (FAMILIES["Flux"])
    )
    assert recognise({}, ["x.weight"]) is None


def test_its_clock_is_an_argument_of_its_classes(family: Architecture) -> None:
    if family.clock is None or family.clock == MASK_RATIO:
        return
    for name in family.classes:
        arguments = inspect.signature(getattr(diffusers, name).forward).parameters
        assert set(family.clock.arguments) & set(arguments), (name, list(arguments))


def test_llama_cpp_knows_the_language_models_that_it_is_said_to_read(family: Architecture) -> None:
    by_llama = [reader for reader in family.readers if reader.program == "llama.cpp"]
    assert bool(by_llama) == (family.llama_cpp is not None)
    if by_llama:
        assert family.gguf in gguf.MODEL_ARCH_NAMES.values()
        assert "{export}" in by_llama[0].lines[0]


def test_no_two_families_share_a_name_a_class_or_a_gguf_architecture() -> None:
    for one, other in itertools.combinations(known_architectures(), 2):
        assert one.name != other.name
        assert not {*one.classes, *one.model_types} & {*other.classes, *other.model_types}
        assert not one.gguf or one.gguf != other.gguf


def test_numbers_in_lists_of_any_name_and_depth_are_carried_over() -> None:
    toy = Architecture(
        "Toy",
        original_names=lambda tensors: [
            ("in.#.#.conv", ("down_blocks.#.resnets.#.conv1",)),
            ("mid", ("h.3.attn",)),
            ("h.#.attention", ("h.#.attn",)),
            ("fused", ("layers.0.0.a", "layers.0.0.b")),
        ],
    )
    names = original_names_of(toy, ())
    assert names is not None
    found = {
        name: None if (place := names.place_of(name)) is None else place.original
        for name in (
            "down_blocks.2.resnets.11.conv1.weight", "h.3.attn.bias", "h.4.attn.bias", "layers.0.0.b.weight",
            "layers.0.1.b.weight", "h.x.attn.weight", "h.4.attn.more.weight",
        )
    }  # fmt: skip
    assert list(found.values()) == [
        "in.2.11.conv.weight", "mid.bias", "h.4.attention.bias", "fused.weight", None, None, None,
    ]  # fmt: skip


def test_names_of_llama_cpp_have_roles_and_depths() -> None:
    roles = {
        "attn_q": "attention.q", "attn_k": "attention.k", "attn_v": "attention.v", "attn_output": "attention.out",
        "ffn_gate": "mlp.in", "ffn_up": "mlp.in", "ffn_down": "mlp.out", "attn_norm": "norm",
    }  # fmt: skip
    assert {name: role_of(f"blk.7.{name}.weight") for name in roles} == roles
    assert (role_of("output.weight"), role_of("token_embd.weight")) == ("head", "embedding")
    assert block_depths(["blk.7.attn_q.weight", "output.weight"]) == {
        "blk.7.attn_q.weight": 7,
        "output.weight": None,
    }


def test_tables_and_gates_stay_precise_by_their_names() -> None:
    for name in (
        "blocks.0.modulation", "img_emb.emb_pos", "transformer_blocks.3.scale_shift_table",
        "double_stream_blocks.0.block.ff_i.gate.weight", "pos_embedder.seq",
    ):  # fmt: skip
        assert is_high_precision(name), name
    assert not is_high_precision("blocks.0.modulation.1.weight")
