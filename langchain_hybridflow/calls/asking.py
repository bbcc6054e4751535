"""Asking a person for more when a budget is exhausted: a LangGraph interrupt with the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.runnables import ensure_config

from langchain_hybridflow.budget import Allowance, Amounts, Limits
from langchain_hybridflow.budget.allowance import Shortfall, plain_amounts
from langchain_hybridflow.errors import BudgetExceeded, ConfigurationError, NobodyToAsk

__all__ = ["ask_a_person", "can_ask", "is_approval", "question"]

# LangGraph keeps these here for its own `interrupt`, and has no public way to ask for them; a
# contract test holds it to that.
_SCRATCHPAD: Final = "__pregel_scratchpad"
_CHECKPOINTER: Final = "__pregel_checkpointer"


def can_ask() -> bool:
    """Whether this is the node of a LangGraph that can be interrupted, and resumed later."""
    configurable = ensure_config().get("configurable") or {}
    return bool(configurable.get(_CHECKPOINTER)) and _SCRATCHPAD in configurable


def question(
    refused: BudgetExceeded, lacking: Sequence[Shortfall], allowance: Allowance, **facts: Any
) -> dict[str, Any]:
    """Write the question, in plain JSON types: what is asked for, and what approval costs.

    Args:
        refused: The refusal.
        lacking: All limits that are in the way.
        allowance: What approval lets the run spend beyond them at most.
        **facts: Whatever else is known of the call.
    """
    first = lacking[0].to_json()
    return {
        "type": "budget_exhausted",
        **facts,
        **{name: first[name] for name in ("scope", "dimension", "requested", "remaining", "limit")},
        "limits": [one.to_json() for one in lacking],
        "approval_costs_up_to": plain_amounts(allowance.amounts),
        "reason": str(refused),
        "resume_with": {"approve": True},
    }


def is_approval(verdict: object) -> bool:
    """Whether a person's answer is a yes; whatever is not one is a no.

    Example:
        >>> is_approval({"approve": True}), is_approval("yes"), is_approval("maybe")
        (True, True, False)
    """
    if isinstance(verdict, Mapping):
        verdict = verdict.get("approve")
    return verdict is True or verdict in ("approve", "yes", "cloud")


def ask_a_person(
    owner: str,  # noqa: ARG001 - see `AskForMore`
    amounts: Amounts,
    *,
    refused: BudgetExceeded,
    lacking: Sequence[Shortfall],
) -> Allowance | None:
    """Ask for one call of a model, made inside somebody's LangGraph.

    LangGraph runs the node again from its start and hands out the answers by their number, so an
    answer can reach another call than the one it was given for. It therefore brings back what was
    approved at most, and allows nothing to a call that needs more.

    Raises:
        NobodyToAsk: The call was not made inside one that has a checkpointer.
        GraphInterrupt: LangGraph's own; resumed, the same call is made again and gets the answer.
    """
    if not can_ask():
        raise NobodyToAsk(refused)
    # Imported on use: most calls are not made in graphs, and LangGraph takes long to import.
    from langgraph.types import interrupt

    allowance = Allowance.covering(lacking, amounts, calls=1)
    says = question(refused, lacking, allowance)
    says["resume_with"] = {"approve": True, "up_to": says["approval_costs_up_to"]}
    verdict = interrupt(says)
    return allowance if is_approval(verdict) and _is_enough(verdict, amounts) else None


def _is_enough(verdict: object, amounts: Amounts) -> bool:
    """Whether an approval reaches for a call; without `up_to` it is for whatever was asked."""
    up_to = verdict.get("up_to") if isinstance(verdict, Mapping) else None
    if up_to is None:
        return True
    try:
        most = Limits(**up_to)
    except (ConfigurationError, TypeError):  # nobody knows what was meant
        return False
    pairs = zip(amounts, most, strict=True)
    return all(limit is None or number <= limit for number, limit in pairs)
