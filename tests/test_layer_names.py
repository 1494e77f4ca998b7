"""Patterns mean what people expect of them, mistyped ones are told what was meant; block 2 comes before 10."""

from __future__ import annotations

import pytest

from workbench.layer_names import matching, natural_order, unmatched

NAMES = [f"blocks.{block}.{part}.weight" for block in range(12) for part in ("attn.to_q", "attn.to_k", "ff")]
ROLES = ["attention.q", "attention.k", "mlp.in"] * 12


def found(pattern: str) -> list[str]:
    return [NAMES[row] for row in matching(pattern, NAMES, ROLES)]


def test_names_globs_and_roles() -> None:
    assert found("blocks.1.ff.weight") == ["blocks.1.ff.weight"]
    assert len(found("*attn*")) == 24
    assert found("blocks.1?.ff*") == ["blocks.10.ff.weight", "blocks.11.ff.weight"]
    assert found("role:attention.q") == found("role:attn.q") == found("*.to_q.*")
    assert found("role:attn*") == found("role:attention*") == found("*attn*")
    assert found("blocks.1.ff") == found("*ATTN*") == found("role:attention") == []


def test_a_name_with_wildcards_in_it_is_itself() -> None:
    assert matching("a[0].weight", ["a0.weight", "a[0].weight"], ["other", "other"]) == [1]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("*atn*", "*attn*"),
        ("blocks.*.attn.to_qq.weight", "blocks.*.attn.to_q.weight"),
        ("block.1.ff.weight", "blocks.1.ff.weight"),
        ("to_q", "*to_q*"),
        ("role:atention.q", "role:attention.q"),
        ("role:atention*", "role:attention*"),
    ],
)
def test_what_was_meant_is_named(pattern: str, meant: str) -> None:
    assert unmatched(pattern, NAMES, ROLES) == f"{pattern!r} matches no layer. Did you mean {meant!r}?"
    assert found(meant)


def test_roles_that_there_are_are_listed_where_none_is_near() -> None:
    assert unmatched("role:xyz", NAMES, ROLES).endswith("Roles here are attention.k, attention.q, mlp.in.")
    assert unmatched("*xyz*", NAMES, ROLES) == "'*xyz*' matches no layer."


def test_numbers_count_and_words_stay_as_they_come() -> None:
    assert [NAMES[row] for row in natural_order(NAMES)] == NAMES, "the model's own order stays"
    written = sorted(NAMES)  # as safetensors writes them: 0, 1, 10, 11, 2, …
    assert written != NAMES
    shown = [written[row] for row in natural_order(written)]
    assert [name.split(".")[1] for name in shown[::3]] == [str(block) for block in range(12)]
    assert shown[:3] == written[:3]
    deep = ["a.1.b.10.q", "a.1.b.9.q", "a.0.b.10.q", "head", "a.0.b.9.q"]
    assert [deep[row] for row in natural_order(deep)] == [
        "a.0.b.9.q",
        "a.0.b.10.q",
        "a.1.b.9.q",
        "a.1.b.10.q",
        "head",
    ]
