"""Files made to break the reader: each is refused by name, or read as the safetensors library reads it."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from workbench.checkpoint import DTYPES, SafeTensorsAdapter, open_checkpoint
from workbench.errors import (
    ArrowQuantError,
    MetadataError,
    ModelNotFoundError,
    ShapeMismatchError,
    ValidationError,
)


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


EIGHT = bytes(8)
BAD = MetadataError

BAD_HEADERS: dict[str, tuple[Any, bytes, type[ArrowQuantError], str]] = {
    "past the end": ({"a": entry(data_offsets=[0, 16], shape=[4])}, EIGHT, BAD, "'a' ends at byte"),
    "backwards": ({"a": entry(data_offsets=[8, 0])}, EIGHT, BAD, "'a'.*begin <= end"),
    "negative": ({"a": entry(data_offsets=[-8, 0])}, EIGHT, BAD, "'a'.*data_offsets"),
    "bool": ({"a": entry(data_offsets=[0, True])}, EIGHT, BAD, "'a'.*data_offsets"),
    "float": ({"a": entry(data_offsets=[0, 8.0])}, EIGHT, BAD, "'a'.*data_offsets"),
    "three": ({"a": entry(data_offsets=[0, 8, 8])}, EIGHT, BAD, "'a'.*data_offsets"),
    "string offsets": ({"a": entry(data_offsets="08")}, EIGHT, BAD, "'a'.*data_offsets"),
    "huge": ({"a": entry(data_offsets=[0, 2**70])}, EIGHT, BAD, "'a'.*data_offsets"),
    "same place": ({"a": entry(), "b": entry()}, EIGHT, BAD, "'b' overlaps tensor 'a'"),
    "overlap": ({"a": entry(), "b": entry(data_offsets=[4, 12])}, bytes(12), BAD, "'b' overlaps"),
    "hole": ({"a": entry(data_offsets=[8, 16])}, bytes(16), BAD, "'a' leaves a gap"),
    "shape": ({"a": entry(shape=[3])}, EIGHT, ShapeMismatchError, r"'a' has 8 bytes.*takes 12"),
    "itemsize": ({"a": entry(dtype="F64")}, EIGHT, ShapeMismatchError, "'a' has 8 bytes"),
    "negative size": ({"a": entry(shape=[-2])}, EIGHT, BAD, "'a'.*shape"),
    "float size": ({"a": entry(shape=[2.0])}, EIGHT, BAD, "'a'.*shape"),
    "bool size": ({"a": entry(shape=[True, 2])}, EIGHT, BAD, "'a'.*shape"),
    "number for a shape": ({"a": entry(shape=2)}, EIGHT, BAD, "'a'.*shape"),
    "rank": ({"a": entry(shape=[2] + [1] * 64)}, EIGHT, BAD, "'a'.*at most 64"),
    "overflow": ({"a": entry(shape=[2**62, 2**62])}, EIGHT, BAD, "'a'.*overflows"),
    "hidden overflow": ({"a": entry(shape=[0, 2**62, 2**62], data_offsets=[0, 0])}, b"", BAD, "overflows"),
    "F4": ({"a": entry(dtype="F4")}, EIGHT, ValidationError, "'a' has the dtype 'F4'.*already quantized"),
    "F8_E8M0": ({"a": entry(dtype="F8_E8M0")}, EIGHT, ValidationError, "'a'.*'F8_E8M0'.*already quantized"),
    "C64": ({"a": entry(dtype="C64", shape=[1])}, EIGHT, ValidationError, "'a'.*'C64'.*supported are F64"),
    "number for a dtype": ({"a": entry(dtype=5)}, EIGHT, BAD, "'a'.*dtype"),
    "list for a dtype": ({"a": entry(dtype=["F32"])}, EIGHT, BAD, "'a'.*dtype"),
    "list for an entry": ({"a": [0, 8]}, EIGHT, BAD, "'a' must have dtype"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [2]}}, EIGHT, BAD, "'a' must have"),
    "no name": ({"": entry()}, EIGHT, BAD, "unusable name"),
    "NUL": ({"a\0b": entry()}, EIGHT, BAD, r"'a\\x00b' has an unusable name"),
    "newline": ({"a\nb": entry()}, EIGHT, BAD, "unusable name"),
    "text direction override": ({"a\u202eb": entry()}, EIGHT, BAD, "unusable name"),
    "lone surrogate": ({"\ud800": entry()}, EIGHT, BAD, "unusable name"),
    "long name": ({"n" * 100_000: entry()}, EIGHT, BAD, r"\(100,000 characters\)"),
    "metadata values": ({"__metadata__": {"a": 1}}, b"", BAD, "__metadata__.*'a' is not a string.*not concerned"),
    "metadata objects": ({"__metadata__": {"a": {"b": "1"}}}, b"", BAD, "__metadata__.*'a' is not a string"),
    "metadata list": ({"__metadata__": []}, b"", BAD, "__metadata__"),
    "list": (b"[]", b"", BAD, "must be a JSON object"),
    "empty header": (b"", b"", BAD, "not valid JSON"),
    "half a header": (b"{", b"", BAD, "not valid JSON"),
    "NaN": (b'{"a": NaN}', b"", BAD, "NaN is not JSON"),
    "not UTF-8": (b"\xff\xfe{}", b"", BAD, "not valid JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", b"", BAD, "not valid JSON"),
    "UTF-16": ("{}".encode("utf-16"), b"", BAD, "not valid JSON"),
    "deep": (b"[" * 1_000_000, b"", BAD, "nested too deeply"),
    "deep objects": (b'{"a":' * 100_000, b"", BAD, "nested too deeply"),
    "long number": (b'{"a": ' + b"9" * 10_000 + b"}", b"", BAD, "not valid JSON"),
    "same tensor twice": (b'{"a":{},"a":{}}', b"", BAD, "key 'a' twice"),
    "same field twice": (b'{"a":{"dtype":"F32","dtype":"U8"}}', b"", BAD, "key 'dtype' twice"),
    "same metadata twice": (b'{"__metadata__":{"k":"1","k":"2"}}', b"", BAD, "key 'k' twice"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_HEADERS)
def test_a_bad_header_is_refused_by_name(write_raw, fault):
    header, data, kind, message = BAD_HEADERS[fault]
    path = write_raw(header, data)
    with pytest.raises(kind, match=f"(?s){message}") as caught:
        open_checkpoint(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", MetadataError, "0 bytes are too few"),
        (b"1234567", MetadataError, "7 bytes are too few"),
        (struct.pack("<Q", 2) + b"{", MetadataError, "2 bytes, but only 1 follow"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", MetadataError, "only 2 follow"),
        (b"GGUF\x03\0\0\0" + bytes(50), ValidationError, "GGUF"),
        (b"PK\x03\x04\0\0\x08\x08" + bytes(50), ValidationError, "zip archive.*pickle"),
        (b"\x80\x02}q\0X\x0c\0" + bytes(50), ValidationError, "this is a pickle.*never loads"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ValidationError, "git lfs pull"),
        (b"PAR1\x15\x04\x15\x10PAR1", ValidationError, "Parquet"),
        (b"<!DOCTYPE html><html></html>", MetadataError, "not a safetensors file"),
    ],
    ids=[
        "empty",
        "short",
        "truncated header",
        "endless header",
        "gguf",
        "zip",
        "pickle",
        "lfs",
        "parquet",
        "html",
    ],
)
def test_a_file_that_is_not_safetensors_is_refused(tmp_path, content, kind, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(kind, match=message):
        open_checkpoint(path)


def test_a_header_that_is_as_long_as_a_pickle_is_marked_is_read(write_raw):
    # 640 bytes of header: its length begins with the bytes 80 02, as a pickle does.
    path = write_raw(b"{}" + b" " * 638)
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert len(SafeTensorsAdapter(path)) == 0


def test_a_header_beyond_the_limit_of_the_format_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 100_000_001))
    os.truncate(path, 100_000_020)
    with pytest.raises(MetadataError, match="100,000,000"):
        open_checkpoint(path)


@pytest.mark.parametrize("cut", [1, 100, 4096])
def test_a_truncated_download_is_recognised(write, cut):
    path = write("m.safetensors", {"a.weight": (64, 64)})
    os.truncate(path, path.stat().st_size - cut)
    with pytest.raises(MetadataError, match=r"'a\.weight'.*truncated"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "name", ["model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "MODEL.PT"]
)
def test_a_pickle_is_never_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(ValidationError, match=r"pickle.*safetensors\.torch\.save_file"):
        open_checkpoint(path)


def test_what_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")  # opening it to read would wait for a writer
    with pytest.raises(ValidationError, match="not a regular file"):
        open_checkpoint(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    for missing in ["loop.safetensors", "none", "a\0b", "~nobody-by-this-name/m"]:
        with pytest.raises(ModelNotFoundError):
            open_checkpoint(missing if missing.startswith("~") else tmp_path / missing)


@pytest.mark.parametrize(
    "name",
    [
        "../up.safetensors",
        "/up.safetensors",
        "sub/x.safetensors",
        "sub\\x.safetensors",
        "\0.safetensors",
        "x.bin",
        "..",
        "",
        5,
        None,
    ],
)
def test_an_index_names_only_files_of_its_own_folder(write, write_json, name):
    write("up.safetensors", {"a.weight": (2, 2)})
    write("m/sub/x.safetensors", {"a.weight": (2, 2)})
    index = write_json("m/model.safetensors.index.json", {"weight_map": {"a.weight": name}})
    with pytest.raises(MetadataError, match=r"a\.weight") as caught:
        open_checkpoint(index)
    assert caught.value.path == index


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"weight_map": []}',
        b'{"weight_map": {}}',
        b'{"weight_map": {"a": "x", "a": "y"}}',
        b"\xff",
    ],
)
def test_a_malformed_index_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(content)
    with pytest.raises(MetadataError, match="index"):
        open_checkpoint(path)
    with pytest.raises(MetadataError, match="index"):
        open_checkpoint(tmp_path)


# Mutations of real headers

REAL = save(
    {
        "blocks.0.attn.to_q.weight": np.arange(32, dtype=np.float32).reshape(4, 8),
        "blocks.0.norm1.weight": np.ones(8, np.float16),
        "ids": np.arange(3),
        "mask": np.array([True, False]),
        "nothing.weight": np.zeros((0, 4), np.float32),
        "scalar": np.array(2, np.float32),
    },
    {"format": "pt"},
)
HEADER_END = 8 + int.from_bytes(REAL[:8], "little")


def agrees_with_the_library(content: bytes) -> None:
    """Refused by an error of ours, or equal to what the library reads, which takes no bytes after the last tensor."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        try:
            checkpoint = open_checkpoint(file.name)
        except ArrowQuantError as error:
            assert file.name in str(error)  # noqa: PT017
            assert len(str(error)) < 2000  # noqa: PT017
            return
        with checkpoint:
            end = max((info.offset + info.nbytes for info in checkpoint.tensors.values()), default=None)
            theirs = dict(safetensors.deserialize(content[:end]))
            assert (end in (None, len(content))) == (
                not any("follow the last" in n for n in checkpoint.notes)
            )
            assert set(theirs) == set(checkpoint.tensors)
            for name, info in checkpoint.tensors.items():
                assert 0 <= info.offset <= info.offset + info.nbytes <= len(content)
                assert theirs[name]["dtype"] == info.dtype
                assert tuple(theirs[name]["shape"]) == info.shape
                data = bytes(theirs[name]["data"])
                buffer = bytearray(info.nbytes)
                checkpoint.read_into(name, 0, buffer)
                assert bytes(buffer) == data == checkpoint.view(name).tobytes()
            assert len(checkpoint.fingerprint) == 64


@given(st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_flipped_header_bytes(flips):
    content = bytearray(REAL)
    for position, value in flips:
        content[position] = value
    agrees_with_the_library(bytes(content))


@given(st.integers(0, len(REAL) - 1), st.binary(max_size=16))
@settings(max_examples=200, deadline=None)
def test_truncations_and_tails(length, tail):
    agrees_with_the_library(REAL[:length] + tail)


@given(st.integers(8, HEADER_END), st.integers(0, 8), st.binary(max_size=8))
@settings(max_examples=200, deadline=None)
def test_spliced_headers(position, removed, inserted):
    header = REAL[8:position] + inserted + REAL[position + removed : HEADER_END]
    agrees_with_the_library(struct.pack("<Q", len(header)) + header + REAL[HEADER_END:])


sizes = st.one_of(st.integers(-1, 70), st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64, 10**30]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), sizes, st.floats(), st.sampled_from([*DTYPES, "F4", "x", ""])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
edits = st.one_of(
    st.tuples(st.just("dtype"), st.one_of(st.sampled_from(list(DTYPES)), values)),
    st.tuples(st.just("shape"), st.one_of(st.lists(sizes, max_size=4), values)),
    st.tuples(st.just("data_offsets"), st.one_of(st.lists(sizes, min_size=2, max_size=2), values)),
)


@given(
    st.lists(st.tuples(st.sampled_from(list(json.loads(REAL[8:HEADER_END]))), edits), min_size=1, max_size=3)
)
@settings(max_examples=400, deadline=None)
def test_edited_entries(changes):
    header = json.loads(REAL[8:HEADER_END])
    for name, (field, value) in changes:
        header[name][field] = value
    text = json.dumps(header).encode()
    agrees_with_the_library(struct.pack("<Q", len(text)) + text + REAL[HEADER_END:])


@given(
    st.permutations(["F32", "I32", "U32", "F16", "BF16", "I16"]),
    st.permutations([[8, 4], [32], [2, 4, 4], [4, 8]]),
)
@settings(max_examples=50, deadline=None)
def test_sound_reinterpretations_are_read(dtypes, shapes):
    header = json.loads(REAL[8:HEADER_END])
    name = "blocks.0.attn.to_q.weight"
    header[name]["dtype"], header[name]["shape"] = dtypes[0], shapes[0]
    text = json.dumps(header).encode()
    agrees_with_the_library(struct.pack("<Q", len(text)) + text + REAL[HEADER_END:])


def test_the_unmutated_file_is_read():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        path.write_bytes(REAL)
        with open_checkpoint(path) as checkpoint:
            assert len(checkpoint.tensors) == 6
    agrees_with_the_library(REAL)
