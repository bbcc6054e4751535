"""Ask the edge whatever is not there yet, look how sure it was, and score what it said.

What is found is written down before a worker goes on, so whatever ends a run costs no more than
the calls that were under way.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from langchain_core.messages import BaseMessage

from langchain_hybridflow.answer_or_ask import read_reply
from langchain_hybridflow.calls import Purchase
from langchain_hybridflow.errors import BudgetExceeded
from langchain_hybridflow.profiling.asking import Asker
from langchain_hybridflow.profiling.inquiry import Inquiry
from langchain_hybridflow.profiling.marking import marked
from langchain_hybridflow.profiling.records import Item, Key, Outcome
from langchain_hybridflow.profiling.running import Stop
from langchain_hybridflow.profiling.store import ProfileStore
from langchain_hybridflow.routing import Tier
from langchain_hybridflow.verify import ConfidenceSignal

__all__ = ["CONFIDENCE", "REASON", "Collector", "key_of"]

CONFIDENCE: Final = "confidence"
"""Where among an outcome's `extra` the score of the signal is."""

REASON: Final = "confidence_reason"
"""Where among it the signal's words are."""

_ASKED: Final[Mapping[str, Any]] = {
    "status": "scored",
    "score": 0.0,
    "scorer": "asks",
    "score_reason": "it asks for help",
    "no_answer": True,
    "judge_usd": Decimal(0),
}


@dataclass(slots=True, kw_only=True)
class Collector:
    """One run over questions; see the module.

    Attributes:
        store: Where outcomes are kept.
        asker: Buys answers, and whatever the signal asks.
        inquiry: What is asked, and how answers are scored.
        prompt: What the model is sent for a question.
        signal: What says how sure the edge was.
        options: Call options of every answer.
        right_from: Score from which on an answer counts as right.
        max_failures: Failures in a row that end the run.
        on_progress: Is told after each outcome; must not block.
        done: Questions with a label, or that can have none.
        failed: Calls that failed in this run.
        under_way: Questions that are being asked.
        stop: Why it ended early; `None` if it did not.
    """

    store: ProfileStore
    asker: Asker
    inquiry: Inquiry
    prompt: Callable[[Item], list[BaseMessage]]
    signal: ConfidenceSignal
    options: Mapping[str, Any]
    max_failures: int
    on_progress: Callable[[Collector], None] = lambda _: None
    done: int = 0
    failed: int = 0
    under_way: int = 0
    stop: Stop | None = None
    _queue: deque[Item] = field(default_factory=deque)
    _in_a_row: int = 0

    @property
    def total(self) -> int:
        """How many questions there are."""
        return len(self.inquiry.items)

    async def run(self, *, parallel: int, seed: int) -> None:
        """Ask whatever is not there yet, in an order of chance.

        Raises:
            ConfigurationError: No call can work as the model, the budget or the store are.
        """
        items = list(self.inquiry.items)
        random.Random(f"confidence/{seed}").shuffle(items)
        for item in items:
            known = self.store.outcomes.get(key_of(item))
            if known is None or known.status in ("failed", "pending") or _is_mended(item, known):
                self._queue.append(item)
            else:
                self.done += 1
        self.on_progress(self)
        workers = [asyncio.create_task(self._work()) for _ in range(parallel)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def ask_to_stop(self) -> None:
        """Begin nothing new; calls that are under way are waited for. For the event loop only."""
        self._halt(Stop("asked"))

    async def _work(self) -> None:
        while self._queue and self.stop is None:
            item = self._queue.popleft()
            self.under_way += 1
            try:
                outcome = await self._outcome(item)
            except BudgetExceeded as refused:
                self._queue.appendleft(item)
                # What is held for others under way is their worst case: much of it comes back.
                if self.under_way == 1:
                    self._halt(Stop("budget", str(refused), "edge"))
                return
            finally:
                self.under_way -= 1
            self._write(outcome)

    def _write(self, outcome: Outcome) -> None:
        self.store.append(outcome)
        if outcome.status in ("scored", "unscored"):
            self.done += 1
            self._in_a_row = 0
        else:
            self.failed += 1
            self._in_a_row += 1
            if self._in_a_row >= self.max_failures:
                cause = outcome.error or outcome.score_reason or ""
                tier: Tier | None = "edge" if outcome.status == "failed" else None
                self._halt(Stop("failures", cause, tier))
        self.on_progress(self)

    def _halt(self, stop: Stop) -> None:
        """Begin nothing new; the first reason counts."""
        self.stop = self.stop or stop

    async def _outcome(self, item: Item) -> Outcome:
        """Ask, look how sure the answer is, and score it; what is there already is not bought."""
        known = self.store.outcomes.get(key_of(item))
        if known is None or known.answer is None:
            known = await self._asked(item)
        elif known.status == "failed":
            known = await self._measured(item, known, known.answer)
        if known.status == "failed":
            return known
        reply = read_reply(known.answer or "")
        if reply.asks:
            facts: Mapping[str, Any] = _ASKED
        else:
            said = reply.answer or known.answer or ""
            facts = await marked(self.inquiry.scorer, item, said, asker=self.asker)
        return replace(known, **facts, reference_sha256=item.reference_sha256)

    async def _asked(self, item: Item) -> Outcome:
        """Return an answer with its confidence and no score, or what went wrong."""
        bought = await self.asker.ask("edge", self.prompt(item), options=self.options)
        facts = bought.facts() | {"attempt": self.store.attempts(key_of(item)) + 1}
        if bought.purchase is None:
            return Outcome.about(item, **facts, status="failed")
        text = bought.text or ""
        answered = Outcome.about(
            item,
            **facts,
            status="pending",
            answer=text,
            answer_chars=len(text),
            no_answer=not text.strip(),
        )
        return await self._measured(item, answered, bought.purchase)

    async def _measured(self, item: Item, answered: Outcome, answer: Purchase | str) -> Outcome:
        """Look how sure an answer is; if that fails it is kept, and not bought again.

        Unless the signal reads log-probabilities, which are not in the store.
        """
        text = None if getattr(self.signal, "reads_logprobs", False) else answered.answer
        try:
            found = await self.asker.measure(
                self.signal, item, self.prompt(item), answer, options=self.options
            )
        except BudgetExceeded:
            error = "the budget did not allow to measure it"
            self.store.append(replace(answered, answer=text, status="failed", error=error))
            raise
        paid = (answered.usd, found.usd)
        usd = None if None in paid else sum((one for one in paid if one), Decimal(0))
        if found.confidence is None:
            error = f"the signal failed: {found.error}"
            return replace(answered, answer=text, usd=usd, status="failed", error=error)
        score, reason = found.confidence.score, found.confidence.reason
        extra = {**item.extra, CONFIDENCE: score, REASON: reason}
        return replace(answered, usd=usd, status="pending", error=None, extra=extra)


def key_of(item: Item) -> Key:
    """Return under which key a question's answer is kept."""
    return Key(item.id, "edge")


def _is_mended(item: Item, known: Outcome) -> bool:
    """Whether what is right is not what it was when the answer was scored."""
    return known.reference_sha256 != item.reference_sha256
