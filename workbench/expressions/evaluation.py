"""Filters and extra columns as people write them: ``bits < 4 and *attn*``, ``8 * nbytes / params``.

An expression is read by `ast`, checked against a short list of what may occur, and only then computed: numbers by
numexpr in float64, texts by NumPy. Nothing else that it may say is ever evaluated.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numexpr
import numpy as np
from numpy.typing import NDArray

from workbench.errors import ExpressionError
from workbench.expressions.parsing import parse, refused, shortened
from workbench.layer_names import is_glob, matching, unmatched

MAX_OPERANDS = 30
"""Arrays that numexpr takes at once, at most."""

MAX_EXPONENT = 16
"""Greatest exponent, up or down."""

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

ColumnKind = Literal["number", "truth", "text"]


def evaluate(
    text: str, columns: Mapping[str, NDArray[Any]], headings: Mapping[str, str] | None = None
) -> NDArray[Any]:
    """The values of an expression over columns.

    Parameters
    ----------
    text : str
        Such as ``"1e9 * damage / nbytes"`` or ``"3 <= bits < 6 and not locked"``. A pattern such as ``*attn*``,
        ``"a-*"`` or ``role:attention.q`` is a condition on the columns ``name`` and ``role``, see
        `workbench.layer_names`.
    columns : mapping of str to array [rows]
        By name; arrays of numbers, of bool, or of str (dtype object or str).
    headings : mapping of str to str, optional
        Other names of columns. Of all names the case counts only where it tells two of them apart.

    Returns
    -------
    array of float64 or bool, [rows]
        Numbers are float64 throughout: dividing by zero gives inf or NaN, and NaN compares as false.

    Raises
    ------
    ExpressionError
        If it has anything else than columns, numbers, texts, arithmetic, comparisons, and/or/not, is too long or too
        deep, or mixes kinds. Nothing is evaluated then. Carries ``key="expression"`` and the ``value``.
    """
    tree = parse(text)
    names = _Names(columns, headings or {})
    # All of it is checked, on no rows, before any of it is computed.
    _compute(text, tree, {name: np.asarray(values)[:0] for name, values in columns.items()}, names)
    return _compute(text, tree, columns, names)


def mask(
    text: str, columns: Mapping[str, NDArray[Any]], headings: Mapping[str, str] | None = None
) -> NDArray[np.bool_]:
    """The rows for which a condition holds, see `evaluate`.

    Raises
    ------
    ExpressionError
        Besides, if the expression is a number and no condition.
    """
    values = evaluate(text, columns, headings)
    if values.dtype != np.bool_:
        raise ExpressionError(
            f"{shortened(text)!r} is a number, not a condition; compare it with something, as in damage > 0.01.",
            key="expression",
            value=text,
        )
    return values


class _Names:
    """Finds columns by their names and headings."""

    def __init__(self, columns: Mapping[str, NDArray[Any]], headings: Mapping[str, str]) -> None:
        self.columns = columns
        present = {heading: column for heading, column in headings.items() if column in columns}
        self._exact = {**present, **{name: name for name in columns}}
        self._folded = {name.casefold(): column for name, column in reversed(self._exact.items())}

    def find(self, name: str) -> str | None:
        return self._exact.get(name) or self._folded.get(name.casefold())

    def near(self, name: str) -> str | None:
        """The name or heading that is most like one that there is not."""
        shown = {known.casefold(): known for known in self._exact}
        near = difflib.get_close_matches(name.casefold(), shown, 1)
        return shown[near[0]] if near else None


def _compute(text: str, tree: ast.expr, columns: Mapping[str, NDArray[Any]], names: _Names) -> NDArray[Any]:
    compiler = _Compiler(text, columns, len(next(iter(columns.values()), ())), names)
    is_pattern = isinstance(tree, ast.Constant) and isinstance(tree.value, str)
    found = compiler.condition(tree) if is_pattern else compiler.visit(tree)
    if found.kind == "text":
        raise compiler.refused(tree, "is a text; compare it, as in role == 'mlp.in'")
    return compiler.compute(found).astype(np.bool_ if found.kind == "truth" else np.float64, copy=False)


@dataclass(frozen=True)
class _Term:
    """A checked piece: what it is, and its value where that is known already."""

    kind: ColumnKind
    code: str = ""
    """For numexpr."""
    value: Any = None
    """A constant (float or str), or a column of texts."""


class _Compiler:
    """Turns checked pieces into code for numexpr, and collects the arrays that the code refers to."""

    def __init__(self, text: str, columns: Mapping[str, NDArray[Any]], rows: int, known: _Names) -> None:
        self.text = text
        self.columns = columns
        self.rows = rows
        self.known = known
        self.operands: dict[str, NDArray[Any]] = {}
        self.names: dict[str, _Term] = {}

    def visit(self, node: ast.expr) -> _Term:
        match node:
            case ast.Name(id=name):
                return self._column(name, node)
            case ast.Call() if self.known.find(ast.unparse(node)):  # a heading such as H(q)
                return self._column(ast.unparse(node), node)
            case ast.Constant(value=str() as value):
                return _Term("text", value=value)
            case ast.Constant(value=bool() | None):
                raise self.refused(
                    node, "is no number and no text; a column such as locked is a condition by itself"
                )
            case ast.Constant(value=int() | float() as value):
                return self._number(value, node)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _Term("truth", f"(~{self.condition(operand).code})")
            case ast.UnaryOp(op=(ast.UAdd() | ast.USub()) as sign, operand=operand):
                term = self._of_kind("number", operand)
                if isinstance(sign, ast.UAdd):
                    return term
                if term.value is not None:
                    return self._constant(-term.value)
                return _Term("number", f"(-{term.code})")
            case ast.BoolOp(op=operator, values=values):
                joint = " & " if isinstance(operator, ast.And) else " | "
                return _Term("truth", f"({joint.join(self.condition(one).code for one in values)})")
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

    def refused(self, node: ast.AST, why: str) -> ExpressionError:
        return refused(self.text, node, why)

    def condition(self, node: ast.expr) -> _Term:
        """A piece that must be a condition: a text is one by what it matches."""
        match node:
            case ast.Constant(value=str() as pattern) if "name" in self.columns and "role" in self.columns:
                return self._matched(pattern)
        return self._of_kind("truth", node)

    # ---- pieces -------------------------------------------------------------------------------------------

    def _column(self, name: str, node: ast.AST) -> _Term:
        column = self.known.find(name)
        if column is None:
            near = self.known.near(name)
            hint = f"; did you mean {near}" if near else f"; columns are {', '.join(self.columns)}"
            raise self.refused(node, f"is no column{hint}")
        name = column
        if name not in self.names:
            values = np.asarray(self.columns[name])
            if values.dtype.kind in "OUT":
                self.names[name] = _Term("text", value=values.astype(object))
            else:
                kind: ColumnKind = "truth" if values.dtype == np.bool_ else "number"
                self.names[name] = self._operand(
                    values if kind == "truth" else values.astype(np.float64), kind
                )
        return self.names[name]

    def _matched(self, pattern: str) -> _Term:
        names, roles = self.columns["name"].tolist(), self.columns["role"].tolist()
        found = matching(pattern, names, roles)
        if self.rows and not found and not is_glob(pattern):
            raise ExpressionError(unmatched(pattern, names, roles), key="expression", value=self.text)
        rows = np.zeros(self.rows, np.bool_)
        rows[found] = True
        return self._operand(rows, "truth")

    def _operand(self, values: NDArray[Any], kind: ColumnKind) -> _Term:
        if len(self.operands) >= MAX_OPERANDS:
            raise ExpressionError(
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

    def _of_kind(self, kind: ColumnKind, node: ast.expr) -> _Term:
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
