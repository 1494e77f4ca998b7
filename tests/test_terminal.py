"""Tables of the command line show layers as people count them."""

from __future__ import annotations

from typing import Any

from workbench import terminal


def layer(name: str) -> dict[str, Any]:
    return {
        "name": name, "role": "other", "shape": [64, 64], "bits": 4, "scheme": "affine", "group_size": 64, "bpw": 4.5,
        "nbytes": 2304, "nsr": 0.01, "cosine": 0.99, "max_difference": None,
    }  # fmt: skip


def test_block_2_stands_before_block_10() -> None:
    layers = [layer(name) for name in sorted(f"blocks.{number}.to_q.weight" for number in range(12))]
    assert [one["name"] for one in layers[:3]] == [f"blocks.{number}.to_q.weight" for number in (0, 1, 10)]
    wanted = [f"blocks.{number}.to_q.weight" for number in range(12)]
    assert [row["layer"] for row in terminal.layers_of({"layers": layers})] == wanted
    assert [row["layer"] for row in terminal.checks_of({"by_layer": layers})] == wanted
