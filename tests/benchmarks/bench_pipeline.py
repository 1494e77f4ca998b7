"""Time and memory of a whole run on a checkpoint with the shapes of Dream-7B, beside `cp` of the same file.

    python tests/benchmarks/bench_pipeline.py            # a 1 GB slice of the model
    python tests/benchmarks/bench_pipeline.py --full     # all of it: 15.2 GB, and as much again for the copy

The weights are generated: normal, 0.02 wide, in four shards of bfloat16. Every export is read back and compared with
the source, as always; GGUF searches for its codes, the others round.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from workbench.system import usable_cores

TARGETS = ("mlx", "compressed-tensors", "parquet", "gguf")

HIDDEN, MLP, KEYS, VOCABULARY, BLOCKS = 3584, 18944, 512, 152064, 28
"""Dream-7B's sizes, which are Qwen2.5-7B's."""


def shapes(blocks: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors of a Dream model."""
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    for block in range(blocks):
        name = f"model.layers.{block}."
        for key, out in (("q", HIDDEN), ("k", KEYS), ("v", KEYS)):
            yield f"{name}self_attn.{key}_proj.weight", (out, HIDDEN)
            yield f"{name}self_attn.{key}_proj.bias", (out,)
        yield name + "self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield name + "mlp.gate_proj.weight", (MLP, HIDDEN)
        yield name + "mlp.up_proj.weight", (MLP, HIDDEN)
        yield name + "mlp.down_proj.weight", (HIDDEN, MLP)
        yield name + "input_layernorm.weight", (HIDDEN,)
        yield name + "post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (vocabulary, HIDDEN)


def generate(folder: Path, blocks: int, vocabulary: int) -> int:
    """Write the checkpoint as a Hugging Face folder of shards; returns its bytes of tensor data."""
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(2**25, np.float32) * np.float32(0.02)).astype(ml_dtypes.bfloat16)
    noise = noise.view(np.uint8)
    tensors = list(shapes(blocks, vocabulary))
    shards = 4
    weight_map, total = {}, 0
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        header, offset = {}, 0
        mine = tensors[len(tensors) * shard // shards : len(tensors) * (shard + 1) // shards]
        for tensor, shape in mine:
            size = 2 * int(np.prod(shape))
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
            weight_map[tensor] = name
            offset += size
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            left = offset
            while left:
                start = 2 * int(rng.integers(0, noise.size // 4))
                left -= file.write(noise[start : start + left].data)
        total += offset
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["DreamModel"], "model_type": "Dream", "hidden_size": HIDDEN, "intermediate_size": MLP,
        "num_hidden_layers": max(blocks, 1), "num_attention_heads": 28, "num_key_value_heads": KEYS // 128,
        "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "vocab_size": vocabulary,
        "mask_token_id": vocabulary - 1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return total


@contextmanager
def generated(blocks: int, vocabulary: int, folder: Path | None) -> Iterator[tuple[Path, int]]:
    """Such a checkpoint, and its bytes of tensor data, for as long as it is needed."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source = Path(name) / "dream"
        source.mkdir()
        yield source, generate(source, blocks, vocabulary)


def warm(source: Path) -> None:
    """Read the source, so that the page cache has it: what was just written has taken its place."""
    for path in source.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(2**24):
                pass


def quantize(source: Path, output: Path, target: str, threads: int) -> dict[str, float]:
    """Run the command line in a process of its own; its report."""
    command = [
        sys.executable, "-m", "workbench", "quantize", str(source), str(output), "--bit-width", "4",
        "--target", target, "--threads", str(threads), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=output.parent)
    report: dict[str, float] = json.loads(done.stdout)
    return report


def measure(
    source: Path, size: int, runs: int, threads: int = 0, targets: Sequence[str] = TARGETS
) -> dict[str, Any]:
    """Seconds and memory of exports to 4 bits, seconds of copies; medians of runs in turn."""
    copy, output = source.parent / "copy", source.parent / "out"
    copies: list[float] = []
    rows: dict[str, list[tuple[float, ...]]] = {target: [] for target in targets}
    for run in range(runs):
        warm(source)
        started = time.perf_counter()
        subprocess.run(["cp", "-r", source, copy], check=True)
        copies.append(time.perf_counter() - started)
        shutil.rmtree(copy)
        for target in targets:
            warm(source)
            started = time.perf_counter()
            report = quantize(source, output, target, threads)
            seconds = time.perf_counter() - started
            rows[target].append((seconds, seconds / copies[-1], report["peak_anon_mb"], report["bpw"]))
            shutil.rmtree(output)
        exports = ", ".join(f"{target} {rows[target][-1][0]:.1f} s" for target in targets)
        print(f"run {run + 1}: cp {copies[-1]:.1f} s, {exports}", file=sys.stderr)
    keys = ("seconds", "ratio", "peak_mb", "bpw")
    exported = {
        target: dict(zip(keys, map(statistics.median, zip(*found, strict=True)), strict=True))
        for target, found in rows.items()
    }
    return {"gb": size / 1e9, "cp_s": statistics.median(copies), "exports": exported}


def show(found: dict[str, Any]) -> None:
    """Print what `measure` found."""
    size, copying = found["gb"], found["cp_s"]
    print(f"checkpoint        {size:7.2f} GB of bf16 in 4 shards, to 4 bits")
    print(f"cp -r             {copying:7.1f} s {size / copying:6.2f} GB/s")
    for target, export in found["exports"].items():
        print(
            f"{target:17} {export['seconds']:7.1f} s {size / export['seconds']:6.2f} GB/s, {export['ratio']:.2f} x cp; "
            f"{export['bpw']:.2f} bpw, peak anonymous memory {export['peak_mb']:.0f} MB",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all 28 blocks and the whole vocabulary")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="workers; as many as it takes by default")
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    args = parser.parse_args()
    blocks, vocabulary = (BLOCKS, VOCABULARY) if args.full else (2, 12_000)
    with generated(blocks, vocabulary, args.folder) as (source, size):
        show(measure(source, size, args.runs, args.threads, args.targets))
    print(f"medians of {args.runs} runs, page cache warm, {usable_cores()} cores")


if __name__ == "__main__":
    main()
