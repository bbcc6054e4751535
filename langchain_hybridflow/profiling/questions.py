"""Profile both tiers on a user's questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

from langchain_hybridflow.budget import Budget, Price
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling._sync import run_here
from langchain_hybridflow.profiling.asking import Asker, utc_now
from langchain_hybridflow.profiling.inquiry import Inquiry, Shop, inquiry_of
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.running import Progress, Runner, Stop
from langchain_hybridflow.profiling.scoring import Scorer
from langchain_hybridflow.profiling.store import ProfileStore, settings_of
from langchain_hybridflow.profiling.summary import Summary, summarise
from langchain_hybridflow.profiling.tables import (
    Wide,
    long_table,
    table_format,
    wide_table,
    write_table,
)
from langchain_hybridflow.routing import TIERS, Tier
from langchain_hybridflow.sandbox import SANDBOX_PRICES

__all__ = ["Profile", "aprofile_questions", "check_continues", "profile_questions"]

_LEDGER: Final = "budget.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What came of a profile.

    Attributes:
        outcomes: Path of the wide table, that `hybridflow train` reads.
        answers: Path of the long one.
        summary: The figures.
        stop: Why the run ended before everything was there; `None` if it did not.
        notes: What a person should know.
        budget: What the ledger says, see `Budget.snapshot`.
    """

    outcomes: Path
    answers: Path
    summary: Summary
    stop: Stop | None
    notes: tuple[str, ...]
    budget: Mapping[str, Any]

    @property
    def is_complete(self) -> bool:
        """Whether every question has all that can be had."""
        return self.summary.is_complete

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types; USD as text."""
        stop = self.stop
        return {
            "outcomes": str(self.outcomes),
            "answers": str(self.answers),
            **self.summary.to_json(),
            "stopped": None
            if stop is None
            else {"kind": stop.kind, "tier": stop.tier, "cause": stop.cause},
            "notes": list(self.notes),
            "budget": dict(self.budget),
        }


def profile_questions(data: str | Path | Sequence[Item], **options: Any) -> Profile:
    """Ask both tiers every question and score what they answer; see `aprofile_questions`.

    Not for use within a running event loop.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
        >>> with TemporaryDirectory() as place:
        ...     profile = profile_questions(
        ...         "sandbox:20",
        ...         edge=sandbox_edge(time_scale=0),
        ...         cloud=sandbox_cloud(time_scale=0),
        ...         out=place,
        ...     )
        >>> profile.is_complete, profile.summary.tiers["cloud"].scored
        (True, 20)
    """
    return run_here(lambda: aprofile_questions(data, **options), instead="aprofile_questions")


async def aprofile_questions(
    data: str | Path | Sequence[Item],
    *,
    edge: BaseChatModel,
    cloud: BaseChatModel,
    out: str | Path,
    scorer: str | Scorer | Grader | None = None,
    limit_usd: Decimal | float | str | None = None,
    prices: Mapping[str, Price] | None = None,
    parallel_edge: int = 1,
    parallel_cloud: int = 8,
    samples: int = 1,
    seed: int = 0,
    instructions: str | None = None,
    max_tokens: int = 2048,
    temperature: float | None = None,
    timeout_s: float = 120.0,
    keep_answers: bool = True,
    restart: bool = False,
    rescore: bool = False,
    max_failures: int = 10,
    on_start: Callable[[Runner], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc_now,
) -> Profile:
    """Ask both tiers every question, score what they answer, and write tables to learn from.

    Whatever was answered is written down at once. Ended at any moment, the same call goes on where
    it stopped and buys nothing twice. Calls that fail are no wrong answers: they are tried again
    by the next run. Cancelled, it writes the tables of what there is before it goes.

    Args:
        data: A file (see `items`), `"sandbox:200"`, or items.
        edge: The cheap model.
        cloud: The expensive one.
        out: The directory of the profile.
        scorer: How answers are scored: a name (see `scoring.scorer_named`), `"judge"` for the
            cloud model itself, or a scorer. By default the sandbox's own for its problems,
            `"choice"` where choices are offered, and `"exact"` elsewhere.
        limit_usd: What all runs of this profile together may spend, a hard limit.
        prices: Prices by model name, before the built-in list.
        parallel_edge: Edge calls at once.
        parallel_cloud: Cloud calls at once.
        samples: Answers of each tier to each question; their scores are averaged.
        seed: Of the order in which questions are asked, and of the sandbox's problems.
        instructions: What the models are told first; by default how to end an answer so that the
            scorer can read it. Empty for nothing.
        max_tokens: The longest answer, in tokens.
        temperature: Of both models; `None` leaves it to them.
        timeout_s: Longest wait for a whole answer, in seconds.
        keep_answers: Whether the text of answers is written down.
        restart: Begin anew; what was there is kept in a directory `before-N`.
        rescore: Score the answers that are there again, by this scorer.
        max_failures: Failures in a row, of a tier or of the scorer, that end the run.
        on_start: Is given the run before its first call, to follow or stop it.
        on_progress: Is told after each answer; must not block.
        clock: Seconds, monotonic.
        now: The time of day, in UTC.

    Raises:
        ConfigurationError: Something cannot work as it was given; nothing was asked then.
        UnknownPriceError: USD are limited, and nobody has said what the cloud model costs.
    """
    _check_counts(
        parallel_edge=parallel_edge,
        parallel_cloud=parallel_cloud,
        samples=samples,
        max_tokens=max_tokens,
        max_failures=max_failures,
    )
    if not (isfinite(timeout_s) and timeout_s > 0):
        raise ConfigurationError(f"timeout_s must be > 0 and finite, not {timeout_s!r}.")
    if rescore and instructions is None:  # the answers were given to those
        instructions = settings_of(Path(out)).get("instructions")
    inquiry = inquiry_of(data, scorer, instructions=instructions, seed=seed)
    options: dict[str, Any] = {"max_tokens": max_tokens}
    if temperature is not None:
        options["temperature"] = temperature
    shop = Shop(edge, cloud, limit_usd, {**SANDBOX_PRICES, **(prices or {})}, timeout_s)
    settings = inquiry.settings() | shop.models(inquiry.scorer)
    settings |= {"samples": samples, "seed": seed, "options": options, "keep_answers": keep_answers}
    with ProfileStore(Path(out), settings=settings, restart=restart, rescore=rescore) as store:
        check_continues(store, inquiry.items, rescore=rescore)
        budget = shop.budget(store.directory / _LEDGER)
        runner = Runner(
            store=store,
            asker=Asker(core=shop.core(budget), run=budget.start_run(), clock=clock, now=now),
            scorer=inquiry.scorer,
            prompt=inquiry.prompt,
            options=options,
            parallel={"edge": parallel_edge, "cloud": parallel_cloud},
            samples=samples,
            keep_answers=keep_answers,
            rescore=rescore,
            max_failures=max_failures,
            on_progress=on_progress,
        )
        on_start(runner)
        return await _run(runner, inquiry, budget, models=shop.models(), seed=seed)


async def _run(
    runner: Runner, inquiry: Inquiry, budget: Budget, *, models: Mapping[Tier, str], seed: int
) -> Profile:
    """Ask all there is to ask; however that ends, the tables are written."""
    try:
        await runner.run(inquiry.items, seed=seed)
    finally:
        spent = budget.snapshot()
        await budget.aclose()
        wide, paths = _write_tables(runner.store, inquiry.items)
    return Profile(
        outcomes=paths[0],
        answers=paths[1],
        summary=_summary(runner.store, wide, inquiry, models, runner.samples),
        stop=runner.stop,
        notes=inquiry.notes,
        budget=spent,
    )


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if type(count) is not int or count < 1:
            raise ConfigurationError(f"{name} must be an integer >= 1, not {count!r}.")


def check_continues(store: ProfileStore, items: Sequence[Item], *, rescore: bool = False) -> None:
    """Refuse answers to other questions than these; new questions are welcome.

    Raises:
        ConfigurationError: A question changed or is gone, or answers that are to be scored again
            were not kept.
    """
    now = {item.id: item.sha256 for item in items}
    changed = dict.fromkeys(
        one.item_id for one in store.outcomes.values() if now.get(one.item_id) != one.item_sha256
    )
    if changed:
        first = next(iter(changed))
        what = "is another one now" if first in now else "is not in the data any more"
        raise ConfigurationError(
            f"The profile in {store.directory} has answers to other questions: {len(changed)} of "
            f"them changed, such as {first!r}, which {what}. Continue it with its own data "
            f"(questions may be added), choose another --out, or begin anew with --restart."
        )
    answered = [one for one in store.outcomes.values() if one.is_answered]
    if rescore and any(one.answer is None for one in answered):
        raise ConfigurationError(
            f"The answers in {store.directory} were not kept (--no-answers), so they cannot be "
            f"scored again. Ask anew with --restart."
        )


def _write_tables(store: ProfileStore, items: Sequence[Item]) -> tuple[Wide, tuple[Path, Path]]:
    ending = table_format()
    paths = (store.directory / f"outcomes.{ending}", store.directory / f"answers.{ending}")
    ids = [item.id for item in items]
    wide = wide_table(
        store.outcomes, item_ids=ids, references={item.id: item.reference for item in items}
    )
    write_table(paths[0], wide.columns)
    write_table(paths[1], long_table(store.outcomes.values()))
    return wide, paths


def _summary(
    store: ProfileStore, wide: Wide, inquiry: Inquiry, models: Mapping[Tier, str], samples: int
) -> Summary:
    return summarise(
        store.outcomes,
        wide.columns,
        questions=len(inquiry.items),
        samples=samples,
        models=models,
        spent={tier: store.tier_usd(tier) for tier in TIERS},
        spent_usd=store.spent_usd,
        left_out=wide.left_out,
    )
