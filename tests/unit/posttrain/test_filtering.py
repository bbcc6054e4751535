"""The filter never passes rho, in whatever batches prompts come."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.filtering import (
    CARRIES,
    Carry,
    PromptFilter,
    rho_of_share,
    share_of_rho,
)

BATCHES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30)
RHOS = st.one_of(st.just(3 / 7), st.just(1 / 9), st.floats(0, 5, allow_nan=False))


@given(RHOS, st.sampled_from(CARRIES), BATCHES)
def test_filter_never_passes_rho_over_all_batches(
    rho: float, carry: Carry, batches: list[tuple[int, int]]
) -> None:
    prompts = PromptFilter(rho, carry)
    local = helped = 0
    for step, (n_local, n_help) in enumerate(batches):
        kept = prompts.keep(local=range(n_local), help=range(50, 50 + n_help), seed=str(step))
        assert kept.local == tuple(range(n_local))
        assert set(kept.help) <= set(range(50, 50 + n_help))
        local, helped = local + len(kept.local), helped + len(kept.help)
        assert helped <= prompts.exact_rho * local


@given(RHOS, BATCHES)
def test_filter_keeps_each_batch_within_rho_when_nothing_is_carried(
    rho: float, batches: list[tuple[int, int]]
) -> None:
    prompts = PromptFilter(rho, "none")
    for n_local, n_help in batches:
        kept = prompts.keep(local=range(n_local), help=range(50, 50 + n_help), seed="0")
        assert len(kept.help) == min(n_help, int(prompts.exact_rho * n_local))


@given(RHOS, BATCHES)
def test_filter_keeps_at_most_one_prompt_more_when_fractions_are_carried(
    rho: float, batches: list[tuple[int, int]]
) -> None:
    prompts = PromptFilter(rho, "fraction")
    for n_local, n_help in batches:
        kept = prompts.keep(local=range(n_local), help=range(50, 50 + n_help), seed="0")
        assert len(kept.help) < prompts.exact_rho * n_local + 1


def test_filter_loses_nothing_by_rounding_when_fractions_are_carried() -> None:
    prompts = PromptFilter(1 / 9)
    kept = [len(prompts.keep(local=range(6), help=[7, 8], seed=str(i)).help) for i in range(30)]
    assert sum(kept) == 20  # 30 * 6 / 9


def test_filter_keeps_nothing_for_ever_when_batches_are_small_and_nothing_is_carried() -> None:
    prompts = PromptFilter(1 / 9, "none")
    assert not any(prompts.keep(local=range(6), help=[7, 8], seed=str(i)).help for i in range(30))


def test_filter_counts_exactly_where_floats_do_not() -> None:
    kept = PromptFilter(0.29).keep(local=range(100), help=range(200, 300), seed="0")
    assert len(kept.help) == 29


def test_filter_keeps_no_help_when_the_model_solves_nothing() -> None:
    assert PromptFilter(3.0).keep(local=[], help=[1, 2], seed="0").all == frozenset()


def test_filter_draws_all_candidates_alike() -> None:
    counts = dict.fromkeys(range(4), 0)
    for step in range(4000):
        for place in PromptFilter(1.0).keep(local=[9, 10], help=range(4), seed=str(step)).help:
            counts[place] += 1
    assert all(1850 < count < 2150 for count in counts.values())


def test_filter_draws_the_same_when_the_seed_is_the_same() -> None:
    kept = [PromptFilter(1.0).keep(local=[9, 10], help=range(8), seed="7") for _ in range(2)]
    assert kept[0] == kept[1]


@given(BATCHES, BATCHES)
def test_filter_goes_on_as_if_uninterrupted_when_its_state_is_restored(
    first: list[tuple[int, int]], then: list[tuple[int, int]]
) -> None:
    def keep(prompts: PromptFilter, batches: list[tuple[int, int]]) -> list[int]:
        return [
            len(prompts.keep(local=range(a), help=range(50, 50 + b), seed="0").help)
            for a, b in batches
        ]

    whole, before, after = (PromptFilter(3 / 7, "all") for _ in range(3))
    keep(whole, first)
    keep(before, first)
    after.restore(before.state())
    assert keep(after, then) == keep(whole, then)


@given(st.floats(0, 0.99))
def test_share_and_ratio_are_each_others_inverse(share: float) -> None:
    assert share_of_rho(rho_of_share(share)) == pytest.approx(share, abs=1e-5)


def test_ratio_of_a_share_that_a_person_writes_down_is_exact() -> None:
    assert Fraction(rho_of_share(0.3)).limit_denominator(100) == Fraction(3, 7)


@pytest.mark.parametrize("values", [{"rho": -1.0}, {"rho": float("inf")}])
def test_filter_refuses_a_ratio_that_cannot_be(values: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="rho must be"):
        PromptFilter(**values)


def test_filter_refuses_a_carry_that_there_is_not() -> None:
    with pytest.raises(ConfigurationError, match="none, fraction, all"):
        PromptFilter(1.0, "some")  # type: ignore[arg-type]


def test_share_of_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="below 1"):
        rho_of_share(1.0)
