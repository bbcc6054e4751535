"""Find out how sure an edge model is of its answers, and whether they are right: to calibrate on.

Answers are kept in a `ProfileStore`, an outcome each, with the confidence among its `extra`: ended
at any moment, the same call goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_hybridflow.budget import Price
from langchain_hybridflow.calls import TierModel
from langchain_hybridflow.calls.helping import Offer, form_of
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.confidence_runs import LabelledRuns
from langchain_hybridflow.profiling._sync import run_here
from langchain_hybridflow.profiling.asking import Asker, utc_now
from langchain_hybridflow.profiling.collecting import CONFIDENCE, REASON, Collector, key_of
from langchain_hybridflow.profiling.inquiry import Inquiry, Shop, inquiry_of
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.questions import check_continues
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.running import Stop
from langchain_hybridflow.profiling.scoring import Scorer
from langchain_hybridflow.profiling.store import ProfileStore
from langchain_hybridflow.profiling.tables import write_table
from langchain_hybridflow.routing import HelpTerms
from langchain_hybridflow.sandbox import SANDBOX_PRICES
from langchain_hybridflow.verify import ConfidenceSignal, signal_settings

__all__ = ["Collected", "Contract", "acollect_confidence", "collect_confidence"]

Contract: TypeAlias = Literal["auto", "prompt", "trained"]
"""How a model is told that it may ask for help, see `SelfRouter`; a tool cannot be scored."""

_LEDGER: Final = "budget.db"
_TABLE: Final = "runs.jsonl"
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What came of a collection.

    Attributes:
        table: Path of the table of labelled runs, which `read_labelled_runs` reads.
        runs: The same.
        questions: How many were to be asked.
        failed: Questions whose last call failed.
        unscored: Answers of which the scorer could not say whether they are right; left out.
        spent_usd: What all calls cost as far as known, those of earlier runs included.
        stop: Why it ended before everything was there; `None` if it did not.
        notes: What a person should know.
    """

    table: Path
    runs: LabelledRuns
    questions: int
    failed: int
    unscored: int
    spent_usd: Decimal
    stop: Stop | None
    notes: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Questions that have no label yet, and could have one."""
        return self.questions - len(self.runs) - self.unscored

    @property
    def is_complete(self) -> bool:
        """Whether every question has all that can be had."""
        return self.missing == 0


def collect_confidence(data: str | Path | Sequence[Item], **options: Any) -> Collected:
    """Ask an edge model questions, with how sure it is of each; see `acollect_confidence`.

    Not for use within a running event loop.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from langchain_hybridflow.sandbox import sandbox_edge
        >>> from langchain_hybridflow.verify import AskMarker
        >>> with TemporaryDirectory() as place:
        ...     found = collect_confidence(
        ...         "sandbox:20", edge=sandbox_edge(time_scale=0), signal=AskMarker(), out=place
        ...     )
        >>> found.is_complete, len(found.runs)
        (True, 20)
    """
    return run_here(lambda: acollect_confidence(data, **options), instead="acollect_confidence")


async def acollect_confidence(
    data: str | Path | Sequence[Item],
    *,
    edge: BaseChatModel,
    signal: ConfidenceSignal,
    out: str | Path,
    scorer: str | Scorer | Grader | None = None,
    limit_usd: Decimal | float | str | None = None,
    prices: Mapping[str, Price] | None = None,
    parallel: int = 1,
    seed: int = 0,
    instructions: str | None = None,
    max_tokens: int = 2048,
    temperature: float | None = None,
    contract: Contract | None = None,
    timeout_s: float = 120.0,
    restart: bool = False,
    max_failures: int = 10,
    on_start: Callable[[Collector], None] = lambda _: None,
    on_progress: Callable[[Collector], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc_now,
) -> Collected:
    """Ask an edge model questions, look how sure it is of each answer, and score the answers.

    Whatever was answered is written down at once: the same call goes on where it stopped. No cloud
    model is asked, unless the scorer is a judge of its own.

    Args:
        data: A file (see `items`), `"sandbox:200"`, or items.
        edge: The model.
        signal: What says how sure it is.
        out: The directory of the collection.
        scorer: How answers are scored, see `aprofile_questions`; an answer counts as right from a
            score of 0.5 on. The edge does not judge itself.
        limit_usd: What all runs of this collection together may spend, a hard limit.
        prices: Prices by model name, before the built-in list.
        parallel: Questions at once.
        seed: Of the order in which questions are asked, and of the sandbox's problems.
        instructions: What the model is told first; by default how to end an answer so that the
            scorer can read it. Give what it will be told in service.
        max_tokens: The longest answer, in tokens.
        temperature: Of the answers; `None` leaves it to the model.
        contract: On what terms the model may ask for help, as in `SelfRouter`; `None` for none,
            which is right for a model that is not asked by one. Asking counts as a wrong answer.
        timeout_s: Longest wait for a whole answer, in seconds.
        restart: Begin anew; what was there is kept in a directory `before-N`.
        max_failures: Failures in a row that end the run.
        on_start: Is given the run before its first call, to follow or stop it.
        on_progress: Is told after each answer; must not block.
        clock: Seconds, monotonic.
        now: The time of day, in UTC.

    Raises:
        ConfigurationError: Something cannot work as it was given; nothing was asked then.
        UnknownPriceError: USD are limited, and nobody has said what the judge costs.
    """
    if parallel < 1 or max_tokens < 1 or max_failures < 1 or not timeout_s > 0:
        raise ConfigurationError("parallel, max_tokens, max_failures and timeout_s must be > 0.")
    if contract not in (None, *get_args(Contract)):
        raise ConfigurationError(f"contract is auto, prompt, trained or None, not {contract!r}.")
    if instructions is None and getattr(edge, "answers_or_asks", False):
        instructions = ""  # it was trained to write its answers so that they can be read
    inquiry = inquiry_of(data, scorer, instructions=instructions, seed=seed)
    if isinstance(inquiry.scorer, Grader) and getattr(inquiry.scorer, "asks", None) is None:
        raise ConfigurationError(
            "A judge must be a model of its own here: there is no cloud model, and the edge does "
            "not judge itself. Give JudgeScorer.by(model)."
        )
    options: dict[str, Any] = {"max_tokens": max_tokens}
    if temperature is not None:
        options["temperature"] = temperature
    shop = Shop(edge, edge, limit_usd, {**SANDBOX_PRICES, **(prices or {})}, timeout_s)
    settings = inquiry.settings() | {
        "kind": "confidence",
        "edge": shop.models(inquiry.scorer)["edge"],
        "signal": signal_settings(signal),
        "contract": contract,
        "seed": seed,
        "options": options,
    }
    with ProfileStore(Path(out), settings=settings, restart=restart) as store:
        check_continues(store, inquiry.items)
        budget = shop.budget(store.directory / _LEDGER)
        core = shop.core(budget)
        collector = Collector(
            store=store,
            asker=Asker(core=core, run=budget.start_run(), clock=clock, now=now),
            inquiry=inquiry,
            prompt=_prompter(inquiry, contract, core.models["edge"]),
            signal=signal,
            options=options | _logprob_options(core.models["edge"], signal, options),
            max_failures=max_failures,
            on_progress=on_progress,
        )
        on_start(collector)
        try:
            await collector.run(parallel=parallel, seed=seed)
        finally:  # however it ends, the table is written
            await budget.aclose()
            collected = _collected(collector)
        return collected


def _collected(collector: Collector) -> Collected:
    """Write the table of what there is."""
    store, items = collector.store, collector.inquiry.items
    outcomes = [one for item in items if (one := store.outcomes.get(key_of(item))) is not None]
    labelled = [one for one in outcomes if one.score is not None]
    columns: dict[str, list[Any]] = {
        "id": [one.item_id for one in labelled],
        "group": [one.group or one.item_id for one in labelled],
        "tag": [one.tag for one in labelled],
        "score": [one.extra.get(CONFIDENCE) for one in labelled],
        "correct": [int((one.score or 0.0) >= _HALF) for one in labelled],
        "reason": [one.extra.get(REASON) for one in labelled],
    }
    table = store.directory / _TABLE
    write_table(table, columns)
    partial = sum(one.score not in (0.0, 1.0) for one in labelled)
    notes = list(collector.inquiry.notes)
    if partial:
        notes.append(
            f"{partial} answers have a score between 0 and 1; from {_HALF:g} on they count as "
            f"right."
        )
    return Collected(
        table=table,
        runs=LabelledRuns.from_rows(columns),
        questions=len(items),
        failed=sum(one.status == "failed" for one in outcomes),
        unscored=sum(one.status == "unscored" for one in outcomes),
        spent_usd=store.spent_usd,
        stop=collector.stop,
        notes=tuple(notes),
    )


def _prompter(
    inquiry: Inquiry, contract: Contract | None, edge: TierModel
) -> Callable[[Item], list[BaseMessage]]:
    """Return what makes the prompt of a question, with the terms on which help may be asked."""
    if contract is None:
        return inquiry.prompt
    form = form_of(contract, edge, {})
    offer = Offer.of(form, HelpTerms(), help=True, structured=False, before=None)
    return lambda item: offer.prompt(inquiry.prompt(item))


def _logprob_options(
    edge: TierModel, signal: ConfidenceSignal, options: Mapping[str, Any]
) -> dict[str, int]:
    if not getattr(signal, "reads_logprobs", False):
        return {}
    return edge.logprob_options(options, top=getattr(signal, "reads_top_logprobs", 0))
