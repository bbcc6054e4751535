"""The values of a saved run: subtasks, attempts, decisions, moments, the state of a budget."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "FROZEN",
    "BudgetState",
    "Decision",
    "Gauge",
    "Moment",
    "Planning",
    "Seconds",
    "SubtaskRun",
    "TierName",
    "TierTotals",
    "Tries",
]

TierName = Literal["edge", "cloud"]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Usd = Annotated[Decimal, Field(ge=0, le=10**12)]

FROZEN: Final = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Gauge(BaseModel):
    """One limit at one moment: what is spent and held of it, by this run and all others.

    Attributes:
        spent: What is spent.
        held: What open reservations hold.
        limit: The limit; `None` if there is none.
        scope: Whose limit it is.
    """

    model_config = FROZEN

    spent: Usd
    held: Usd
    limit: Usd | None = None
    scope: str = "budget"


class BudgetState(BaseModel):
    """A budget at the moment of a decision.

    Attributes:
        usd: Money, in USD.
        cloud_tokens: Tokens of cloud calls.
        cloud_calls: Cloud calls.
        deadline_s: Seconds that the run may take; `None` without a deadline.
        elapsed_s: Seconds that it had taken.
        shadow_price: Quality that a call must add for each USD (lambda).
    """

    model_config = FROZEN

    usd: Gauge
    cloud_tokens: Gauge
    cloud_calls: Gauge
    deadline_s: Seconds | None = None
    elapsed_s: Seconds = 0.0
    shadow_price: Annotated[float, Field(ge=0)] = 0.0


class Moment(BaseModel):
    """Something that happened: docs/metadata.md has the events and their facts.

    Attributes:
        at_s: When, in seconds since the run began.
        event: What.
        tier: Whose call it is about.
        purpose: "verify" for a call of a verifier.
        seconds: How long was paused, for "paused".
        usd: What was held or spent, in USD.
        cloud_tokens: Likewise, cloud tokens.
        cloud_calls: Likewise, cloud calls.
        expected_usd: What the call was expected to cost on each tier, for "decided".
        budget: The state of the budget, for "decided".
    """

    model_config = FROZEN

    at_s: Seconds
    event: str
    tier: TierName | None = None
    purpose: str = "answer"
    seconds: Seconds = 0.0
    usd: Usd = Decimal(0)
    cloud_tokens: Count = 0
    cloud_calls: Count = 0
    expected_usd: dict[TierName, Usd | None] = Field(default_factory=dict)
    budget: BudgetState | None = None


class Tries(BaseModel):
    """One attempt at one tier, as in the record of an answer (docs/metadata.md)."""

    model_config = FROZEN

    tier: TierName
    model: str
    status: Literal["ok", "failed", "refused"]
    input_tokens: Count = 0
    output_tokens: Count = 0
    usage_estimated: bool = False
    cost_usd: Usd | None = None
    error: str | None = None
    purpose: Literal["answer", "verify"] = "answer"
    accepted: bool | None = None
    score: float | None = None
    verdict: str | None = None
    asked: bool = False


class Decision(BaseModel):
    """Who was to answer, and why, as in the record of an answer."""

    model_config = FROZEN

    tier: TierName
    reason: str = ""
    router: str = ""
    score: float | None = None
    threshold: float | None = None
    price: float | None = None
    expected_cost_usd: Usd | None = None
    allowed: tuple[TierName, ...] = ("edge", "cloud")
    kept_local: bool = False


class Planning(BaseModel):
    """How the plan came about.

    Attributes:
        source: "planner", "trivial", "given" or "fallback".
        reason: Why the plan is trivial or a fallback.
        attempts: The planner's calls.
        timeline: Their moments.
    """

    model_config = FROZEN

    source: str = ""
    reason: str = ""
    attempts: tuple[Tries, ...] = ()
    timeline: tuple[Moment, ...] = ()


class SubtaskRun(BaseModel):
    """What became of one subtask; times are in seconds since the run began.

    Attributes:
        id: The subtask's id in the plan.
        status: "ok", "failed" or "skipped".
        answer: Its answer, if there is one.
        error: Why there is none.
        tier: Who answered.
        model: The model that answered.
        decision: Who was to answer, and why.
        attempts: Every call that was made or refused.
        cost_usd: What they cost together; `None` is unknown.
        input_tokens: Prompt tokens.
        output_tokens: Answer tokens.
        degraded: Whether the edge answered although the cloud was wanted.
        kept_local: Whether a policy ruled the cloud out.
        ready_s: When all that it needs was there.
        start_s: When its last call began.
        end_s: When it was done.
        timeline: Its moments; empty if they were not recorded.
    """

    model_config = FROZEN

    id: str
    status: Literal["ok", "failed", "skipped"]
    answer: str | None = None
    error: str | None = None
    tier: TierName | None = None
    model: str | None = None
    decision: Decision | None = None
    attempts: tuple[Tries, ...] = ()
    cost_usd: Usd | None = None
    input_tokens: Count = 0
    output_tokens: Count = 0
    degraded: bool = False
    kept_local: bool = False
    ready_s: Seconds
    start_s: Seconds
    end_s: Seconds
    timeline: tuple[Moment, ...] = ()

    @property
    def escalated(self) -> bool:
        """Whether the cloud answered what the edge had tried: it asked, or a verifier said so."""
        tries = self.attempts
        return self.tier == "cloud" and any(one.asked or one.accepted is False for one in tries)

    @property
    def expected_usd(self) -> Mapping[TierName, Decimal | None]:
        """What it was expected to cost on each tier; empty if that was not recorded."""
        return next((one.expected_usd for one in self.timeline if one.event == "decided"), {})


class TierTotals(BaseModel):
    """What one tier did in a run."""

    model_config = FROZEN

    calls: Count = 0
    refused: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    cost_usd: Usd | None = None
