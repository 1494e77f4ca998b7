"""A reader around a reader is one: the same checks, the same reads, and a source of bytes that is no file will do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

import workbench as wb
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.checkpoint.original_names import Part
from workbench.checkpoint.readers.fusion import FusedReader
from workbench.checkpoint.readers.gguf import GgufReader
from workbench.checkpoint.readers.reader import DerivedReader, TensorReader
from workbench.checkpoint.readers.row_cache import RowCache
from workbench.checkpoint.readers.safetensors import SafeTensorsAdapter
from workbench.checkpoint.readers.selection import SelectedReader
from workbench.errors import QuantizationError, ShapeMismatchError, ValidationError
from workbench.folds.folded import FoldedReader

Make = Callable[..., Path]

WEIGHT = np.arange(24, dtype=np.float32).reshape(6, 4)


@pytest.fixture
def checkpoint(make_checkpoint: Make) -> Checkpoint:
    return open_checkpoint(make_checkpoint({"proj.weight": WEIGHT}))


AROUND: dict[str, Callable[[TensorReader], TensorReader]] = {
    "as it is": DerivedReader,
    "under another name": lambda source: SelectedReader(source, {"new": "proj.weight"}),
    "put together again": lambda source: FusedReader(
        source, {"new": (Part("proj.weight", 0, 2), Part("proj.weight", 2, 6))}
    ),
    "with a cache": lambda source: RowCache(source, whole=False),
    "with a cache of whole tensors": lambda source: RowCache(source, whole=True),
    "with no folds": lambda source: FoldedReader(source, []),
    "several, one around the other": lambda source: RowCache(
        SelectedReader(SelectedReader(source, {"other": "proj.weight"}), {"new": "other"}), whole=False
    ),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_a_reader_around_a_reader_reads_and_checks_alike(
    checkpoint: Checkpoint, around: Callable[[TensorReader], TensorReader]
) -> None:
    with around(checkpoint) as reader:
        assert isinstance(reader, TensorReader)
        (name,) = reader.tensors
        np.testing.assert_array_equal(reader.read_rows(name, 1, 5), WEIGHT[1:5])
        out = np.zeros((4, 4), np.uint32)
        assert reader.read_rows(name, 1, 5, out) is out
        np.testing.assert_array_equal(out.view(np.float32), WEIGHT[1:5])
        some = np.zeros(10, np.uint8)
        reader.read_into(name, 14, some)
        np.testing.assert_array_equal(some, WEIGHT.view(np.uint8).reshape(-1)[14:24])
        np.testing.assert_array_equal(reader.view(name), WEIGHT)
        with pytest.raises(ValidationError, match="there is no tensor 'nowhere'"):
            reader.read_rows("nowhere", 0, 1)
        with pytest.raises(ShapeMismatchError, match="no rows 5 to 7"):
            reader.read_rows(name, 5, 7)
        with pytest.raises(ShapeMismatchError, match="not within it"):
            reader.read_into(name, 90, some)
        with pytest.raises(ShapeMismatchError, match="the array to fill"):
            reader.read_rows(name, 0, 2, np.zeros((3, 4), np.float32))
        reader.check_unchanged()
        path = reader.tensors[name].path
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(QuantizationError, match="changed on disk"):
            reader.read_rows(name, 0, 1)
    with pytest.raises(ValidationError, match="was closed"):
        checkpoint.read_rows("proj.weight", 0, 1)


def test_a_checkpoint_around_a_reader_is_the_same_checkpoint(checkpoint: Checkpoint) -> None:
    cached = checkpoint.around(RowCache(checkpoint, whole=False))
    assert isinstance(cached, Checkpoint)
    assert (cached.layers, cached.roles, cached.fingerprint) == (
        checkpoint.layers, checkpoint.roles, checkpoint.fingerprint,
    )  # fmt: skip
    assert cached.side_files == checkpoint.side_files
    assert cached.opened is checkpoint
    checkpoint.close()


# ---- the cache --------------------------------------------------------------------------------------------------


class Noted(DerivedReader):
    """Notes which rows are read; the last two cannot be."""

    def __init__(self, source: TensorReader) -> None:
        super().__init__(source)
        self.read: list[tuple[int, int]] = []

    def read_rows(self, name: str, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        self.read.append((start, stop))
        if start == 4:
            raise QuantizationError("changed")
        return super().read_rows(name, start, stop, out)


def test_a_thread_keeps_the_rows_it_read_last(checkpoint: Checkpoint) -> None:
    source, name = Noted(checkpoint), "proj.weight"
    rows = RowCache(source, whole=False)
    for _ in range(2):
        np.testing.assert_array_equal(rows.read_rows(name, 0, 2), WEIGHT[:2])
    with pytest.raises(ValueError, match="read-only"):
        rows.read_rows(name, 0, 2)[0] = 1
    with pytest.raises(QuantizationError):
        rows.read_rows(name, 4, 6)
    np.testing.assert_array_equal(rows.read_rows(name, 0, 2), WEIGHT[:2])
    assert source.read == [(0, 2), (4, 6), (0, 2)]
    source.read.clear()
    whole = RowCache(source, whole=True)
    np.testing.assert_array_equal(whole.read_rows(name, 2, 3), WEIGHT[2:3])
    np.testing.assert_array_equal(whole.read_rows(name, 4, 6), WEIGHT[4:6])
    assert source.read == [(0, 6)]
    checkpoint.close()


# ---- bytes that are no file of this machine ---------------------------------------------------------------------


class Remote:
    """Bytes in memory, as a remote file would be: read by position, and nothing else."""

    def __init__(self, path: Path, *, watched: bool = True) -> None:
        self.data = np.frombuffer(REMOTE[path], np.uint8)
        self.size = self.data.size
        self.reads = 0

    def read_into(self, offset: int, buffer: NDArray[np.uint8], tensor: str | None = None) -> None:
        self.reads += 1
        buffer[:] = self.data[offset : offset + buffer.size]

    def view(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return np.ndarray(shape, dtype, buffer=self.data, offset=offset)

    def check_unchanged(self, tensor: str | None = None) -> None:
        pass

    def close(self) -> None:
        pass


REMOTE: dict[Path, bytes] = {}


def test_a_source_of_bytes_elsewhere_is_read_like_a_file(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint(
        {"blocks.0.proj.weight": np.ones((64, 64), np.float32), "bias": np.zeros(3, np.float32)}
    )
    path = Path("/nowhere/model.safetensors")
    local = next(iter(open_checkpoint(source).tensors.values())).path
    monkeypatch.setitem(REMOTE, path, local.read_bytes())
    with SafeTensorsAdapter(path, open_bytes=Remote) as found, SafeTensorsAdapter(local) as expected:
        assert list(found.tensors) == list(expected.tensors)
        assert found.fingerprint == expected.fingerprint
        for name in expected.tensors:
            np.testing.assert_array_equal(found[name], expected[name])
            np.testing.assert_array_equal(found.read_rows(name, 0, 3), expected.read_rows(name, 0, 3))


def test_a_gguf_file_elsewhere_too(zoo_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("/nowhere/model.gguf")
    monkeypatch.setitem(REMOTE, path, zoo_gguf.read_bytes())
    with GgufReader(path, open_bytes=Remote) as found, GgufReader(zoo_gguf) as expected:
        assert list(found.tensors) == list(expected.tensors)
        assert found.fingerprint == expected.fingerprint


@pytest.fixture
def zoo_gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_tensor("a.weight", WEIGHT)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_public_names_are_readers() -> None:
    assert issubclass(wb.SafeTensorsAdapter, TensorReader)
    assert issubclass(wb.ShardedSafeTensorsAdapter, TensorReader)
