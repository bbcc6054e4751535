"""Credit: the estimate means what it says, and says how well it knows."""

from __future__ import annotations

import random
from math import isclose, sqrt
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.calls import other_tier
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.profiling.credit import Credit, CreditDesign, Trial, estimate_credit
from langchain_hybridflow.routing import Tier
from tests.unit.profiling.planskit import all_tiers, exact_credit, plan_of

Scores = dict[tuple[Tier, ...], float]

SHARES = st.one_of(st.none(), st.floats(0, 1))


def plan_of_size(size: int) -> Plan:
    ids = [str(number) for number in range(size)]
    return plan_of({one: " ".join(ids[:place]) for place, one in enumerate(ids)})


def random_scores(plan: Plan, seed: int, *, right: float = 0.5) -> Scores:
    rng = random.Random(seed)
    return {tuple(tiers.values()): float(rng.random() < right) for tiers in all_tiers(plan)}


def estimated(plan: Plan, scores: Scores, one: str, design: CreditDesign, question: str) -> Credit:
    trials = []
    for tiers in design.contexts(question, plan.order):
        flipped = {**tiers, one: other_tier(tiers[one])}
        found = {
            tiers[one]: scores[tuple(tiers.values())],
            flipped[one]: scores[tuple(flipped.values())],
        }
        trials.append(Trial(found["edge"], found["cloud"], design.weight(tiers, one)))
    credit = estimate_credit(trials, tried_all=design.tries_all(len(plan)))
    assert credit is not None
    return credit


@given(size=st.integers(1, 5), seed=st.integers(0, 1_000), share=SHARES)
def test_credit_is_that_of_its_definition_when_all_contexts_are_tried(
    size: int, seed: int, share: float | None
):
    plan = plan_of_size(size)
    scores = random_scores(plan, seed)
    design = CreditDesign(samples=16, share=share)
    for one in plan.order:
        credit = estimated(plan, scores, one, design, "q")
        assert credit.is_exact
        assert credit.se == 0
        assert isclose(credit.credit, exact_credit(plan, scores, one, share), abs_tol=1e-9)


@given(size=st.integers(1, 5), seed=st.integers(0, 1_000))
def test_credits_add_up_to_what_the_cloud_changes_on_the_whole_when_the_share_is_drawn(
    size: int, seed: int
):
    plan = plan_of_size(size)
    scores = random_scores(plan, seed)
    design = CreditDesign(samples=16)
    total = sum(estimated(plan, scores, one, design, "q").credit for one in plan.order)
    whole = scores[("cloud",) * size] - scores[("edge",) * size]
    assert isclose(total, whole, abs_tol=1e-9)


@pytest.mark.parametrize("share", [None, 0.25, 0.5])
def test_estimate_is_unbiased_when_contexts_are_drawn(share: float | None):
    plan = plan_of_size(6)
    scores = random_scores(plan, 3, right=0.4)
    design = CreditDesign(samples=4, share=share)
    for one in plan.order:
        truth = exact_credit(plan, scores, one, share)
        found = [estimated(plan, scores, one, design, f"q{n}").credit for n in range(1_500)]
        assert abs(fmean(found) - truth) < 4 * pstdev(found) / sqrt(len(found))


@given(size=st.integers(3, 7), seed=st.integers(0, 1_000), share=st.sampled_from([None, 0.5]))
def test_two_contexts_are_enough_when_subtasks_matter_alone_or_in_pairs(
    size: int, seed: int, share: float | None
):
    plan, rng = plan_of_size(size), random.Random(seed)
    pairs = {(i, j): rng.random() / size**2 for i in range(size) for j in range(i + 1)}
    scores = {
        tiers: sum(pairs[i, j] for i, j in pairs if tiers[i] == tiers[j] == "cloud")
        for tiers in (tuple(one.values()) for one in all_tiers(plan))
    }
    design = CreditDesign(samples=2, share=share)
    for one in plan.order:
        found = estimated(plan, scores, one, design, "q")
        assert isclose(found.credit, exact_credit(plan, scores, one, share), abs_tol=1e-9)


def test_more_samples_come_closer():
    plan = plan_of_size(7)
    scores = random_scores(plan, 5)

    def error(samples: int) -> float:
        design = CreditDesign(samples=samples)
        return fmean(
            (
                estimated(plan, scores, one, design, f"q{n}").credit
                - exact_credit(plan, scores, one, None)
            )
            ** 2
            for one in plan.order
            for n in range(60)
        )

    assert error(16) < 0.4 * error(4)


def test_standard_error_covers_the_truth_as_often_as_it_says():
    design = CreditDesign(samples=8)
    hits = []
    for seed in range(60):
        plan = plan_of_size(6)
        scores = random_scores(plan, seed, right=0.2 + 0.6 * (seed % 5) / 4)
        for one in plan.order:
            credit = estimated(plan, scores, one, design, f"q{seed}")
            truth = exact_credit(plan, scores, one, None)
            hits.append(abs(credit.credit - truth) <= 1.96 * credit.se)
    assert fmean(hits) >= 0.95


def test_standard_error_is_not_0_when_a_few_trials_agree():
    credit = estimate_credit([Trial(0.0, 0.0)] * 4)
    assert credit is not None
    assert credit.credit == 0
    assert 0.1 < credit.se < 0.5


@given(weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_estimate_is_not_exact_when_contexts_are_missing(weights: list[float]):
    total = 1.01 * sum(weights)
    credit = estimate_credit([Trial(0.0, 1.0, one / total) for one in weights], tried_all=True)
    assert credit is not None
    assert not credit.is_exact
    assert credit.se > 0
    assert isclose(credit.credit, 1.0)


def test_there_is_no_estimate_without_trials():
    assert estimate_credit([]) is None


def test_contexts_of_a_pair_mirror_each_other():
    ids = [str(number) for number in range(12)]
    contexts = CreditDesign(samples=6).contexts("q", ids)
    for first, second in zip(contexts[::2], contexts[1::2], strict=True):
        assert second == {one: other_tier(tier) for one, tier in first.items()}


def test_first_contexts_stay_the_same_when_more_are_wanted():
    ids = [str(number) for number in range(12)]
    few = CreditDesign(samples=4).contexts("q", ids)
    assert CreditDesign(samples=9).contexts("q", ids)[:4] == few


def test_contexts_differ_between_questions_and_seeds():
    ids = [str(number) for number in range(12)]
    found = {
        tuple(CreditDesign(seed=seed).contexts(question, ids)[0].values())
        for seed in range(4)
        for question in ("a", "b", "c")
    }
    assert len(found) > 8


def test_share_of_the_cloud_is_as_given():
    design = CreditDesign(samples=400, share=0.2)
    tiers = [tier for one in design.contexts("q", list("abcdefghijklmn")) for tier in one.values()]
    assert 0.18 < tiers.count("cloud") / len(tiers) < 0.22


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"samples": 10**6}, {"share": 1.5}])
def test_design_refuses_what_cannot_be(wrong: dict[str, float]):
    with pytest.raises(ConfigurationError, match=r"samples|share"):
        CreditDesign(**wrong)  # type: ignore[arg-type]
