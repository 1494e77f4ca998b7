"""The tokenizer of a language model as llama.cpp reads it, of its tokenizer.json or the files it is kept in apart.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer. Byte-level BPE is written, which Dream and
LLaDA use; llama.cpp splits text by rules of its own, chosen by a name, of which those it shares are told by their
regular expression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.checkpoint import Checkpoint
from workbench.checkpoint.readers.gguf_file import GgufKey
from workbench.checkpoint.strict_json import read_object
from workbench.errors import MetadataError, ValidationError
from workbench.formats.gguf.families import Family
from workbench.formats.gguf.layout import BOOL, UINT32, integers_key, number_key, text_key, texts_key

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's types of tokens."""

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_SPLITS: Mapping[str, str] = {"".join(_SPLIT): "qwen2", "{1,3}".join(_SPLIT): "llama-bpe"}
"""llama.cpp's name of a rule by which text is split, by the regular expression of tokenizer.json."""

_BYTES = {"type": "ByteLevel", "use_regex": False}
_QWEN2: Mapping[str, Any] = {
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Split", "pattern": {"Regex": "".join(_SPLIT)}}, _BYTES],
    },
    "decoder": {"type": "ByteLevel"},
}
_STEPS: Mapping[str, Mapping[str, Any]] = {
    "Qwen2Tokenizer": _QWEN2,
    "DreamTokenizer": _QWEN2,
    "GPT2Tokenizer": {"pre_tokenizer": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"}},
}
"""How tokenizers split text whose files do not say it, by their class."""

_SPECIAL: Mapping[str, str] = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown", "mask": "mask"}
"""llama.cpp's word for each special token."""


def tokenizer_keys(checkpoint: Checkpoint, family: Family) -> dict[str, GgufKey]:
    """The tokenizer's keys, of tokenizer.json or of vocab.json and merges.txt; none where there is neither.

    Raises
    ------
    MetadataError, ValidationError
        If one of the files is malformed, or the tokenizer no byte-level BPE, or has more tokens than the model.
    """
    files = {side.relative: side.source for side in checkpoint.side_files}
    found = files.get("tokenizer_config.json")
    settings = read_object(found, "tokenizer_config.json") if found else {}
    if "tokenizer.json" in files:
        path = files["tokenizer.json"]
        return _keys(path, read_object(path, "tokenizer.json"), settings, checkpoint, family)
    steps = _STEPS.get(str(settings.get("tokenizer_class", "")).removesuffix("Fast"))
    if steps is None or not {"vocab.json", "merges.txt"} <= files.keys():
        return {}
    document = {**steps, **_parts(files, settings)}
    return _keys(files["vocab.json"], document, settings, checkpoint, family)


def _parts(files: Mapping[str, Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Vocabulary, merges and added tokens as tokenizer.json would have them, of the files they are kept in apart."""
    path = files["merges.txt"]
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"{path} cannot be read: {error}.", path=path) from error
    merges = [line.rstrip("\r") for line in lines[lines[0].startswith("#version") :] if line.strip()]
    vocabulary = read_object(files["vocab.json"], "vocab.json")
    numbers: dict[str, Any] = {}
    if "added_tokens.json" in files:
        numbers |= read_object(files["added_tokens.json"], "added_tokens.json")
    decoder = settings.get("added_tokens_decoder")
    described = {
        str(token.get("content")): {**token, "id": number}
        for number, token in (decoder.items() if isinstance(decoder, dict) else ())
        if isinstance(token, dict)
    }
    numbers |= {content: token["id"] for content, token in described.items()}
    special = {content for content, token in described.items() if token.get("special")}
    special |= {str(_text(settings.get(f"{name}_token"))) for name in _SPECIAL}
    added = [
        {"id": number, "content": content, "special": content in special}
        for content, number in numbers.items()
    ]
    return {
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
        "added_tokens": added,
    }


def has_tokenizer(keys: Mapping[str, GgufKey]) -> bool:
    """Whether the tokenizer's keys are there."""
    return "tokenizer.ggml.tokens" in keys


def _keys(
    path: Path,
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    checkpoint: Checkpoint,
    family: Family,
) -> dict[str, GgufKey]:
    size = checkpoint.config.get("vocab_size")
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or "ByteLevel" not in set(_types(document)):
        raise ValidationError(
            f"{path}: this tokenizer is no byte-level BPE, the only kind that is written to a GGUF file. Convert "
            "the model once with llama.cpp's convert_hf_to_gguf.py to F16 and quantize that file.",
            path=path,
        )
    try:
        tokens = {int(number): str(token) for token, number in model["vocab"].items()}
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        added = {int(token["id"]): token for token in document.get("added_tokens", [])}
        tokens |= {number: str(token["content"]) for number, token in added.items()}
        numbers = {token: number for number, token in tokens.items()}
        size = size if isinstance(size, int) else len(tokens)
        if not tokens or max(tokens) >= size or min(tokens) < 0:
            raise ValueError(f"tokens are numbered up to {max(tokens, default=0)}, and the model has {size}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MetadataError(f"{path}: the tokenizer is malformed: {error!r}.", path=path) from error
    kinds = [_kind(number, tokens, added) for number in range(size)]
    keys = {
        "tokenizer.ggml.model": text_key("gpt2"),
        "tokenizer.ggml.pre": text_key(_split(document)),
        "tokenizer.ggml.tokens": texts_key([tokens.get(number, f"[PAD{number}]") for number in range(size)]),
        "tokenizer.ggml.token_type": integers_key(kinds),
        "tokenizer.ggml.merges": texts_key(merges),
    }
    for name, word in _SPECIAL.items():
        number = _special(name, settings, checkpoint.config, numbers)
        if number is not None and 0 <= number < size:
            keys[f"tokenizer.ggml.{word}_token_id"] = number_key(UINT32, number)
    if family.language_model is not None:
        keys |= {key: number_key(BOOL, value) for key, value in family.language_model.tokenizer_keys}
    return keys


def _kind(number: int, tokens: Mapping[int, str], added: Mapping[int, Mapping[str, Any]]) -> int:
    if number not in tokens:
        return UNUSED
    if number not in added:
        return NORMAL
    return CONTROL if added[number].get("special") else USER_DEFINED


def _special(
    name: str, settings: Mapping[str, Any], config: Mapping[str, Any], numbers: Mapping[str, int]
) -> int | None:
    number = config.get(f"{name}_token_id")
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    token = _text(settings.get(f"{name}_token"))
    return numbers.get(token) if isinstance(token, str) else None


def _text(token: object) -> object:
    """A token of tokenizer_config.json, which is a string or says it among other things."""
    return token.get("content") if isinstance(token, dict) else token


def _split(document: Mapping[str, Any]) -> str:
    """llama.cpp's name of the rule by which text is split; its default where it is none of those known."""
    for rule in _rules(document.get("pre_tokenizer")):
        pattern = rule.get("pattern")
        if isinstance(pattern, dict) and pattern.get("Regex") in _SPLITS:
            return _SPLITS[pattern["Regex"]]
        if rule.get("type") == "ByteLevel" and rule.get("use_regex", True):
            return "gpt-2"
    return "default"


def _types(document: Mapping[str, Any]) -> Iterator[object]:
    for part in ("pre_tokenizer", "decoder"):
        yield from (rule.get("type") for rule in _rules(document.get(part)))


def _rules(part: object, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """A step of the tokenizer, and those inside it."""
    if isinstance(part, dict) and depth < 8:
        yield part
        for inner in ("pretokenizers", "decoders"):
            for rule in part.get(inner) or []:
                yield from _rules(rule, depth + 1)
