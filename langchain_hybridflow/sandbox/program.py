"""A question as a small program: named steps, each one operation on facts and earlier steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, localcontext
from types import MappingProxyType
from typing import Final

from langchain_hybridflow.sandbox.language import Value, parse_date, parse_number
from langchain_hybridflow.sandbox.operations import OPERATIONS, Unsolvable

__all__ = ["Node", "Program", "Ref", "Working", "evaluate", "read_value"]

_READERS: Final[Mapping[type, Callable[[str], Value | None]]] = MappingProxyType(
    {Decimal: parse_number, date: parse_date, str: lambda text: text.strip() or None}
)
# Enough digits for every sum that is read, so that results are exact.
_PRECISION: Final = 500


@dataclass(frozen=True, slots=True)
class Ref:
    """The result of another step of the same program."""

    name: str


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a program.

    Args:
        name: Unique in the program.
        label: The result as a noun phrase, unique in the program, such as `the number of pens
            in one box`. Subtasks ask for it and answers state it.
        operation: A key of `OPERATIONS`.
        args: Facts of the question, and results of earlier steps.
        difficulty: 1 (trivial) to 9.
    """

    name: str
    label: str
    operation: str
    args: tuple[Value | Ref, ...]
    difficulty: int

    @property
    def depends_on(self) -> tuple[str, ...]:
        """Names of the steps whose results this one uses, each once."""
        return tuple(dict.fromkeys(arg.name for arg in self.args if isinstance(arg, Ref)))


@dataclass(frozen=True, slots=True)
class Program:
    """The steps that answer a question; every step comes after those it uses.

    Args:
        kind: The kind of problem that the question is.
        nodes: The steps. The last one answers the question.
    """

    kind: str
    nodes: tuple[Node, ...]
    _by_name: dict[str, Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    @property
    def sink(self) -> Node:
        """The step that answers the question."""
        return self.nodes[-1]

    def needed(self, target: str, *, given: Mapping[str, Value]) -> tuple[Node, ...]:
        """Return the steps to do for `target`, in order, when the results `given` are known."""
        wanted, stack = set[str](), [target]
        while stack:
            name = stack.pop()
            if name not in wanted and name not in given:
                wanted.add(name)
                stack.extend(self[name].depends_on)
        return tuple(node for node in self.nodes if node.name in wanted)


@dataclass(frozen=True, slots=True)
class Working:
    """One step as it was done: what went in, and what came out."""

    node: Node
    args: tuple[Value, ...]
    value: Value

    @property
    def sum_text(self) -> str:
        """The calculation as text, without its result."""
        return OPERATIONS[self.node.operation].show(self.args)


Slip = Callable[[Node, tuple[Value, ...], Value], Value]


def evaluate(
    program: Program,
    target: str,
    *,
    given: Mapping[str, Value] | None = None,
    slip: Slip | None = None,
) -> tuple[Working, ...]:
    """Do the steps that `target` needs, and return each one as it was done.

    Args:
        program: The steps.
        target: Name of the step whose result is wanted. It is the last one returned.
        given: Results that are taken as they are, right or wrong, instead of being worked out.
        slip: Replaces the result of a step; what follows goes on with the replacement.

    Returns:
        Nothing if the target itself is given.

    Raises:
        Unsolvable: A step cannot be done with these values, such as a division by zero.
    """
    known: dict[str, Value] = dict(given or {})
    done = []
    for node in program.needed(target, given=known):
        args = tuple(known[arg.name] if isinstance(arg, Ref) else arg for arg in node.args)
        try:
            with localcontext(prec=_PRECISION):
                value = OPERATIONS[node.operation].compute(args)
        except (ArithmeticError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise Unsolvable(f"{node.label} cannot be worked out from {args}") from error
        if slip is not None:
            value = slip(node, args, value)
        known[node.name] = value
        done.append(Working(node, args, value))
    return tuple(done)


def read_value(text: str, *, node: Node) -> Value | None:
    """Read `text` as a result of `node`, or return None if it cannot be one.

    Example:
        >>> node = Node("total", "the total", "sum", (), 2)
        >>> read_value("about 12 pens", node=node)
        Decimal('12')
    """
    return _READERS[OPERATIONS[node.operation].result](text)
