"""Sound files: values equal the safetensors library's in every dtype, and a changed file is noticed."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import save_file as save_torch

from workbench.checkpoint import (
    DTYPES,
    SafeTensorsAdapter,
    ShardedSafeTensorsAdapter,
    load_sharded_safetensors,
    open_checkpoint,
)
from workbench.errors import (
    MetadataError,
    ModelNotFoundError,
    QuantizationError,
    ShapeMismatchError,
    ValidationError,
)

NAME = "blocks.0.attn.to_q.weight"


def bits(array: np.ndarray) -> bytes:
    """The bytes of an array, which compare NaNs and custom dtypes alike."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_as_the_library_reads_it(write_raw, dtype):
    itemsize = DTYPES[dtype].itemsize
    data = bytes(i % 2 if dtype == "BOOL" else i for i in range(6 * itemsize))
    is_float = dtype in {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
    name = NAME if is_float else "blocks.0.attn.mask"  # weights of integers would be codes
    path = write_raw({name: {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, len(data)]}}, data)
    with safetensors.safe_open(path, "pt") as library:
        theirs = library.get_tensor(name)
    with open_checkpoint(path) as checkpoint:
        view = checkpoint.view(name)
        assert bits(view) == data == bytes(theirs.contiguous().view(torch.uint8).numpy().tobytes())
        assert view.dtype == DTYPES[dtype]
        assert view.shape == tuple(theirs.shape)
        assert bits(checkpoint.read_rows(name, 0, 2)) == data
        assert bool(checkpoint.layers) == is_float


@pytest.mark.parametrize(
    ("dtype", "theirs", "ours"),
    [
        ("BF16", torch.bfloat16, ml_dtypes.bfloat16),
        ("F8_E4M3", torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", torch.float8_e5m2, ml_dtypes.float8_e5m2),
    ],
)
def test_values_of_narrow_floats_equal_torch(tmp_path, dtype, theirs, ours):
    tensor = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).to(theirs)
    save_torch({NAME: tensor}, tmp_path / "m.safetensors")
    with open_checkpoint(tmp_path / "m.safetensors") as checkpoint:
        assert checkpoint.tensors[NAME].dtype == dtype
        assert checkpoint.view(NAME).dtype == ours
        np.testing.assert_array_equal(checkpoint.view(NAME).astype(np.float32), tensor.float().numpy())


def test_views_are_lazy_read_only_and_shared_with_the_page_cache(write):
    with SafeTensorsAdapter(write("m.safetensors", {NAME: (4, 8)})) as adapter:
        view = adapter[NAME]
        assert not view.flags.writeable
        assert not view.flags.owndata
        assert np.shares_memory(view, adapter[NAME])
        assert list(adapter) == [NAME]
        assert NAME in adapter
        assert "nothing" not in adapter
    assert view.sum() == view.sum()  # still readable after close


def test_misaligned_data_is_read(write_raw):
    # The library pads headers so that data begin at a multiple of 8; the format does not ask for it.
    values = np.arange(6, dtype=np.float32)
    header = b'{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}} '
    assert (8 + len(header)) % 4
    path = write_raw(header, values.tobytes())
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.view("a.weight").ravel(), values)


def test_zero_size_tensors_and_scalars_are_kept(write):
    path = write(
        "m.safetensors", {"empty.weight": (0, 16), "hollow.weight": (3, 0), "scale": (), NAME: (2, 2)}
    )
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint.tensors) == {"empty.weight", "hollow.weight", "scale", NAME}
        assert checkpoint.view("empty.weight").shape == (0, 16)
        assert checkpoint.read_rows("hollow.weight", 0, 3).shape == (3, 0)
        assert checkpoint.read_rows("scale", 0, 1).shape == (1, 1)
        checkpoint.read_into("empty.weight", 0, bytearray())
        assert [layer.name for layer in checkpoint.layers] == [NAME]


def test_read_rows_sees_a_convolution_as_two_dimensional(write):
    path = write("m.safetensors", {"conv.weight": (6, 4, 3, 3), "gain.weight": (5,)})
    with open_checkpoint(path) as checkpoint:
        whole = checkpoint.view("conv.weight").reshape(6, 36)
        np.testing.assert_array_equal(checkpoint.read_rows("conv.weight", 2, 5), whole[2:5])
        assert checkpoint.read_rows("conv.weight", 3, 3).shape == (0, 36)
        assert checkpoint.read_rows("gain.weight", 1, 4).shape == (3, 1)


def test_bf16_rows_can_be_read_as_bit_patterns(tmp_path):
    tensor = torch.randn(4, 8).bfloat16()
    save_torch({NAME: tensor}, tmp_path / "m.safetensors")
    out = np.empty((2, 8), np.uint16)
    with open_checkpoint(tmp_path / "m.safetensors") as checkpoint:
        assert checkpoint.read_rows(NAME, 1, 3, out=out) is out
    np.testing.assert_array_equal(
        out.view(ml_dtypes.bfloat16).astype(np.float32), tensor[1:3].float().numpy()
    )


def test_read_into_fills_exactly_the_buffer(write):
    path = write("m.safetensors", {NAME: (4, 8)})
    with open_checkpoint(path) as checkpoint:
        data = bits(checkpoint.view(NAME))
        buffer = bytearray(10)
        checkpoint.read_into(NAME, 3, buffer)
        assert bytes(buffer) == data[3:13]
        array = np.zeros((2, 3), np.float32)
        checkpoint.read_into(NAME, 8, array)
        assert bits(array) == data[8:32]


def test_what_does_not_fit_is_refused(write):
    with open_checkpoint(write("m.safetensors", {NAME: (4, 8)})) as checkpoint:
        for start, stop in [(-1, 2), (0, 5), (3, 2)]:
            with pytest.raises(ShapeMismatchError, match=NAME):
                checkpoint.read_rows(NAME, start, stop)
        with pytest.raises(ShapeMismatchError, match=NAME):
            checkpoint.read_rows(NAME, 0, 2, out=np.empty((2, 9), np.float32))
        with pytest.raises(ShapeMismatchError, match=NAME):
            checkpoint.read_rows(NAME, 0, 2, out=np.empty((2, 8), np.float64))
        with pytest.raises(ShapeMismatchError, match="128 bytes"):
            checkpoint.read_into(NAME, 120, bytearray(9))
        with pytest.raises(ShapeMismatchError):
            checkpoint.read_into(NAME, -1, bytearray(1))
        with pytest.raises(ValidationError, match="C-contiguous"):
            checkpoint.read_into(NAME, 0, np.zeros((4, 4), np.float32)[:, :2])
        with pytest.raises(ValidationError, match="writable"):
            checkpoint.read_into(NAME, 0, b"12345678")
        with pytest.raises(ValidationError, match="no tensor 'nothing'"):
            checkpoint.read_rows("nothing", 0, 1)


def test_a_closed_checkpoint_says_so(write):
    checkpoint = open_checkpoint(write("m.safetensors", {NAME: (4, 8)}))
    checkpoint.close()
    checkpoint.close()
    with pytest.raises(ValidationError, match="closed"):
        checkpoint.read_rows(NAME, 0, 1)
    with pytest.raises(ValidationError, match="closed"):
        checkpoint.view(NAME)


def test_threads_read_at_once(write):
    with open_checkpoint(write("m.safetensors", {f"l{i}.weight": (64, 33) for i in range(8)})) as checkpoint:
        jobs = [(name, row) for name in checkpoint.tensors for row in range(0, 64, 8)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda job: checkpoint.read_rows(job[0], job[1], job[1] + 8), jobs))
        for (name, row), rows in zip(jobs, found, strict=True):
            np.testing.assert_array_equal(rows, checkpoint.view(name)[row : row + 8])


def test_no_descriptor_is_left_open(write, write_raw):
    good, bad = write("m.safetensors", {NAME: (4, 8)}), write_raw({"a": {}})
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    open_checkpoint(good).close()
    open_checkpoint(good)  # dropped without close
    with pytest.raises(MetadataError):
        open_checkpoint(bad)
    assert len(list(descriptors.iterdir())) == before


# Shards


@pytest.fixture
def sharded(write, write_json) -> Path:
    write(
        "s/model-00001-of-00002.safetensors",
        {"b.weight": (3, 4), "a.weight": (2, 4)},
        {"format": "pt", "n": "1"},
    )
    write("s/model-00002-of-00002.safetensors", {"c.weight": (5, 4)}, {"format": "pt", "n": "2"})
    names = dict.fromkeys(("a.weight", "b.weight"), "model-00001-of-00002.safetensors")
    return write_json(
        "s/model.safetensors.index.json",
        {
            "metadata": {"total_size": 160},
            "weight_map": names | {"c.weight": "model-00002-of-00002.safetensors"},
        },
    )


def test_shards_are_one_mapping_in_file_and_offset_order(sharded):
    with ShardedSafeTensorsAdapter(sharded) as adapter:
        assert len(adapter) == 3
        assert list(adapter)[-1] == "c.weight"
        places = [(info.path.name, info.offset) for info in adapter.tensors.values()]
        assert places == sorted(places)
        assert adapter.metadata == {"format": "pt", "n": "1"}
        assert adapter["c.weight"].shape == (5, 4)


@pytest.mark.parametrize("what", ["index", "folder", "file"])
def test_load_sharded_safetensors_takes_what_there_is(sharded, what):
    path = {
        "index": sharded,
        "folder": sharded.parent,
        "file": sharded.parent / "model-00002-of-00002.safetensors",
    }
    opened: Any = load_sharded_safetensors(path[what])
    with opened as tensors:
        assert "c.weight" in tensors
        assert len(tensors) == (1 if what == "file" else 3)
        assert tensors["c.weight"].shape == (5, 4)


def test_a_tensor_in_two_shards_is_refused(sharded, write):
    write("s/model-00002-of-00002.safetensors", {"c.weight": (5, 4), "a.weight": (2, 4)})
    with pytest.raises(MetadataError, match=r"a\.weight.*also in model-00001") as caught:
        open_checkpoint(sharded)
    assert caught.value.tensor == "a.weight"


def test_a_missing_shard_is_named(sharded):
    (sharded.parent / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_checkpoint(sharded)


def test_a_tensor_that_the_index_promises_must_be_there(sharded, write):
    write("s/model-00002-of-00002.safetensors", {"d.weight": (5, 4)})
    with pytest.raises(MetadataError, match=r"c\.weight.*is not in it"):
        open_checkpoint(sharded)


def test_a_tensor_that_the_index_does_not_list_is_read(sharded, write):
    write("s/model-00002-of-00002.safetensors", {"c.weight": (5, 4), "d.weight": (5, 4)})
    with open_checkpoint(sharded) as checkpoint:
        assert "d.weight" in checkpoint.tensors


def test_opening_seven_billion_weights_reads_each_header_once(write_raw, write_json, tmp_path, monkeypatch):
    # Four shards with Dream-7B's tensors, whose data are holes; what is mapped would be read by nobody's count.
    read, preadv = [], os.preadv

    def counted(file, buffers, offset):
        count = preadv(file, buffers, offset)
        read.append(count)
        return count

    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.delattr("workbench.checkpoint.readers.byte_source.LocalFile._map")
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (3584, 3584),
        "self_attn.k_proj": (512, 3584),
        "self_attn.v_proj": (512, 3584),
    }
    shapes |= {"self_attn.o_proj": (3584, 3584), "mlp.gate_proj": (18944, 3584), "mlp.up_proj": (18944, 3584)}
    shapes |= {
        "mlp.down_proj": (3584, 18944),
        "input_layernorm": (3584,),
        "post_attention_layernorm": (3584,),
    }
    weight_map, headers = {}, 0
    for shard in range(4):
        header, offset = {}, 0
        for block in range(shard * 7, shard * 7 + 7):
            for module, shape in shapes.items():
                name, end = f"model.layers.{block}.{module}.weight", offset + 2 * int(np.prod(shape))
                header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
                weight_map[name], offset = f"model-{shard + 1:05d}-of-00004.safetensors", end
        path = write_raw(header, name=f"model-{shard + 1:05d}-of-00004.safetensors")
        headers += path.stat().st_size
        os.truncate(path, path.stat().st_size + offset)
    write_json("model.safetensors.index.json", {"weight_map": weight_map})
    with open_checkpoint(tmp_path) as checkpoint:
        assert len(checkpoint.layers) == 4 * 7 * 7
        assert checkpoint.nbytes > 12e9
        assert sum(read) == headers
        assert len(read) == 2 * 4, "its length, and it"
        assert len(checkpoint.fingerprint) == 64


# Fingerprints and changes


def test_a_fingerprint_knows_content_not_place(write, tmp_path):
    path = write("m.safetensors", {NAME: (4, 8)})
    (tmp_path / "folder").mkdir()
    shutil.copy(path, tmp_path / "folder" / "model.safetensors")
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "x"}')
    with open_checkpoint(path) as one, open_checkpoint(tmp_path / "folder") as two:
        assert one.fingerprint == two.fingerprint
        assert len(one.fingerprint) == 64


def test_a_fingerprint_is_that_of_the_shards_whatever_their_names(sharded, tmp_path):
    (tmp_path / "t").mkdir()
    for old, new in [("1", "2"), ("2", "1")]:
        name = "model-0000{}-of-00002.safetensors"
        shutil.copy(sharded.parent / name.format(old), tmp_path / "t" / name.format(new))
    with open_checkpoint(sharded) as one, open_checkpoint(tmp_path / "t") as two:
        assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize("byte", [0, 64 * 1024, 128 * 1024 - 1])
def test_a_fingerprint_samples_start_middle_and_end(tmp_path, write_raw, byte):
    header = {"mask": {"dtype": "U8", "shape": [128 * 1024], "data_offsets": [0, 128 * 1024]}}
    data = bytearray(128 * 1024)
    with open_checkpoint(write_raw(header, bytes(data), "a.safetensors")) as checkpoint:
        before = checkpoint.fingerprint
    data[byte] = 1
    with open_checkpoint(write_raw(header, bytes(data), "b.safetensors")) as checkpoint:
        assert checkpoint.fingerprint != before


def test_a_fingerprint_covers_the_header(write):
    prints = set()
    for name, metadata in [("a", {"x": "1"}), ("a", {"x": "2"}), ("b", {"x": "1"})]:
        with open_checkpoint(write("m.safetensors", {name: (4, 8)}, metadata)) as checkpoint:
            prints.add(checkpoint.fingerprint)
    assert len(prints) == 3


def test_a_source_truncated_while_open_is_noticed(write):
    path = write("m.safetensors", {NAME: (64, 64)})
    with open_checkpoint(path) as checkpoint:
        os.truncate(path, path.stat().st_size - 100)
        with pytest.raises(QuantizationError, match=rf"m\.safetensors.*{NAME}") as caught:
            checkpoint.read_rows(NAME, 0, 64)
        assert caught.value.tensor == NAME
        assert caught.value.path == path
        with pytest.raises(QuantizationError, match="changed"):
            checkpoint.view(NAME)


def test_a_source_modified_in_place_is_noticed(write):
    path = write("m.safetensors", {NAME: (64, 64)})
    with open_checkpoint(path) as checkpoint:
        checkpoint.check_unchanged()
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        with pytest.raises(QuantizationError, match="changed on disk"):
            checkpoint.check_unchanged()
        with pytest.raises(QuantizationError, match="changed on disk"):
            checkpoint.read_into(NAME, 0, bytearray(4))


@pytest.mark.parametrize("action", ["replace", "delete"])
def test_a_source_replaced_or_deleted_is_noticed(write, action):
    path = write("m.safetensors", {NAME: (64, 64)})
    other = write("n.safetensors", {NAME: (64, 64)})
    with open_checkpoint(path) as checkpoint:
        other.replace(path) if action == "replace" else path.unlink()
        with pytest.raises(QuantizationError, match="changed on disk"):
            checkpoint.check_unchanged()
