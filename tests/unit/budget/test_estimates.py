"""How many answer tokens are reserved, and what that risks."""

from __future__ import annotations

import json
import math
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget import (
    Account,
    Amounts,
    Budget,
    Denial,
    Estimator,
    LearnedEstimate,
    Limits,
    MemoryLedger,
    StrictEstimate,
)
from langchain_hybridflow.budget.estimates import LengthHistogram
from langchain_hybridflow.errors import ConfigurationError

CAP = 4_096
NAME = {"tier": "cloud", "model": "gpt-4.1"}

lengths = st.lists(st.integers(0, 100_000), min_size=1, max_size=300)


def histogram(answers: list[int]) -> LengthHistogram:
    found = LengthHistogram()
    for tokens in answers:
        found = found.with_length(tokens)
    return found


def learnt(answers: list[int], *, quantile: float = 0.95, role: str | None = None) -> Any:
    estimate = LearnedEstimate(quantile)
    for tokens in answers:
        estimate.observe(tokens, **NAME, role=role)
    return estimate


def lognormal(count: int, *, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [round(rng.lognormvariate(5.8, 0.8)) for _ in range(count)]


@pytest.mark.parametrize("estimate", [StrictEstimate(), LearnedEstimate()])
def test_estimates_are_estimators(estimate: object) -> None:
    assert isinstance(estimate, Estimator)


def test_strict_estimate_reserves_the_cap_whatever_was_observed() -> None:
    estimate = StrictEstimate()
    for _ in range(100):
        estimate.observe(5, **NAME)
    assert estimate.output_tokens(CAP, **NAME) == CAP


@given(lengths, st.floats(0.05, 0.99))
def test_bound_is_the_ranked_length_rounded_up_by_at_most_a_bin(
    answers: list[int], quantile: float
) -> None:
    bound = histogram(answers).bound(quantile)
    rank = math.ceil(quantile * (len(answers) + 1))
    if rank > len(answers):
        assert bound is None
        return
    truth = sorted(answers)[rank - 1]
    assert bound is not None
    assert truth <= bound <= max(1, truth) * 2 ** (1 / 8) + 1


@given(lengths, lengths)
def test_histograms_merge_to_what_one_would_have_counted(one: list[int], other: list[int]) -> None:
    together = histogram(one + other)
    assert histogram(one).merged(histogram(other)) == together
    assert histogram(other).merged(histogram(one)) == together


def test_histogram_stays_small_and_keeps_its_quantiles_when_old_answers_fade() -> None:
    answers = lognormal(20_000)
    found = histogram(answers)
    assert found.total <= 2_000
    assert len(found.counts) < 100
    for quantile in (0.5, 0.9, 0.99):
        truth = sorted(answers)[int(quantile * len(answers))]
        assert found.bound(quantile) == pytest.approx(truth, rel=0.2)


def test_learned_estimate_is_strict_until_there_are_20_answers() -> None:
    assert learnt([100] * 19).output_tokens(CAP, **NAME) == CAP
    assert learnt([100] * 20).output_tokens(CAP, **NAME) < 120


def test_learned_estimate_is_strict_longer_when_more_is_promised() -> None:
    assert learnt([100] * 98, quantile=0.99).output_tokens(CAP, **NAME) == CAP
    assert learnt([100] * 99, quantile=0.99).output_tokens(CAP, **NAME) < 120


def test_learned_estimate_never_passes_the_cap() -> None:
    assert learnt([3_000] * 50).output_tokens(256, **NAME) == 256


def test_learned_estimate_counts_each_role_for_itself() -> None:
    estimate = learnt([50] * 50, role="explain")
    for _ in range(50):
        estimate.observe(2_000, **NAME, role="generate")
    assert estimate.output_tokens(CAP, **NAME, role="explain") < 60
    assert estimate.output_tokens(CAP, **NAME, role="generate") >= 2_000


def test_learned_estimate_counts_all_roles_when_there_are_few_of_one() -> None:
    estimate = learnt([50] * 60, role="explain")
    assert estimate.output_tokens(CAP, **NAME, role="analyze") < 60


@pytest.mark.parametrize("other", [{"tier": "edge"}, {"model": "another"}])
def test_learned_estimate_knows_nothing_of_other_models(other: dict[str, str]) -> None:
    assert learnt([50] * 60).output_tokens(CAP, **{**NAME, **other}) == CAP


def test_learned_estimate_is_passed_no_more_often_than_it_says() -> None:
    answers = lognormal(5_000, seed=3)
    estimate, above = LearnedEstimate(0.95), 0
    for tokens in answers:
        above += tokens > estimate.output_tokens(CAP, **NAME)
        estimate.observe(min(tokens, CAP), **NAME)
    assert above / len(answers) < 0.055


def test_learned_estimate_survives_plain_json() -> None:
    estimate = learnt(lognormal(500), role="analyze")
    plain = json.loads(json.dumps(estimate.to_dict()))
    again = LearnedEstimate(learnt=plain)
    assert again.to_dict() == estimate.to_dict()
    assert again.output_tokens(CAP, **NAME, role="analyze") == estimate.output_tokens(
        CAP, **NAME, role="analyze"
    )


def test_learned_estimate_takes_in_what_another_process_learnt() -> None:
    estimate = learnt([100] * 15)
    estimate.merge(learnt([100] * 15).to_dict())
    assert estimate.output_tokens(CAP, **NAME) < 120


@pytest.mark.parametrize("quantile", [0, 1, -0.1, 1.5, math.nan, math.inf, True, "0.9", None])
def test_learned_estimate_refuses_a_quantile_that_is_none(quantile: Any) -> None:
    with pytest.raises(ConfigurationError, match="quantile"):
        LearnedEstimate(quantile)


ROW = {"tier": "cloud", "model": "m", "role": "", "counts": [[3, 4]]}


@pytest.mark.parametrize(
    "plain",
    [
        {},
        [],
        {"format": 2, "lengths": []},
        {"format": 1},
        {"format": 1, "lengths": [{"tier": "cloud"}]},
        {"format": 1, "lengths": [{**ROW, "counts": [[3, -4]]}]},
        {"format": 1, "lengths": [{**ROW, "counts": [[3.5, 4]]}]},
        {"format": 1, "lengths": [ROW, {**ROW, "counts": 7}]},
    ],
)
def test_learned_estimate_refuses_what_it_did_not_write(plain: Any) -> None:
    estimate = LearnedEstimate()
    with pytest.raises(ConfigurationError, match=r"LearnedEstimate\.to_dict"):
        estimate.merge(plain)
    assert estimate.to_dict()["lengths"] == []


def test_an_answer_beyond_its_reservation_is_booked_and_the_next_one_refused() -> None:
    estimate = learnt([100] * 50)
    ledger, account = MemoryLedger(), Account("a", "budget", Limits(cloud_tokens=150))
    held = Amounts(cloud_tokens=estimate.output_tokens(CAP, **NAME))
    ledger.reserve("1", held, accounts=[account], ttl_s=60)
    ledger.commit("1", Amounts(cloud_tokens=400))
    state = ledger.snapshot([account])[0]
    assert state.used.cloud_tokens == 400
    assert state.overdraft.cloud_tokens == 400 - held.cloud_tokens
    assert isinstance(ledger.reserve("2", held, accounts=[account], ttl_s=60), Denial)


def test_budget_estimates_strictly_by_default() -> None:
    assert Budget(limit_usd=1).estimates.output_tokens(CAP, **NAME) == CAP


def test_no_listed_price_is_zero() -> None:
    from langchain_hybridflow.budget.price_list import PRICES

    for name, listed in PRICES.items():
        price = listed.price
        while price is not None:
            assert price.input_usd_per_mtok > 0, name
            assert price.output_usd_per_mtok > 0, name
            assert price.cached_input_usd_per_mtok != 0, name
            assert price.cache_write_usd_per_mtok != 0, name
            price = price.long_prompt[1] if price.long_prompt else None


def test_budget_keeps_its_estimates_when_pickled_with_a_store(tmp_path: Path) -> None:
    estimates = learnt([100] * 30, quantile=0.9)
    budget = Budget(store=f"sqlite:///{tmp_path}/budget.db", estimates=estimates)
    copy = pickle.loads(pickle.dumps(budget))
    assert copy.estimates.quantile == 0.9
    assert copy.estimates.to_dict() == estimates.to_dict()
