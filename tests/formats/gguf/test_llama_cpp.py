"""Guards what llama.cpp makes of a GGUF file: it loads the language model, and computes what our decoded weights do."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llama_cpp import llama_cpp
from transformers import AutoTokenizer

import workbench as wb
from workbench import zoo
from workbench.config import DiffusionQuantConfig
from workbench.engine import DiffusionOrchestrator
from workbench.zoo.stdlib_mdlm.model import load

MODEL = "zoo:stdlib-mdlm"
TEXT = "def parse(self, value):\n    return int(value)"


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _silence(level: int, text: bytes, data: Any) -> None:
    """llama.cpp reports its progress on stderr."""


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "out"
    config = DiffusionQuantConfig(target="gguf", bit_width=8, min_accuracy=0.0)
    DiffusionOrchestrator(config).run(MODEL, folder)
    return folder


@pytest.fixture(scope="module")
def model(export: Path) -> Iterator[Any]:
    llama_cpp.llama_log_set(_silence, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    loaded = llama_cpp.llama_model_load_from_file(
        str(export / "model.gguf").encode(), llama_cpp.llama_model_default_params()
    )
    assert loaded
    yield loaded
    llama_cpp.llama_model_free(loaded)


def tokenize(model: Any, text: str) -> list[int]:
    encoded = text.encode()
    tokens = (llama_cpp.llama_token * 256)()
    count = llama_cpp.llama_tokenize(
        llama_cpp.llama_model_get_vocab(model), encoded, len(encoded), tokens, 256, False, True
    )
    return list(tokens[:count])


def logits_of(model: Any, tokens: list[int]) -> np.ndarray:
    """The logits of all places, [tokens, vocabulary], every place seeing every other."""
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 128
    parameters.n_threads = 1
    context = llama_cpp.llama_init_from_model(model, parameters)
    assert context
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = 1
        assert llama_cpp.llama_decode(context, batch) == 0
        size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        rows = [
            np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, place), (size,)).copy()
            for place in range(len(tokens))
        ]
        return np.stack(rows)
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


def test_it_cuts_text_into_the_same_tokens(model: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(zoo.locate("stdlib-mdlm"))
    for text in (TEXT, "x = 1234.5  # naïve\n\n\tfor", "<|mask|> = <|mask|>"):
        assert tokenize(model, text) == tokenizer(text)["input_ids"]


def test_it_computes_the_logits_of_our_decoded_weights(export: Path, model: Any) -> None:
    tokens = tokenize(model, TEXT)
    reference = load(zoo.locate("stdlib-mdlm"))[0].float()
    decoded = {
        name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in wb.load(export).items()
    }
    missing, unexpected = reference.load_state_dict(decoded, strict=False)
    assert not missing
    assert not unexpected
    with torch.no_grad():
        expected = reference(torch.tensor([tokens]))[0].numpy()
    # llama.cpp also rounds what goes into a product, to 8 bits in blocks of 32.
    found = logits_of(model, tokens)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
