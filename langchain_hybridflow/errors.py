"""Everything that this package raises on purpose, as one tree.

```
HybridFlowError
├── ConfigurationError       a parameter or combination of parameters that cannot work
│   ├── ArtifactError        a saved router cannot be loaded as it is, or may not be trusted
│   ├── MissingExtraError    an optional package is not installed
│   └── ModelSpecError       a model named on the command line cannot be found or built
├── PlanError                a plan that is not a valid DAG of subtasks; `.issues` lists every fault
├── BudgetError
│   ├── BudgetExceeded       a call was refused because a limit would have been passed
│   │   ├── CloudShareExceeded  because the cap on the share of cloud calls would have been
│   │   └── NobodyToAsk      and nobody can be asked for more where the call was made
│   ├── UnknownPriceError    a USD limit is set and the model has no price
│   └── LedgerError          the ledger was used against its contract
│       └── LedgerUnavailable  the store of the ledger does not answer
├── EmbeddingError           texts cannot be turned into vectors: no answer, or a wrong one
├── InputError               a question that cannot be worked on: empty, too long, not text
├── RoutingError             a router failed, or answered with something that is not a decision
├── CapabilityError          neither tier can answer such a call: it has no tools, no images, ...
├── PolicyViolation          no tier that can answer is one that the policy allows
├── ModelCallError           a model call failed on every tier that was allowed to answer
│   └── CircuitOpen          a tier failed several times in a row and is left alone for a while
├── CloudDeclined            a person did not approve a cloud call
├── SubtaskError             a subtask failed and the graph was told to raise
└── DeadlineExceeded         the run, or one of its subtasks, ran out of time
```

Messages say what happened, with the numbers, and what to do about it. The same facts are
attributes of the error, for programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

__all__ = [
    "ArtifactError",
    "BudgetError",
    "BudgetExceeded",
    "CapabilityError",
    "CircuitOpen",
    "CloudDeclined",
    "CloudShareExceeded",
    "ConfigurationError",
    "DeadlineExceeded",
    "EmbeddingError",
    "HybridFlowError",
    "InputError",
    "LedgerError",
    "LedgerUnavailable",
    "MissingExtraError",
    "ModelCallError",
    "ModelSpecError",
    "NobodyToAsk",
    "PlanError",
    "PolicyViolation",
    "RoutingError",
    "SubtaskError",
    "UnknownPriceError",
]


class HybridFlowError(RuntimeError):
    """Base of all errors of this package.

    LangGraph's server tells its clients the messages of a RuntimeError, and of few others; its
    retries leave one alone.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross processes (pools, task queues); their constructors take no message.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[HybridFlowError], args: tuple[Any, ...], facts: dict[str, Any]
) -> HybridFlowError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class ConfigurationError(HybridFlowError):
    """A parameter, or a combination of parameters, cannot work as given."""


class ArtifactError(ConfigurationError):
    """A saved router, or another learnt object, cannot be loaded, or may not be trusted."""


class MissingExtraError(ConfigurationError):
    """An optional package is needed and not installed.

    Args:
        feature: What the user asked for, as the start of a sentence.
        extra: Name of the extra of this package that brings what is missing.
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            f"{feature} needs an optional package that is not installed. "
            f"Install it with: pip install 'langchain-hybridflow[{extra}]'"
        )


class ModelSpecError(ConfigurationError):
    """A model named on the command line cannot be found or built."""


class Issue(Protocol):
    """One fault of a plan; see `langchain_hybridflow.plan.PlanIssue`."""

    @property
    def code(self) -> str:
        """What kind of fault."""
        ...

    @property
    def subtask_id(self) -> str | None:
        """The subtask at fault, or `None` if it is the plan as a whole."""
        ...

    @property
    def message(self) -> str:
        """The fault in words."""
        ...


class PlanError(HybridFlowError):
    """A plan is not a valid DAG of subtasks.

    Args:
        message: What was being done.
        issues: Every fault that was found, not just the first one.
    """

    def __init__(self, message: str, issues: Sequence[Issue] = ()) -> None:
        self.issues = tuple(issues)
        lines = "".join(f"\n  - {issue}" for issue in self.issues)
        super().__init__(f"{message}{lines}")


class BudgetError(HybridFlowError):
    """Base of the errors about money, tokens and calls."""


class BudgetExceeded(BudgetError):
    """A call was refused, before it was made, because it would have passed a limit.

    Args:
        dimension: `"usd"`, `"cloud_tokens"` or `"cloud_calls"`.
        requested: What the call could have cost at worst, in the dimension's own unit
            (USD, tokens or calls).
        remaining: What was left when it asked, in the same unit.
        limit: The limit that stands in the way.
        scope: Which account the limit belongs to, such as `"budget"` or `"run"`.
    """

    def __init__(
        self,
        *,
        dimension: str,
        requested: object,
        remaining: object,
        limit: object,
        scope: str,
    ) -> None:
        self.dimension = dimension
        self.requested = requested
        self.remaining = remaining
        self.limit = limit
        self.scope = scope
        super().__init__(
            f"The call needs up to {requested} {dimension} and the {scope} has {remaining} of "
            f"{limit} left. Raise the limit, shorten the prompt, lower max_output_tokens, or let "
            f"the edge answer with on_exhausted='edge'."
        )


class CloudShareExceeded(BudgetExceeded):
    """A cloud call was refused, before it was made: it would have passed a cap on their share.

    `dimension` is `"cloud_share"`; `requested`, `remaining` and `limit` are cloud calls, and the
    limit is the burst.

    Args:
        max_share: Share of the answered prompts, in 0..1, that may make a cloud call.
        burst: Cloud calls in a row that are allowed after a quiet time.
        remaining: Cloud calls that were left when it asked.
        held: Cloud calls under way; they may come back.
        scope: Whose cap it is, such as `"cloud-share"` or `"user-cloud-share"`.
    """

    def __init__(
        self, *, max_share: Decimal, burst: int, remaining: int, held: int, scope: str
    ) -> None:
        super().__init__(
            dimension="cloud_share", requested=1, remaining=remaining, limit=burst, scope=scope
        )
        self.max_share = max_share
        self.held = held
        self.burst = burst
        share = float(max_share)
        when = f"comes with every {1 / share:.3g} prompts" if share else "never comes"
        message = (
            f"The call would pass the {scope}: cloud calls are at most {100 * share:.6g} % of the "
            f"answered prompts, and up to {burst:,} in a row, of which {remaining:,} are left "
            f"({held:,} under way). Another one {when}. Raise max_cloud_share or share_burst, or "
            f"let the edge answer with on_exhausted='edge'."
        )
        self.args = (message,)


class NobodyToAsk(BudgetExceeded, ConfigurationError):
    """A call was refused, and `on_exhausted="ask"` finds nobody to ask where it was made.

    Args:
        refused: The refusal.
    """

    def __init__(self, refused: BudgetExceeded) -> None:
        super().__init__(
            dimension=refused.dimension,
            requested=refused.requested,
            remaining=refused.remaining,
            limit=refused.limit,
            scope=refused.scope,
        )
        message = (
            f"{refused} on_exhausted='ask' would ask a person by a LangGraph interrupt, and that "
            f"takes a call from within a LangGraph that has a checkpointer and runs in a thread "
            f"(config={{'configurable': {{'thread_id': ...}}}})."
        )
        self.args = (message,)


class UnknownPriceError(BudgetError):
    """A USD limit is set, but nobody has said what the model costs."""

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(
            f"A USD limit is set and the price of model {model!r} is unknown. Give it with "
            f"Budget(prices={{{model!r}: Price(input_usd_per_mtok=..., "
            f"output_usd_per_mtok=...)}}), or limit cloud tokens or calls instead of USD."
        )


class LedgerError(BudgetError):
    """The ledger was used against its contract, for example one lease id for two amounts."""


class LedgerUnavailable(LedgerError):
    """The store of the ledger does not answer, so that nothing can be reserved for sure.

    Args:
        url: Where the store is; only what is no secret of it is kept: no user, no query.
        reason: What the client of the store says.
    """

    def __init__(self, url: str, reason: str) -> None:
        # To the last "@", and up to the query: passwords hold all kinds of characters.
        self.url = re.split("[?&#]", re.sub(r"//.*@", "//", url))[0]
        self.reason = reason.replace(url, self.url)
        super().__init__(
            f"The ledger at {self.url} does not answer: {self.reason}. Nothing can be reserved "
            f"until it does. Check that the server runs, and that the URL and the network are "
            f"right."
        )


class EmbeddingError(HybridFlowError):
    """Texts cannot be turned into vectors: the service fails, or what it returns are none."""


class InputError(HybridFlowError):
    """A question cannot be worked on: it is empty, too long, or not text."""


class RoutingError(HybridFlowError):
    """A router failed, or answered with something that is not a decision."""


class CapabilityError(HybridFlowError):
    """Neither tier has what a call needs.

    Args:
        lacking: What each tier lacks, in words.
    """

    def __init__(self, lacking: Mapping[str, Sequence[str]]) -> None:
        self.lacking = {tier: tuple(what) for tier, what in lacking.items()}
        parts = "; ".join(f"the {tier} lacks {', '.join(what)}" for tier, what in lacking.items())
        super().__init__(
            f"No tier can answer this call: {parts}. Ask for less, use a model that can do it, or "
            f"give the model a true profile (profile={{...}}) if it can."
        )


class PolicyViolation(HybridFlowError):
    """A call was not made, because the policy allows no tier that could answer it.

    Args:
        reason: Why the policy forbids a tier, without the text it speaks of.
        allowed: The tiers that the policy allows.
        lacking: What those lack, in words.
    """

    def __init__(
        self,
        reason: str,
        *,
        allowed: Sequence[str] = (),
        lacking: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.reason = reason
        self.allowed = tuple(allowed)
        missing = "; ".join(
            f"the {tier} lacks {', '.join(what)}" for tier, what in (lacking or {}).items() if what
        )
        where = f"only on the {' and the '.join(allowed)}" if allowed else "on no tier"
        super().__init__(
            f"The policy allows this call {where} ({reason or 'without a reason'})"
            f"{', and ' + missing if missing else ''}. Take out of the prompt what the policy "
            f"looks for, give the allowed tier a model that can do it, or change the policy."
        )


class ModelCallError(HybridFlowError):
    """A model call failed on every tier that was allowed to answer.

    Args:
        message: What happened.
        tier: The tier that failed last.
        partial_text: What had been streamed before the failure; empty if nothing had.
    """

    def __init__(self, message: str, *, tier: str, partial_text: str = "") -> None:
        self.tier = tier
        self.partial_text = partial_text
        super().__init__(message)


class CircuitOpen(ModelCallError):
    """A call was not made, because its tier failed several times in a row and is left alone.

    Args:
        tier: The tier that is left alone.
        failures: After how many outages in a row that happens.
        retry_in_s: Seconds until a call may try it again.
    """

    def __init__(self, tier: str, *, failures: int, retry_in_s: float) -> None:
        self.failures = failures
        self.retry_in_s = retry_in_s
        times = "1 time" if failures == 1 else f"{failures} times"
        super().__init__(
            f"The {tier} failed {times} in a row, and is left alone for another "
            f"{max(retry_in_s, 0.0):.1f} s. Check that its server is up, or change that with "
            f"RoutedChatModel(breaker=Breaker(fail_max=..., reset_timeout_s=...)) or breaker=None.",
            tier=tier,
        )


class CloudDeclined(HybridFlowError):
    """A person was asked to approve a cloud call and did not."""

    def __init__(self, subtask_id: str) -> None:
        self.subtask_id = subtask_id
        super().__init__(f"The cloud call of subtask {subtask_id!r} was not approved.")


class SubtaskError(HybridFlowError):
    """A subtask failed, and the graph was built with `on_subtask_error="raise"`."""

    def __init__(self, subtask_id: str, reason: str) -> None:
        self.subtask_id = subtask_id
        super().__init__(
            f"Subtask {subtask_id!r} failed: {reason}. To go on with what the other subtasks "
            f"found, build the graph with on_subtask_error='continue'."
        )


class DeadlineExceeded(HybridFlowError):
    """The run, or one of its subtasks, ran out of time.

    Args:
        what: What ran out of time.
        limit_s: The time it had, in seconds.
        expected_s: The time that it was expected to take, if it was not begun for that reason.
    """

    def __init__(self, what: str, limit_s: float, *, expected_s: float | None = None) -> None:
        self.limit_s = limit_s
        self.expected_s = expected_s
        late = (
            f"took longer than {limit_s:g} s"
            if expected_s is None
            else f"is expected to take {expected_s:.3g} s and has {limit_s:.3g} s"
        )
        super().__init__(
            f"{what} {late}. Give it more time "
            f"(Budget(deadline_s=...), HybridFlowGraph(subtask_timeout_s=...), or the time-outs of "
            f"RoutedChatModel), or take a faster model."
        )
