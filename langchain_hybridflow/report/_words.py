"""Runs in words: amounts for people, and each decision in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from langchain_hybridflow.report.records import SubtaskRun, TierName, Tries
from langchain_hybridflow.report.run import Run

__all__ = [
    "decision_words",
    "dollars",
    "percent",
    "seconds",
    "title_of",
    "wait_s",
    "what_happened",
]


def dollars(usd: Decimal | float | None) -> str:
    """Write an amount of USD with two or more significant digits.

    Example:
        >>> dollars(Decimal("0.001874")), dollars(12.5), dollars(0), dollars(None)
        ('$0.0019', '$12.50', '$0', 'unknown')
    """
    if usd is None:
        return "unknown"
    amount = float(usd)
    if not amount:
        return "$0"
    if amount >= 0.995:
        return f"${amount:,.2f}"
    return f"${amount:.2g}" if amount >= 1e-4 else f"${Decimal(f'{amount:.1e}'):f}"


def seconds(value: float) -> str:
    """Write a duration.

    Example:
        >>> seconds(0.0123), seconds(1.234), seconds(75.4), seconds(7_500)
        ('12 ms', '1.23 s', '1 min 15 s', '2 h 5 min')
    """
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    if value < 59.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def percent(share: float) -> str:
    """Write a share.

    Example:
        >>> percent(0.256), percent(1)
        ('26 %', '100 %')
    """
    return f"{share:.0%}".replace("%", " %")


def decision_words(one: SubtaskRun) -> Iterator[str]:
    """Say who was to answer and why, and what it was expected to cost on either tier."""
    decision = one.decision
    if decision is None:
        yield one.error or "Nobody was asked."
        return
    who = f" by {decision.router}" if decision.router else ""
    yield _sentence(f"Sent to the {decision.tier}{who}: {decision.reason or 'no reason was given'}")
    facts = []
    if decision.score is not None:
        against = "" if decision.threshold is None else f" against {_number(decision.threshold)}"
        facts.append(f"score {_number(decision.score)}{against}")
    price = _price(one)
    if price is not None:
        facts.append(f"shadow price {_number(price)} per USD")
    if facts:
        said = "; ".join(facts)
        yield f"{said[0].upper()}{said[1:]}."
    if decision.kept_local:
        yield "A policy ruled the cloud out."
    elif len(decision.allowed) == 1:
        yield f"Only the {decision.allowed[0]} was allowed to answer."
    other: TierName = "edge" if decision.tier == "cloud" else "cloud"
    expected = one.expected_usd
    usd = expected.get(decision.tier, decision.expected_cost_usd)
    if other in expected:
        yield (
            f"Expected to cost {dollars(usd)}; "
            f"on the {other} it would have been {dollars(expected[other])}."
        )
    elif usd is not None:
        yield f"Expected to cost {dollars(usd)}."


def what_happened(one: SubtaskRun) -> Iterator[str]:
    """Say what came of the decision: fallbacks, escalations, retries, the real cost."""
    if one.status == "skipped":
        return
    for attempt in one.attempts:
        told = attempt.verdict or attempt.accepted is not None
        if attempt.status != "ok" or attempt.purpose == "verify" or attempt.asked or told:
            yield _attempt_words(attempt)
    pauses = [moment for moment in one.timeline if moment.event == "paused"]
    if pauses:
        waited = seconds(sum(moment.seconds for moment in pauses))
        yield f"Asked again {len(pauses)} time{'s' * (len(pauses) > 1)}, after waiting {waited}."
    if one.escalated:
        asked = any(attempt.asked for attempt in one.attempts)
        why = "the edge asked for help" if asked else "the edge's answer was not accepted"
        yield f"Escalated: the cloud answered because {why}."
    elif one.degraded:
        yield "Degraded: the edge answered although the cloud was wanted."
    elif one.decision and one.tier and one.tier != one.decision.tier:
        yield f"The {one.tier} answered in the place of the {one.decision.tier}."
    yield f"It cost {dollars(one.cost_usd)}."


def wait_s(one: SubtaskRun) -> float:
    """Seconds from ready to the beginning of the first call."""
    starts = [moment.at_s for moment in one.timeline if moment.event == "started"]
    return max((starts[0] if starts else one.start_s) - one.ready_s, 0.0)


def _attempt_words(attempt: Tries) -> str:
    name = f"{attempt.tier} ({attempt.model})"
    if attempt.asked and attempt.status == "ok":
        return f"{name} tried, and asked for help, for {dollars(attempt.cost_usd)}."
    if attempt.status == "refused":
        return _sentence(f"Not asked: {name}: {attempt.error or 'refused'}")
    if attempt.status == "failed":
        return (
            f"Failed: {name}: {attempt.error or 'no answer'}, booked {dollars(attempt.cost_usd)}."
        )
    if attempt.purpose == "verify":
        return f"{name} was asked to verify the answer, for {dollars(attempt.cost_usd)}."
    score = "" if attempt.score is None else f" (score {_number(attempt.score)})"
    accepted = {True: "accepted", False: "not accepted", None: "not verified"}[attempt.accepted]
    verdict = f": {attempt.verdict}" if attempt.verdict else ""
    return _sentence(f"The edge's answer was {accepted}{score}{verdict}")


def _sentence(words: str) -> str:
    return words if words.endswith(".") else f"{words}."


def _price(one: SubtaskRun) -> float | None:
    """The shadow price at which it was decided, if there was one."""
    if one.decision and one.decision.price is not None:
        return one.decision.price
    states = (moment.budget for moment in one.timeline if moment.budget)
    return next((state.shadow_price for state in states if state.shadow_price), None)


def _number(value: float) -> str:
    return f"{value:.3g}"


def title_of(run: Run) -> str:
    """What to call a run where there is room for a line."""
    return run.label or " ".join(run.question.split())[:120] or "A run"
