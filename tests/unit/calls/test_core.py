"""The rules of one call: decide, buy, fall back; performed step by step without any model."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_hybridflow.budget import Budget, Limits, Price, Usage
from langchain_hybridflow.calls import AttemptFailed, Call, RoutingCore, TierModel, drive
from langchain_hybridflow.errors import (
    BudgetExceeded,
    CloudDeclined,
    ConfigurationError,
    DeadlineExceeded,
    ModelCallError,
    PolicyViolation,
    RoutingError,
    UnknownPriceError,
)
from langchain_hybridflow.routing import (
    TIERS,
    AlwaysCloud,
    AlwaysEdge,
    RouteDecision,
    RouteRequest,
    Tier,
)
from langchain_hybridflow.testing import ManualClock, ScriptedChatModel

PRICES = {"big": Price(10, 100), "small": Price(1, 1)}
PROMPT: list[BaseMessage] = [HumanMessage("Hello there")]
REQUEST = RouteRequest(text="Hello there", prompt_tokens=30)


def core_of(budget: Budget | None = None, **rules: Any) -> RoutingCore:
    models: dict[Tier, TierModel] = {
        "edge": TierModel.of("edge", ScriptedChatModel(responses=["e"], model_name="little")),
        "cloud": TierModel.of("cloud", ScriptedChatModel(responses=["c"], model_name="big")),
    }
    settings: dict[str, Any] = {"models": models, "router": AlwaysCloud()} | rules
    return RoutingCore(budget=budget or Budget(prices=PRICES), **settings)


def reply(text: str = "Hi", *, tokens: tuple[int, int] | None = (10, 5)) -> ChatResult:
    usage = tokens and {
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "total_tokens": sum(tokens),
    }
    return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=usage))])


def failing(*errors: BaseException | ChatResult) -> Callable[[Call], ChatResult]:
    outcomes = iter(errors)

    def call(step: Call) -> ChatResult:
        outcome = next(outcomes)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return call


def answer(core: RoutingCore, call: Callable[[Call], ChatResult], **kwargs: Any) -> Any:
    run = core.budget.start_run()
    return drive(core.answer(REQUEST, PROMPT, run=run, lease_id="x", **kwargs), call)


def spent(core: RoutingCore) -> tuple[float, int, int]:
    state = core.budget.snapshot()
    held = [state[key]["held"] for key in ("usd", "cloud_tokens", "cloud_calls")]
    assert held == [0, 0, 0], "the ledger does not balance"
    return state["usd"]["spent"], state["cloud_tokens"]["spent"], state["cloud_calls"]["spent"]


def the_worst_case(core: RoutingCore) -> tuple[float, int, int]:
    seen: list[Any] = []

    def call(step: Call) -> ChatResult:
        seen.append(core.budget.snapshot())
        return reply()

    answer(core, call)
    held = {key: seen[0][key]["held"] for key in ("usd", "cloud_tokens", "cloud_calls")}
    return held["usd"], held["cloud_tokens"], held["cloud_calls"]


class Routes:
    """A router that does what it is told."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.requests: list[RouteRequest] = []

    def route(self, request: RouteRequest) -> Any:
        self.requests.append(request)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


# ------------------------------------------------------------------------------------------ decide


def test_router_sees_the_live_budget_and_both_prices() -> None:
    router = Routes(RouteDecision(tier="edge", reason="r", router="mine"))
    budget = Budget(prices=PRICES, max_cloud_calls=5)
    core = core_of(budget, router=router, max_output_tokens=100)
    run = budget.start_run()
    run.reserve("other", budget.quote("cloud", "big", Usage(7, 3)))
    drive(core.decide(REQUEST, run=run), failing())
    [seen] = router.requests
    assert (seen.budget.cloud_calls.held, seen.budget.tokens_used) == (1, 10)
    assert seen.expected_cost_usd == {"edge": Decimal(0), "cloud": Decimal("0.0103")}


def test_decision_gets_the_expected_cost_when_the_router_gave_none() -> None:
    router = Routes(RouteDecision(tier="cloud", reason="r", router="mine"))
    core = core_of(router=router, max_output_tokens=100)
    decision = drive(core.decide(REQUEST, run=core.budget.start_run()), failing())
    assert decision.expected_cost_usd == Decimal("0.0103")


def test_decision_keeps_the_expected_cost_that_the_router_gave() -> None:
    router = Routes(
        RouteDecision(tier="cloud", reason="r", router="m", expected_cost_usd=Decimal(7))
    )
    core = core_of(router=router)
    decision = drive(core.decide(REQUEST, run=core.budget.start_run()), failing())
    assert decision.expected_cost_usd == 7


async def asynchronous() -> RouteDecision:
    return RouteDecision(tier="cloud", reason="r", router="m")


BAD_OUTCOMES = [
    (ValueError("no weights"), "ValueError"),
    (None, "must return a RouteDecision, got NoneType"),
    ("cloud", "must return a RouteDecision, got str"),
    ({"tier": "cloud", "reason": "r", "router": "m"}, "got dict"),
    (RouteDecision.model_construct(tier="fog", reason="r", router="m"), "'fog', which is no tier"),
]


@pytest.mark.parametrize(("outcome", "fault"), BAD_OUTCOMES)
@pytest.mark.parametrize("tier", ["edge", "cloud"])
def test_router_failure_takes_the_fallback_tier_and_says_why(
    outcome: Any, fault: str, tier: Tier
) -> None:
    core = core_of(router=Routes(outcome), on_router_error=tier)
    decision = drive(core.decide(REQUEST, run=core.budget.start_run()), failing())
    assert decision.tier == tier
    assert fault in decision.reason
    assert decision.router == "Routes"


def test_reason_does_not_quote_the_prompt_when_the_router_quotes_it() -> None:
    core = core_of(router=Routes(KeyError("CANARY of the prompt")))
    decision = drive(core.decide(REQUEST, run=core.budget.start_run()), failing())
    assert decision.reason == "router Routes failed (KeyError): edge"


@pytest.mark.parametrize(("outcome", "fault"), BAD_OUTCOMES)
def test_router_failure_raises_when_told_to(outcome: Any, fault: str) -> None:
    core = core_of(router=Routes(outcome), on_router_error="raise")
    with pytest.raises(RoutingError) as caught:
        drive(core.decide(REQUEST, run=core.budget.start_run()), failing())
    assert fault in str(caught.value)
    assert caught.value.__cause__ is not None


def test_async_router_is_a_failure_that_leaves_no_coroutine_behind() -> None:
    core = core_of(router=Routes(asynchronous()))
    decision = drive(core.decide(REQUEST, run=core.budget.start_run()), failing())
    assert "got coroutine" in decision.reason


def test_router_that_is_interrupted_is_not_a_router_failure() -> None:
    core = core_of(router=Routes(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        drive(core.decide(REQUEST, run=core.budget.start_run()), failing())


def test_router_is_asked_once_when_the_call_is_tried_twice() -> None:
    router = Routes(RouteDecision(tier="cloud", reason="r", router="mine"))
    core = core_of(router=router)
    answer(core, failing(ValueError("no"), reply()))
    assert len(router.requests) == 1


# -------------------------------------------------------------------------------- settling a call


def test_call_is_held_at_its_worst_and_booked_at_its_real_cost() -> None:
    core = core_of(max_output_tokens=100)
    usd, tokens, calls = the_worst_case(core)
    assert tokens > 100
    assert (usd, calls) == (pytest.approx((tokens - 100) * 10e-6 + 100 * 100e-6), 1)
    assert spent(core) == (pytest.approx(0.0006), 15, 1)


def test_edge_call_is_free_when_the_edge_has_no_price() -> None:
    core = core_of(router=AlwaysEdge())
    assert answer(core, failing(reply())).cost_usd == 0
    assert spent(core) == (0, 0, 0)


def test_edge_call_is_paid_when_the_edge_has_a_price() -> None:
    budget = Budget(prices={"little": Price(1, 1)}, limit_usd=1)
    budget_core = core_of(budget, router=AlwaysEdge())
    assert answer(budget_core, failing(reply())).cost_usd == Decimal("0.000015")
    assert spent(budget_core) == (pytest.approx(0.000015), 0, 0)


def test_cost_is_unknown_when_the_cloud_has_no_price() -> None:
    core = core_of(Budget(max_cloud_tokens=10_000))
    bought = answer(core, failing(reply()))
    assert bought.cost_usd is None
    assert bought.metadata()["cost_usd"] is None
    assert spent(core) == (0, 15, 1)


CERTAIN = [
    ConnectionRefusedError("refused"),
    httpx.ConnectError("no route"),
    ValueError("unknown option"),
]
AMBIGUOUS = [
    TimeoutError("slow"),
    httpx.ReadError("reset"),
    KeyboardInterrupt(),
    SystemExit(1),
    BaseException("broken off"),
]


@pytest.mark.parametrize("error", CERTAIN, ids=repr)
def test_failed_call_costs_nothing_when_it_was_not_answered_for_sure(error: Exception) -> None:
    core = core_of(on_cloud_error="raise")
    with pytest.raises(type(error)):
        answer(core, failing(error))
    assert spent(core) == (0, 0, 0)


@pytest.mark.parametrize("error", AMBIGUOUS, ids=repr)
def test_failed_call_costs_its_worst_case_when_it_may_have_been_answered(
    error: BaseException,
) -> None:
    worst = the_worst_case(core_of())
    core = core_of(on_cloud_error="raise")
    with pytest.raises(type(error)):
        answer(core, failing(error))
    assert spent(core) == worst


@pytest.mark.parametrize(
    "result",
    [
        ChatResult(generations=[]),
        ChatResult(generations=[ChatGeneration(message=HumanMessage("me"))]),
    ],
    ids=["no answer", "not from a model"],
)
def test_answer_that_cannot_be_used_is_paid_for(result: ChatResult) -> None:
    worst = the_worst_case(core_of())
    core = core_of()
    bought = answer(core, failing(result, reply()))
    assert [attempt.status for attempt in bought.attempts] == ["failed", "ok"]
    assert spent(core) == worst


def test_time_out_is_paid_for_when_an_older_refusal_was_being_handled() -> None:
    core = core_of(on_cloud_error="raise")

    def call(step: Call) -> ChatResult:
        raise TimeoutError

    try:
        raise ConnectionRefusedError("an older story")
    except ConnectionRefusedError:
        with pytest.raises(TimeoutError):
            answer(core, call)
    assert spent(core)[2] == 1


def test_answer_without_usage_is_booked_by_estimate() -> None:
    core = core_of()
    bought = answer(core, failing(reply(tokens=None)))
    assert bought.purchase.attempt.usage_estimated
    assert spent(core)[1] == bought.purchase.usage.total_tokens > 0


def test_answer_from_the_models_own_cache_costs_nothing() -> None:
    core = core_of()
    result = reply()
    message = result.generations[0].message
    message.usage_metadata = {**message.usage_metadata, "total_cost": 0}  # type: ignore[attr-defined]
    bought = answer(core, failing(result))
    assert (bought.cost_usd, spent(core)) == (0, (0, 0, 0))


def test_answers_side_by_side_are_all_held() -> None:
    core = core_of(max_output_tokens=100)
    held: list[int] = []

    def call(step: Call) -> ChatResult:
        held.append(core.budget.snapshot()["cloud_tokens"]["held"])
        return reply()

    answer(core, call)
    answer(core, call, options={"n": 4})
    assert held[1] == held[0] + 300


@pytest.mark.parametrize(
    ("budget", "capped"),
    [
        (Budget(limit_usd=1, prices=PRICES), True),
        (Budget(max_cloud_tokens=10_000, prices=PRICES), True),
        (Budget(per_run=Limits(cloud_tokens=10_000), prices=PRICES), True),
        (Budget(max_cloud_calls=1, prices=PRICES), False),
        (Budget(prices=PRICES), False),
    ],
)
def test_cloud_answer_is_held_to_its_cap_when_money_or_tokens_are_limited(
    budget: Budget, *, capped: bool
) -> None:
    options: list[dict[str, Any]] = []

    def call(step: Call) -> ChatResult:
        options.append(step.options)
        return reply()

    answer(core_of(budget, max_output_tokens=77), call)
    assert options == [{"max_tokens": 77} if capped else {}]


# --------------------------------------------------------------------------------------- fall back


def test_fallback_is_a_purchase_of_its_own() -> None:
    budget = Budget(prices={**PRICES, "little": Price(1, 1)})
    core = core_of(budget)
    bought = answer(core, failing(TimeoutError(), reply()))
    failed, good = bought.attempts
    assert (failed.tier, failed.status, good.tier, good.status) == ("cloud", "failed", "edge", "ok")
    assert bought.cost_usd == failed.cost_usd + good.cost_usd
    assert spent(core)[0] == pytest.approx(float(bought.cost_usd))
    assert failed.cost_usd > good.cost_usd > 0


def test_cloud_stands_in_for_the_edge_and_is_paid() -> None:
    core = core_of(router=AlwaysEdge())
    bought = answer(core, failing(ConnectionRefusedError(), reply()))
    assert (bought.purchase.attempt.tier, bought.degraded) == ("cloud", False)
    assert spent(core) == (pytest.approx(0.0006), 15, 1)


def test_cloud_does_not_stand_in_for_the_edge_when_the_budget_refuses_it() -> None:
    core = core_of(Budget(max_cloud_calls=0, prices=PRICES), router=AlwaysEdge())
    with pytest.raises(ModelCallError, match=r"edge failed: ConnectionRefused.*cloud refused"):
        answer(core, failing(ConnectionRefusedError()))
    assert spent(core) == (0, 0, 0)


@pytest.mark.parametrize(
    ("router", "rule"), [(AlwaysEdge(), "on_edge_error"), (AlwaysCloud(), "on_cloud_error")]
)
def test_error_itself_is_raised_when_the_tier_may_not_be_replaced(router: Any, rule: str) -> None:
    error = ValueError("broken")
    cause = KeyError("why")
    error.__cause__ = cause
    with pytest.raises(ValueError, match="broken") as caught:
        answer(core_of(router=router, **{rule: "raise"}), failing(error))
    assert caught.value is error
    assert error.__cause__ is cause, "its own cause is kept"


def test_error_that_is_raised_does_not_lead_back_to_itself() -> None:
    with pytest.raises(ValueError, match="broken") as caught:
        answer(core_of(on_cloud_error="raise"), failing(ValueError("broken")))
    seen: list[BaseException] = []
    link: BaseException | None = caught.value
    while link is not None:
        assert link not in seen
        seen.append(link)
        link = link.__cause__ or link.__context__
    traceback.format_exception(caught.value)


def test_error_names_both_tiers_when_both_fail() -> None:
    last = ValueError("edge is off")
    with pytest.raises(ModelCallError) as caught:
        answer(core_of(), failing(ConnectionRefusedError("no net"), last))
    assert "cloud failed: ConnectionRefusedError: no net" in str(caught.value)
    assert "edge failed: ValueError: edge is off" in str(caught.value)
    assert (caught.value.tier, caught.value.partial_text) == ("edge", "")
    assert caught.value.__cause__ is last


def test_each_tier_is_tried_once() -> None:
    calls: list[Tier] = []

    def call(step: Call) -> ChatResult:
        calls.append(step.target.tier)
        raise ValueError("no")

    with pytest.raises(ModelCallError):
        answer(core_of(), call)
    assert calls == ["cloud", "edge"]


@pytest.mark.parametrize(
    "limits", [{"max_cloud_calls": 0}, {"max_cloud_tokens": 5}, {"limit_usd": 0}]
)
def test_edge_answers_when_the_budget_refuses_the_cloud(limits: dict[str, Any]) -> None:
    core = core_of(Budget(prices=PRICES, **limits))
    bought = answer(core, failing(reply()))
    refused, good = bought.attempts
    assert (refused.status, refused.cost_usd, good.tier) == ("refused", 0, "edge")
    assert "BudgetExceeded" in (refused.error or "")
    assert bought.degraded
    assert spent(core) == (0, 0, 0)


def test_refusal_of_the_budget_is_raised_when_told_to() -> None:
    core = core_of(Budget(max_cloud_calls=0, on_exhausted="raise", prices=PRICES))
    with pytest.raises(BudgetExceeded) as caught:
        answer(core, failing())
    assert caught.value.dimension == "cloud_calls"


def test_edge_answers_for_the_budget_even_when_cloud_errors_shall_raise() -> None:
    core = core_of(Budget(max_cloud_calls=0, prices=PRICES), on_cloud_error="raise")
    assert answer(core, failing(reply())).degraded


def test_priced_edge_is_refused_when_the_money_is_gone() -> None:
    prices = {**PRICES, "little": Price(1, 1)}
    core = core_of(Budget(limit_usd=0, prices=prices), router=AlwaysEdge())
    with pytest.raises(BudgetExceeded):
        answer(core, failing())


@pytest.mark.parametrize("error", [ConfigurationError("x"), UnknownPriceError("m")])
def test_mistake_of_the_user_is_not_hidden_behind_the_other_tier(error: Exception) -> None:
    with pytest.raises(type(error)):
        answer(core_of(), failing(error, reply()))


def failed(tier: Tier, error: Exception, *, begun: bool = False) -> AttemptFailed:
    return AttemptFailed(core_of().refusal(tier, error), error, begun=begun)


@pytest.mark.parametrize(
    ("failure", "following"),
    [
        (failed("cloud", ValueError()), "edge"),
        (failed("edge", ValueError()), "cloud"),
        (failed("cloud", ValueError(), begun=True), None),
        (failed("cloud", CloudDeclined("1")), "edge"),
        (failed("cloud", DeadlineExceeded("it", 1)), "edge"),
    ],
)
def test_next_tier_after_a_failure(failure: AttemptFailed, following: Tier | None) -> None:
    assert core_of().next_tier(failure, tried=[failure.attempt.tier], allowed=TIERS) == following


@pytest.mark.parametrize(
    "error",
    [
        OSError("down"),
        CloudDeclined("1"),
        PolicyViolation("no"),
        BudgetExceeded(dimension="usd", requested=1, remaining=0, limit=0, scope="run"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("tier", TIERS)
def test_next_tier_is_never_one_that_is_not_allowed(tier: Tier, error: Exception) -> None:
    assert core_of().next_tier(failed(tier, error), tried=[tier], allowed=[tier]) is None


def test_router_that_chooses_what_it_does_not_allow_is_not_followed() -> None:
    given = RouteDecision(tier="cloud", reason="r", router="mine", allowed=("edge",))
    core = core_of(router=Routes(given))
    decision = drive(core.decide(REQUEST, run=core.budget.start_run()), failing())
    assert (decision.tier, "does not allow" in decision.reason) == ("edge", True)


def test_fallback_that_the_router_rules_out_is_not_made() -> None:
    given = RouteDecision(tier="edge", reason="r", router="mine", allowed=("edge",))
    with pytest.raises(OSError, match="down"):
        answer(core_of(router=Routes(given)), failing(OSError("down"), reply()))


def test_router_is_not_asked_when_only_one_tier_is_allowed() -> None:
    router = Routes(RouteDecision(tier="cloud", reason="r", router="mine"))
    core = core_of(router=router, policy=lambda _: ["edge"])
    decision = drive(core.decide(REQUEST, run=core.budget.start_run()), failing())
    assert (decision.tier, decision.allowed, decision.kept_local) == ("edge", ("edge",), True)
    assert not router.requests


def test_declined_cloud_call_goes_to_the_edge_whatever_the_rules() -> None:
    core = core_of(on_cloud_error="raise")
    assert (
        core.next_tier(failed("cloud", CloudDeclined("1")), tried=["cloud"], allowed=TIERS)
        == "edge"
    )


def test_declined_cloud_call_that_stood_in_for_the_edge_goes_nowhere() -> None:
    declined = failed("cloud", CloudDeclined("1"))
    assert core_of().next_tier(declined, tried=["edge", "cloud"], allowed=TIERS) is None


def test_call_is_refused_when_the_time_of_the_run_is_over() -> None:
    clock = ManualClock()
    core = core_of(Budget(deadline_s=5, clock=clock, prices=PRICES))
    run = core.budget.start_run()
    clock.advance(5)
    with pytest.raises(ModelCallError, match="longer than 5 s"):
        drive(core.answer(REQUEST, PROMPT, run=run, lease_id="x"), failing())
    assert spent(core) == (0, 0, 0)


# ----------------------------------------------------------------------------------------- secrets


def test_record_of_a_failure_holds_no_key() -> None:
    core = core_of()
    bought = answer(core, failing(ValueError("Bad key sk-CANARY0123456789 given"), reply()))
    assert "CANARY" not in repr(bought.metadata())
    assert "Bad key *** given" in repr(bought.metadata())


def test_model_without_a_name_goes_by_its_class() -> None:
    target = TierModel.of("cloud", FakeListChatModel(responses=["x"]))
    models: Any = {"edge": core_of().models["edge"], "cloud": target}
    bought = answer(core_of(models=models), failing(reply()))
    assert bought.metadata()["model"] == "FakeListChatModel"
