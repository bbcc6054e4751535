"""What a profile asks, of whom, and how answers are scored: common to all its kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_hybridflow.budget import Budget, Price, Usage
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from langchain_hybridflow.calls import RoutingCore
from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling.items import check_items, is_sandbox, read_items
from langchain_hybridflow.profiling.judging import Grader, JudgeScorer
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.scoring import Scorer, scorer_named
from langchain_hybridflow.routing import Tier

__all__ = ["Inquiry", "Shop", "inquiry_of", "instructions_for"]

_VALUE = "Think first where it helps. End with a line 'Answer: <value>', and nothing after it."
_INSTRUCTIONS: Final = {
    "exact": _VALUE,
    "numeric": _VALUE,
    "sandbox": _VALUE,
    "choice": "Think first where it helps. End with a line 'Answer: <letter>' that names one of "
    "the offered answers, and nothing after it.",
    "json": "Answer with one JSON value and nothing else.",
}


def instructions_for(scorer: Scorer | Grader) -> str:
    """Return what the models are told first, so that the scorer can read their answers.

    Example:
        >>> instructions_for(scorer_named("json"))
        'Answer with one JSON value and nothing else.'
    """
    return _INSTRUCTIONS.get(scorer.name.partition(":")[0], "")


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked, and how answers are scored."""

    items: Sequence[Item]
    scorer: Scorer | Grader
    instructions: str
    notes: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """Return what of it makes outcomes comparable."""
        return {
            "kind": "questions",
            "scorer": self.scorer.name,
            "instructions": self.instructions,
        }

    def prompt(self, item: Item) -> list[BaseMessage]:
        """Return what the models are sent."""
        shown = "\n\n".join(part for part in (item.context, item.question) if part)
        told = [SystemMessage(self.instructions)] if self.instructions else []
        return [*told, HumanMessage(shown)]


@dataclass(frozen=True, slots=True)
class Shop:
    """The models, and what they may cost."""

    edge: BaseChatModel
    cloud: BaseChatModel
    limit_usd: Decimal | float | str | None
    prices: Mapping[str, Price]
    timeout_s: float

    def models(self, scorer: Scorer | Grader | None = None) -> dict[Tier, str]:
        """Return the name of each tier's model, once it is clear that all can be asked.

        Raises:
            ConfigurationError: One of them cannot.
            UnknownPriceError: USD are limited, and nobody has said what one of them costs.
        """
        budget = Budget(limit_usd=self.limit_usd, prices=self.prices)
        core = self.core(budget)
        if isinstance(scorer, JudgeScorer) and scorer.asks is not None:
            budget.quote(scorer.tier, scorer.asks, Usage(0, 0))
        return {tier: model.name for tier, model in core.models.items()}

    def budget(self, path: Path) -> Budget:
        """Open the ledger: what a run that was killed had under way is held in it."""
        return Budget(
            limit_usd=self.limit_usd,
            prices=self.prices,
            on_exhausted="raise",  # another tier's answer is none of the one that was asked
            name="profile",
            ledger=SQLiteLedger(path),
            lease_ttl_s=2 * self.timeout_s,
        )

    def model(self, budget: Budget, **options: Any) -> RoutedChatModel:
        """Return both tiers as one model; further options are those of `RoutedChatModel`."""
        return RoutedChatModel(
            edge=self.edge,
            cloud=self.cloud,
            budget=budget,
            breaker=None,  # failures in a row are counted here: none is to hide behind another
            edge_timeout_s=self.timeout_s,
            cloud_timeout_s=self.timeout_s,
            **options,
        )

    def core(self, budget: Budget) -> RoutingCore:
        """Return what buys from either tier."""
        return self.model(budget).core


def inquiry_of(
    data: str | Path | Sequence[Item],
    scorer: str | Scorer | Grader | None,
    *,
    instructions: str | None,
    seed: int,
) -> Inquiry:
    """Say what is asked and how it is scored; what the scorer could not score is left out.

    Args:
        data: A file (see `items`), `"sandbox:200"`, or items.
        scorer: A name, `"judge"`, a scorer, or `None` for the usual one.
        instructions: What the models are told first; `None` for what suits the scorer.
        seed: Of the sandbox's problems.

    Raises:
        ConfigurationError: The data or the scorer cannot be used.
    """
    named = isinstance(data, str | Path)
    items = read_items(data, seed=seed) if isinstance(data, str | Path) else list(data)
    check_items(items)
    chosen = scorer or _usual(items, simulated=named and is_sandbox(str(data)))
    if isinstance(chosen, str):
        chosen = JudgeScorer.by() if chosen == "judge" else scorer_named(chosen)
    items, notes = _askable(items, chosen)
    told = instructions_for(chosen) if instructions is None else instructions
    return Inquiry(items, chosen, told, notes)


def _usual(items: Sequence[Item], *, simulated: bool) -> str:
    if simulated:
        return "sandbox"
    return "choice" if all(item.choices for item in items) else "exact"


def _askable(items: Sequence[Item], scorer: Scorer | Grader) -> tuple[list[Item], tuple[str, ...]]:
    """Leave out what could not be scored: nobody pays for answers that teach nothing."""
    askable = [item for item in items if item.reference is not None or not scorer.needs_reference]
    if not askable:
        raise ConfigurationError(
            f"No question has an answer to compare with, and the scorer {scorer.name} needs one. "
            f"Add a column answer (or reference), or choose --scorer judge or a function."
        )
    without = len(items) - len(askable)
    if not without:
        return askable, ()
    return askable, (f"{without} of {len(items)} questions have no answer; they were not asked.",)
