"""Score one answer, whoever the scorer is, and say what goes into its outcome."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any, Final

from langchain_hybridflow.calls import describe_error
from langchain_hybridflow.profiling.asking import Asker
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.scoring import Score, Scorer

__all__ = ["marked"]

_EMPTY: Final = Score(0.0, "it is empty", no_answer=True)


async def marked(scorer: Scorer | Grader, item: Item, text: str, *, asker: Asker) -> dict[str, Any]:
    """Score an answer.

    Args:
        scorer: Who scores. A model's grading is bought; other scorers work in a thread.
        item: What was asked.
        text: The answer.
        asker: Who buys.

    Returns:
        Facts for `Outcome`: `status`, `score`, `scorer`, `score_reason`, `no_answer`,
        `weak_judge`, `judge_usd`. A scorer that failed leaves the status "pending".

    Raises:
        BudgetExceeded: The budget does not allow the grading; it was not made.
        ConfigurationError: No grading can work.
        LedgerError: The grading cannot be booked.
        UnknownPriceError: USD are limited, and nobody has said what the judge costs.
    """
    if not text.strip():
        return _facts(scorer.name, _EMPTY)
    if isinstance(scorer, Grader):
        graded = await asker.grade(scorer, item, text)
        if graded.score is None:
            return _undone(scorer.name, f"the judge failed: {graded.error}", graded.usd)
        return _facts(scorer.name, graded.score, weak_judge=True, judge_usd=graded.usd)
    try:
        score = await asyncio.to_thread(scorer.score, item, text)
    except Exception as error:  # noqa: BLE001 - somebody's function; its answer stays unscored
        return _undone(scorer.name, f"the scorer failed: {describe_error(error)}", Decimal(0))
    return _facts(scorer.name, score)


def _facts(
    name: str, score: Score, *, weak_judge: bool = False, judge_usd: Decimal | None = Decimal(0)
) -> dict[str, Any]:
    return {
        "status": "unscored" if score.value is None else "scored",
        "score": score.value,
        "scorer": name,
        "score_reason": score.reason or None,
        "no_answer": score.no_answer,
        "weak_judge": weak_judge,
        "judge_usd": judge_usd,
    }


def _undone(name: str, reason: str, judge_usd: Decimal | None) -> dict[str, Any]:
    return {
        "status": "pending",
        "score": None,
        "scorer": name,
        "score_reason": reason,
        "weak_judge": False,
        "judge_usd": judge_usd,
    }
