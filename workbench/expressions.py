"""Filters and extra columns as people write them: ``bits < 4 and "attn" in name``, ``8 * nbytes / params``.

An expression is read by `ast`, checked against a short list of what may occur, and only then computed: numbers by
numexpr in float64, texts by NumPy. Nothing else that it may say is ever evaluated.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numexpr
import numpy as np
from numpy.typing import NDArray

from workbench.errors import ConfigurationError

MAX_LENGTH = 1000
"""Characters of an expression, at most."""

MAX_NODES = 200
"""Names, numbers, operators and so on in an expression, at most."""

MAX_DEPTH = 40
"""How deep they may be nested."""

MAX_OPERANDS = 30
"""Arrays that numexpr takes at once, at most."""

MAX_EXPONENT = 16
"""Greatest exponent, up or down."""

WAY_OUT = (
    'An expression has names of columns, numbers, texts in quotes, + - * / % **, comparisons, "text" in column, '
    "and, or, not."
)

# What Python would warn about while reading it is refused before: escapes, prefixes, names glued to numbers.
_TOKEN = re.compile(
    r"""\s+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w"'])|[^\W\d]\w*(?!["'])|"[^"\\\n]*"|'[^'\\\n]*'"""
    r"|[-+*/%<>=!()\[\]{}.,:@&|^~]+"
)
_ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", np.add),
    ast.Sub: ("-", np.subtract),
    ast.Mult: ("*", np.multiply),
    ast.Div: ("/", np.divide),
    ast.Mod: ("%", np.mod),
    ast.Pow: ("**", np.power),
}
_COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Eq: ("==", np.equal),
    ast.NotEq: ("!=", np.not_equal),
    ast.Lt: ("<", np.less),
    ast.LtE: ("<=", np.less_equal),
    ast.Gt: (">", np.greater),
    ast.GtE: (">=", np.greater_equal),
}

Kind = Literal["number", "truth", "text"]


def evaluate(text: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The values of an expression over columns.

    Parameters
    ----------
    text : str
        Such as ``"1e9 * nsr / nbytes"`` or ``"3 <= bits < 6 and not locked"``.
    columns : mapping of str to array [rows]
        By name; arrays of numbers, of bool, or of str (dtype object or str).

    Returns
    -------
    array of float64 or bool, [rows]
        Numbers are float64 throughout: dividing by zero gives inf or NaN, and NaN compares as false.

    Raises
    ------
    ConfigurationError
        If it has anything else than columns, numbers, texts, arithmetic, comparisons, and/or/not, is too long or too
        deep, or mixes kinds. Nothing is evaluated then. Carries ``key="expression"`` and the ``value``.
    """
    tree = _read(text)
    # All of it is checked, on no rows, before any of it is computed.
    _compute(text, tree, {name: np.asarray(values)[:0] for name, values in columns.items()})
    return _compute(text, tree, columns)


def mask(text: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """The rows for which a condition holds, see `evaluate`.

    Raises
    ------
    ConfigurationError
        Besides, if the expression is a number and no condition.
    """
    values = evaluate(text, columns)
    if values.dtype != np.bool_:
        raise ConfigurationError(
            f"{_shortened(text)!r} is a number, not a condition; compare it with something, as in nsr > 0.01.",
            key="expression",
            value=text,
        )
    return values


def _compute(text: str, tree: ast.expr, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    compiler = _Compiler(text, columns, len(next(iter(columns.values()), ())))
    found = compiler.visit(tree)
    if found.kind == "text":
        raise compiler.refused(tree, "is a text; compare it, as in role == 'mlp.in'")
    return compiler.compute(found).astype(np.bool_ if found.kind == "truth" else np.float64, copy=False)


@dataclass(frozen=True)
class _Term:
    """A checked piece: what it is, and its value where that is known already."""

    kind: Kind
    code: str = ""
    """For numexpr."""
    value: Any = None
    """A constant (float or str), or a column of texts."""


class _Compiler:
    """Turns checked pieces into code for numexpr, and collects the arrays that the code refers to."""

    def __init__(self, text: str, columns: Mapping[str, NDArray[Any]], rows: int) -> None:
        self.text = text
        self.columns = columns
        self.rows = rows
        self.operands: dict[str, NDArray[Any]] = {}
        self.names: dict[str, _Term] = {}

    def visit(self, node: ast.expr) -> _Term:
        match node:
            case ast.Name(id=name):
                return self._column(name, node)
            case ast.Constant(value=str() as value):
                return _Term("text", value=value)
            case ast.Constant(value=bool() | None):
                raise self.refused(
                    node, "is no number and no text; a column such as locked is a condition by itself"
                )
            case ast.Constant(value=int() | float() as value):
                return self._number(value, node)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                term = self._of_kind("truth", operand)
                return _Term("truth", f"(~{term.code})")
            case ast.UnaryOp(op=(ast.UAdd() | ast.USub()) as sign, operand=operand):
                term = self._of_kind("number", operand)
                if isinstance(sign, ast.UAdd):
                    return term
                if term.value is not None:
                    return self._constant(-term.value)
                return _Term("number", f"(-{term.code})")
            case ast.BoolOp(op=operator, values=values):
                joint = " & " if isinstance(operator, ast.And) else " | "
                return _Term("truth", f"({joint.join(self._of_kind('truth', one).code for one in values)})")
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
                return self._arithmetic(left, operator, right)
            case ast.Compare(left=left, ops=operators, comparators=others):
                sides = [left, *others]
                parts = [
                    self._comparison(node, sides[place], operator, sides[place + 1])
                    for place, operator in enumerate(operators)
                ]
                return _Term("truth", "(" + " & ".join(parts) + ")")
        raise self.refused(node, "is not allowed")

    def compute(self, term: _Term) -> NDArray[Any]:
        """The values of a piece, for every row."""
        if term.value is not None:
            return np.full(self.rows, term.value)
        if term.code in self.operands:
            return self.operands[term.code]
        if not self.rows:
            return np.zeros(0, np.bool_ if term.kind == "truth" else np.float64)
        used = {name: array for name, array in self.operands.items() if name in term.code}
        # Without optimisation powers are powers, not products that round differently.
        values: NDArray[Any] = numexpr.evaluate(term.code, used, {}, optimization="none", truediv=True)
        return values

    def refused(self, node: ast.AST, why: str) -> ConfigurationError:
        return _refused(self.text, node, why)

    # ---- pieces -------------------------------------------------------------------------------------------

    def _column(self, name: str, node: ast.AST) -> _Term:
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, 1)
            hint = f"; did you mean {near[0]}" if near else f"; columns are {', '.join(self.columns)}"
            raise self.refused(node, f"is no column{hint}")
        if name not in self.names:
            values = np.asarray(self.columns[name])
            if values.dtype.kind in "OUT":
                self.names[name] = _Term("text", value=values.astype(object))
            else:
                kind: Kind = "truth" if values.dtype == np.bool_ else "number"
                self.names[name] = self._operand(
                    values if kind == "truth" else values.astype(np.float64), kind
                )
        return self.names[name]

    def _operand(self, values: NDArray[Any], kind: Kind) -> _Term:
        if len(self.operands) >= MAX_OPERANDS:
            raise ConfigurationError(
                f"The expression needs more than {MAX_OPERANDS} columns and comparisons of texts; make it shorter.",
                key="expression",
                value=self.text,
            )
        # No name is the beginning of another.
        name = f"c{len(self.operands):02d}"
        self.operands[name] = values
        return _Term(kind, name)

    def _number(self, value: float, node: ast.AST) -> _Term:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.refused(node, "is too large a number")
        return self._constant(number)

    def _constant(self, value: float) -> _Term:
        if not math.isfinite(value):
            return self._operand(np.full(self.rows, value), "number")
        return _Term("number", f"({float(value)!r})", value=float(value))

    def _of_kind(self, kind: Kind, node: ast.expr) -> _Term:
        term = self.visit(node)
        if term.kind != kind:
            wanted = {
                "truth": "a condition is needed",
                "number": "a number is needed",
                "text": "a text is needed",
            }
            raise self.refused(
                node, f"is a {'condition' if term.kind == 'truth' else term.kind} where {wanted[kind]}"
            )
        return term

    def _arithmetic(self, left: ast.expr, operator: ast.operator, right: ast.expr) -> _Term:
        sign, function = _ARITHMETIC[type(operator)]
        one, other = self._of_kind("number", left), self._of_kind("number", right)
        if sign == "**" and (other.value is None or abs(other.value) > MAX_EXPONENT):
            raise self.refused(
                right, f"cannot be an exponent; only a number from -{MAX_EXPONENT} to {MAX_EXPONENT} can"
            )
        if one.value is not None and other.value is not None:
            with np.errstate(all="ignore"):
                return self._constant(float(function(np.float64(one.value), np.float64(other.value))))
        if sign == "%":
            # numexpr takes the sign of the left side, as C does; Python and NumPy that of the right.
            with np.errstate(all="ignore"):
                return self._operand(np.mod(self.compute(one), self.compute(other)), "number")
        return _Term("number", f"({one.code} {sign} {other.code})")

    def _comparison(self, node: ast.AST, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> str:
        one, other = self.visit(left), self.visit(right)
        if isinstance(operator, ast.In | ast.NotIn):
            if not isinstance(one.value, str) or other.kind != "text" or isinstance(other.value, str):
                raise self.refused(
                    node, 'is not allowed; "in" looks for a text in a column, as in "attn" in name'
                )
            wanted = isinstance(operator, ast.In)
            found = np.fromiter(((one.value in text) == wanted for text in other.value), np.bool_, self.rows)
            return self._operand(found, "truth").code
        if type(operator) not in _COMPARISONS or one.kind != other.kind or one.kind == "truth":
            raise self.refused(
                node, f"compares a {one.kind} with a {other.kind} in a way that is not allowed"
            )
        sign, function = _COMPARISONS[type(operator)]
        if one.kind == "text":
            if sign not in ("==", "!="):
                raise self.refused(node, "is not allowed; texts are compared with ==, != and in")
            same = np.broadcast_to(np.asarray(function(_boxed(one.value), _boxed(other.value))), self.rows)
            return self._operand(same.astype(np.bool_), "truth").code
        if one.value is not None and other.value is not None:
            return self._operand(np.full(self.rows, function(one.value, other.value)), "truth").code
        return f"({one.code} {sign} {other.code})"


def _boxed(value: Any) -> NDArray[Any]:
    return np.array([value], object) if isinstance(value, str) else value


def _read(text: str) -> ast.expr:
    """The tree of an expression, of bounded size."""
    if len(text) > MAX_LENGTH:
        raise ConfigurationError(
            f"The expression has {len(text):,} characters; allowed: {MAX_LENGTH:,}.",
            key="expression",
            value=text,
        )
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise ConfigurationError(
                f"{_shortened(text[place:])!r} cannot be read. {WAY_OUT}", key="expression", value=text
            )
        place = token.end()
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deep"
        raise ConfigurationError(
            f"{_shortened(text)!r} cannot be read: {reason}. {WAY_OUT}", key="expression", value=text
        ) from None
    _measure(text, tree)
    return tree


def _measure(text: str, tree: ast.expr) -> None:
    level: list[ast.AST] = [tree]
    nodes = 0
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        level = [
            child
            for node in level
            for child in ast.iter_child_nodes(node)
            if not isinstance(child, ast.operator | ast.cmpop | ast.unaryop | ast.boolop | ast.expr_context)
        ]
        if not level:
            break
    if level or nodes > MAX_NODES:
        raise ConfigurationError(
            f"The expression is too large: at most {MAX_NODES} names, numbers and operators, nested at most "
            f"{MAX_DEPTH} deep, are allowed.",
            key="expression",
            value=text,
        )


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _refused(text: str, node: ast.AST, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_shortened(ast.unparse(node))!r} {why}. {WAY_OUT}", key="expression", value=text
    )
