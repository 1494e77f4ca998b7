"""The syntax of expressions: Python's, and patterns such as ``*attn*`` or ``role:attention.q`` as conditions in it."""

from __future__ import annotations

import ast
import re

from workbench.errors import ConfigurationError

MAX_LENGTH = 1000
"""Characters of an expression, at most."""

MAX_NODES = 200
"""Names, numbers, operators and so on in an expression, at most."""

MAX_DEPTH = 40
"""How deep they may be nested."""

WAY_OUT = (
    'An expression has column headings, numbers, texts in quotes, + - * / % **, comparisons, "text" in column, '
    "patterns such as *attn* or role:attention.q, and, or, not."
)

# What Python would warn about while reading it is refused before: escapes, prefixes, names glued to numbers.
_TOKEN = re.compile(
    r"""\s+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w"'])|[^\W\d]\w*(?!["'])|"[^"\\\n]*"|'[^'\\\n]*'"""
    r"|[-+*/%<>=!()\[\]{}.,:@&|^~]+"
)
# A word with a wildcard, or about a role, where a value may stand.
_PATTERN = re.compile(r"""role:\s?[^\s()"'\\<>=!,]+|[\w.*?\[\]]*[*?][\w.*?\[\]]*""")
_OPERATOR = re.compile(r"\*\*|//|<<|>>|[<>=!:]=|.")
_ENDS_A_CONDITION = re.compile(r"\s*(\)|$|(and|or)\b)")
_BEFORE_A_VALUE = {"and", "or", "not", "in", "is", "if", "else"}


def is_condition(text: str) -> bool:
    """Whether a filter is a condition, not words to look for: it begins with ``=``, or has a sign that no name has."""
    return re.search(r"^\s*=|[<>*?]|[=!]=|\brole:", text) is not None


def parse(text: str) -> ast.expr:
    """The tree of an expression, of bounded size; a pattern in it is a string.

    Raises
    ------
    ConfigurationError
        If it is too long, nested too deep, or no expression by its syntax.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigurationError(
            f"The expression has {len(text):,} characters; allowed: {MAX_LENGTH:,}.",
            key="expression",
            value=text,
        )
    python = _with_patterns_quoted(text)
    try:
        tree = ast.parse(python.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deep"
        raise ConfigurationError(
            f"{shortened(text)!r} cannot be read: {reason}. {WAY_OUT}", key="expression", value=text
        ) from None
    _measure(text, tree)
    return tree


def _with_patterns_quoted(text: str) -> str:
    """The text as Python's syntax has it: each pattern as a string."""
    found: list[str] = []
    place, is_value = 0, True  # whether a value may stand here, which a star then cannot multiply
    while place < len(text):
        pattern = _PATTERN.match(text, place) if is_value else None
        if pattern is not None and _is_pattern(pattern[0], text[pattern.end() :]):
            found.append(f'"{pattern[0]}"')
            place, is_value = pattern.end(), False
            continue
        token = _TOKEN.match(text, place)
        if token is None:
            raise ConfigurationError(
                f"{shortened(text[place:])!r} cannot be read. {WAY_OUT}", key="expression", value=text
            )
        word = token[0]
        is_word = word[0].isalnum() or word[0] in "_\"'" or (word[0] == "." and word[1:2].isdigit())
        if not word.isspace():
            if not is_word:
                word = _OPERATOR.match(word)[0]  # type: ignore[index]
            is_value = word in _BEFORE_A_VALUE if is_word else word not in ")]}"
        found.append(word)
        place += len(word)
    return "".join(found)


def _is_pattern(word: str, rest: str) -> bool:
    if word.startswith(("role:", "*")) or "?" in word:
        return True
    ends = word.endswith("*") and _ENDS_A_CONDITION.match(rest) is not None
    return ends or re.search(r"(?<![\d.])[^\W\d]\w*\.|\.[^\W\d]", word) is not None


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


def shortened(text: str) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= 40 else text[:39] + "…"


def refused(text: str, node: ast.AST, why: str) -> ConfigurationError:
    """The error that names a piece of an expression and what is wrong with it."""
    return ConfigurationError(
        f"{shortened(ast.unparse(node))!r} {why}. {WAY_OUT}", key="expression", value=text
    )
