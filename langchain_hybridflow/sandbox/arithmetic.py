"""Plain sums in a text, such as `What is 12 * (3 + 4)?`, as a program."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.language import Value, format_value, parse_date, unlisted
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.program import Node, Program, Ref

__all__ = ["parse_sum", "pieces_of", "read_sum"]

_WORDS: Final = (
    ("divided by", "/"),
    ("multiplied by", "*"),
    ("plus", "+"),
    ("minus", "-"),
    ("times", "*"),
    ("\N{MULTIPLICATION SIGN}", "*"),
    ("\N{DIVISION SIGN}", "/"),
    ("\N{MINUS SIGN}", "-"),
)
_REFERENCE: Final = re.compile(r"\[([A-Za-z0-9][\w.-]{0,31})\]|(?:result of )?subtask (\w+)")
# What a sum is made of; bounded, as its parser is recursive.
_RUN: Final = re.compile(r"-?[\d(][\d\s().+*/-]{1,200}")
_PIECE: Final = re.compile(r"\d+(?:\.\d+)?|[-+*/()]")
_MAX_BRACKETS: Final = 20
_NUMBER: Final = r"-?\d+(?:\.\d+)?"
_LISTED: Final = re.compile(
    rf"(sum|product|difference) (?:of|between) ({_NUMBER}(?:, {_NUMBER})*(?:,? and {_NUMBER})+)"
)
_SIGN_OF: Final[Mapping[str, str]] = {"sum": " + ", "product": " * ", "difference": " - "}
_OPERATION: Final[Mapping[str, str]] = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
}

_Operand = tuple[Decimal | Ref, str]


def read_sum(text: str, *, results: Mapping[str, Value] | None = None) -> Program:
    """Read the longest sum in `text`, with results of earlier subtasks in place of `[id]`.

    Args:
        text: A question or a task.
        results: What the subtasks that it may refer to have found.

    Raises:
        Unsolvable: There is no sum in the text.

    Example:
        >>> program = read_sum("What is [1] times 4?", results={"1": Decimal(3)})
        >>> [node.label for node in program.nodes]
        ['the result of 3 * 4']
    """
    known = results or {}

    def substitute(reference: re.Match[str]) -> str:
        value = known.get(reference[1] or reference[2])
        return format_value(value) if isinstance(value, Decimal) else reference[0]

    plain = _REFERENCE.sub(substitute, text)
    plain = _LISTED.sub(_as_chain, plain)
    for word, sign in _WORDS:
        plain = plain.replace(word, sign)
    for run in sorted(_RUN.findall(plain), key=len, reverse=True):
        program = None if parse_date(run) is not None else parse_sum(run)
        if program is not None:
            return program
    raise Unsolvable("there is no sum in the text")


def pieces_of(text: str) -> list[str]:
    """Return the numbers, signs and brackets of a sum, in order.

    Example:
        >>> pieces_of("2*(3+10)")
        ['2', '*', '(', '3', '+', '10', ')']
    """
    return _PIECE.findall(text)


def parse_sum(text: str) -> Program | None:
    """Read a text that is nothing but a sum; `None` if it is none, or holds no operation.

    Example:
        >>> [node.operation for node in parse_sum("2*(3+10)").nodes]
        ['add', 'multiply']
    """
    if text.count("(") > _MAX_BRACKETS:
        return None
    nodes = _Parser(pieces_of(text)).parse()
    return Program("arithmetic", nodes) if nodes else None


class _Parser:
    """Recursive descent over the pieces of one sum; each operation becomes a step."""

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces
        self._nodes: list[Node] = []

    def parse(self) -> tuple[Node, ...]:
        """Return the steps, or none if the pieces are not a sum."""
        try:
            self._sum()
        except (IndexError, ValueError):
            return ()
        return () if self._pieces else tuple(self._nodes)

    def _sum(self) -> _Operand:
        return self._chain("+-", self._product)

    def _product(self) -> _Operand:
        return self._chain("*/", self._atom)

    def _chain(self, signs: str, operand: Callable[[], _Operand]) -> _Operand:
        left, text = operand()
        while self._pieces and self._pieces[0] in signs:
            sign = self._pieces.pop(0)
            right, right_text = operand()
            text = f"{text} {sign} {right_text}"
            name = f"sum-{len(self._nodes) + 1}"
            self._nodes.append(
                Node(
                    name,
                    f"the result of {text}",
                    _OPERATION[sign],
                    (left, right),
                    _difficulty(sign, text),
                )
            )
            left = Ref(name)
        return left, text

    def _atom(self) -> _Operand:
        piece = self._pieces.pop(0)
        if piece == "-":
            number, text = self._atom()
            if isinstance(number, Ref):
                raise ValueError(text)
            return -number, f"-{text}"
        if piece != "(":
            if not piece[0].isdigit():
                raise ValueError(piece)
            return Decimal(piece), piece
        value, text = self._sum()
        if self._pieces.pop(0) != ")":
            raise ValueError("unbalanced")
        return value, f"({text})"


def _as_chain(listed: re.Match[str]) -> str:
    """Turn `sum of 1, 2 and 3` into `1 + 2 + 3`."""
    return _SIGN_OF[listed[1]].join(unlisted(listed[2]))


def _difficulty(sign: str, text: str) -> int:
    """Judge one operation by its sign and by the digits of its longest number."""
    digits = max(len(piece) for piece in _PIECE.findall(text))
    return min(9, digits + (0 if sign in "+-" else 1))
