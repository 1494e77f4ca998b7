"""Expressions compute what Python would, and nothing that is no expression is ever evaluated."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigurationError
from workbench.expressions.evaluation import evaluate, mask
from workbench.expressions.parsing import MAX_LENGTH, is_condition

ROWS = 6
COLUMNS: dict[str, np.ndarray[Any, Any]] = {
    "bits": np.array([2, 3, 4, 5, 8, 16]),
    "nsr": np.array([0.25, -1.5, 3.0, 0.0, -7.0, np.nan]),
    "name": np.array(["blocks.0.attn.q", "blocks.1.mlp", "in", "", "<b>", "attn"], object),
    "role": np.array(["attention.q", "mlp.in", "in", "other", "head", "attn"]),
    "locked": np.array([True, False, True, True, False, False]),
}

numbers = st.recursive(
    st.sampled_from(["bits", "nsr"]) | st.integers(0, 12).map(str) | st.sampled_from(["0.5", ".25", "1e3"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.integers(-3, 3)).map(lambda t: f"({t[0]} ** {t[1]})"),
        inner.map(lambda text: f"(-{text})"),
    ),
    max_leaves=6,
)
texts = st.sampled_from(["name", "role"])
words = st.sampled_from(["attn", "in", "", "<b>", "."])
comparisons = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
truths = st.recursive(
    st.one_of(
        st.just("locked"),
        st.tuples(numbers, comparisons, numbers).map(" ".join),
        st.tuples(numbers, comparisons, numbers, comparisons, numbers).map(" ".join),
        st.tuples(words, st.sampled_from(["in", "not in"]), texts).map(lambda t: f'"{t[0]}" {t[1]} {t[2]}'),
        st.tuples(texts, st.sampled_from(["==", "!="]), words).map(lambda t: f"{t[0]} {t[1]} '{t[2]}'"),
        st.tuples(texts, st.sampled_from(["==", "!="]), texts).map(" ".join),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=5,
)


def by_python(text: str) -> list[Any]:
    """The referee: Python itself, row by row, on NumPy's floats so that dividing by zero is inf."""

    class Floats(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            if isinstance(node.value, str):
                return node
            return ast.Call(ast.Name("float64", ast.Load()), [node], [])

    tree = ast.fix_missing_locations(Floats().visit(ast.parse(text, mode="eval")))
    code = compile(tree, "<referee>", "eval")
    values = []
    for row in range(ROWS):
        scope = {
            key: np.float64(column[row]) if column.dtype.kind in "if" else column[row]
            for key, column in COLUMNS.items()
        }
        with np.errstate(all="ignore"):
            values.append(eval(code, {"float64": np.float64, "__builtins__": {}}, scope))  # noqa: S307
    return values


@given(numbers)
def test_numbers_are_those_of_python(text: str) -> None:
    found = evaluate(text, COLUMNS)
    assert found.dtype == np.float64
    assert found.shape == (ROWS,)
    np.testing.assert_allclose(found, np.array(by_python(text), np.float64), rtol=1e-9, atol=1e-12)


@given(truths)
def test_conditions_are_those_of_python(text: str) -> None:
    found = mask(text, COLUMNS)
    assert found.tolist() == [bool(value) for value in by_python(text)]


HOSTILE = {
    "name.__class__": "name.__class__",
    "__import__('os').system('true')": "__import__",
    "__builtins__": "__builtins__",
    "bits[0]": "bits[0]",
    "lambda: 1": "lambda: 1",
    "[x for x in name]": "[x for x in name]",
    "(x for x in name)": "for x in name",
    "bits if locked else nsr": "bits if locked",
    "nsr ** bits": "bits",
    "9 ** 9 ** 9": "9 ** 9",
    "nsr ** 1000": "1000",
    "9" * 400: "too large a number",
    "1e999": "too large a number",
    "{bits}": "{bits}",
    "(bits, nsr)": "(bits, nsr)",
    "f'{bits}'": "cannot be read",
    "b'bits' in name": "cannot be read",
    "'\\x41' in name": "cannot be read",
    "bits; nsr": "cannot be read",
    "(bits := 1)": "bits := 1",
    "bits is nsr": "bits is nsr",
    "bits @ nsr": "bits @ nsr",
    "bits << 60": "bits << 60",
    "~locked": "~locked",
    "await bits": "await bits",
    "(yield)": "yield",
    "1j * bits": "cannot be read",
    "0x10 + bits": "cannot be read",
    "…": "cannot be read",
    "bits\x00": "cannot be read",
    "": "cannot be read",
    "True": "True",
    "None": "None",
    "...": "'...'",
    "(" * 300 + "bits" + ")" * 300: "cannot be read|too large",
    "-" * 500 + "bits": "too large",
    "+".join(["bits"] * 150): "too large",
    "bits+" * 2500 + "bits": "12,504 characters",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:30].encode("unicode_escape").decode())
def test_what_is_hostile_is_refused_and_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("something was evaluated")

    monkeypatch.setattr("workbench.expressions.evaluation.numexpr.evaluate", never)
    pattern = HOSTILE[text]
    with pytest.raises(ConfigurationError) as caught:
        evaluate(text, COLUMNS)
    assert caught.value.key == "expression"
    assert caught.value.value == text
    assert any(piece in str(caught.value) for piece in pattern.split("|"))
    for place in ("locked and {}", "{} % 2 > 1"):  # nor is a harmless part beside it
        with pytest.raises(ConfigurationError):
            evaluate(place.format(text), COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nrs > 1", "did you mean nsr"),
        ("size > 1", "columns are bits, nsr, name"),
        ("name", "is a text; compare it"),
        ("bits and locked", "'bits' is a number where a condition is needed"),
        ("locked + 1", "'locked' is a condition where a number is needed"),
        ("name < 'a'", "texts are compared with ==, != and in"),
        ("name in 'abc'", 'as in "attn" in name'),
        ("bits == '4'", "compares a number with a text"),
        ("4 <", "cannot be read"),
    ],
)
def test_mistakes_are_explained(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("+", r"\+")):
        evaluate(text, COLUMNS)


def test_a_number_is_no_condition() -> None:
    with pytest.raises(ConfigurationError, match="is a number, not a condition"):
        mask("bits + 1", COLUMNS)


@given(st.text(max_size=40) | st.text("bitsnr .()[]*%<=>'\"019,:_@-+", max_size=40))
def test_any_text_is_values_or_an_error(text: str) -> None:
    try:
        found = evaluate(text, COLUMNS)
    except ConfigurationError:
        return
    assert found.shape == (ROWS,)


def test_no_rows_and_many() -> None:
    assert evaluate("nsr > 0 and 'a' in name", {key: value[:0] for key, value in COLUMNS.items()}).shape == (
        0,
    )
    many = {key: np.resize(value, 100_000) for key, value in COLUMNS.items()}
    assert mask("bits < 5 and 'attn' in name", many).sum() == 16_667
    assert len("bits + " * 100) < MAX_LENGTH


HEADINGS = {"NSR": "nsr", "D": "nsr", "H(q)": "bits", "layer": "name", "κ": "none"}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("*attn*", [0, 5]),
        ("not *attn*", [1, 2, 3, 4]),
        ("*attn* and bits < 4", [0]),
        ("bits<4 and(*attn*)", [0]),
        ("*mlp or role:attention.q", [0, 1]),
        ("role:attn* and not locked", [5]),
        ("role:attn.q", [0]),
        ('"blocks.1.mlp"', [1]),
        ("blocks.*", [0, 1]),
        ("blocks.?.mlp and locked or bits > 8", [5]),
        ("*nothing*", []),
        ("NSR > 0.2", [0, 2]),
        ("nsr > .2 and d > 1", [2]),
        ("Bits < 3", [0]),
        ("H(q) * 2 >= 16", [4, 5]),
        ("bits*2 > 9", [3, 4, 5]),
        ("bits *2 > 9", [3, 4, 5]),
        ("bits* 2 > 9", [3, 4, 5]),
        ("2 ** 3 < bits", [5]),
        ('"attn" in layer', [0, 5]),
    ],
)
def test_patterns_and_headings_are_conditions(text: str, rows: list[int]) -> None:
    assert np.flatnonzero(mask(text, COLUMNS, HEADINGS)).tolist() == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("role:atention.q", "Did you mean 'role:attention.q'"),
        ('"mpl"', "matches no layer"),
        ("NRS > 1", "did you mean nsr"),
        ("κ > 1", "is no column"),
        ("*attn* > 1", "compares a text with a number"),
        ("bits + *attn*", "is a text where a number is needed"),
        ("H(bits) > 1", "is not allowed"),
        ("D(q) > 1", "is not allowed"),
        ("role:", "cannot be read"),
    ],
)
def test_mistakes_in_patterns_and_headings_are_explained(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        evaluate(text, COLUMNS, HEADINGS)
    assert message in str(caught.value)


def test_a_name_in_its_own_case_comes_first() -> None:
    columns = {"t": np.array([1.0]), "T": np.array([2.0])}
    assert evaluate("t", columns).tolist() == [1]
    assert evaluate("T", columns).tolist() == [2]


@given(st.text("*attn?. []()role:mlp andotbi<3", max_size=40))
def test_any_pattern_is_a_condition_or_an_error(text: str) -> None:
    try:
        found = mask(text, COLUMNS, HEADINGS)
    except ConfigurationError:
        return
    assert found.shape == (ROWS,)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("attn q", False), ("to_q", False), ("blocks.2", False), ("= locked", True), ("bits < 4", True),
        ("*attn*", True), ("role:mlp.in", True), ("not role:mlp", True), ("role == 'head'", True),
    ],
)  # fmt: skip
def test_a_filter_is_told_from_words(text: str, condition: bool) -> None:
    assert is_condition(text) == condition
