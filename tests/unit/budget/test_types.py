"""Amounts, limits and account states."""

from __future__ import annotations

import copy
import decimal
import pickle
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget import NOTHING, Account, AccountState, Amounts, Limits, Note
from langchain_hybridflow.budget.types import micros_to_usd
from langchain_hybridflow.errors import ConfigurationError

AMOUNTS = st.builds(Amounts, st.integers(0, 10**15), st.integers(0, 10**12), st.integers(0, 10**6))


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", None])
def test_amounts_are_refused_when_not_counts(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="cloud_tokens"):
        Amounts(cloud_tokens=value)


def test_amounts_are_false_when_all_are_zero() -> None:
    assert not NOTHING
    assert Amounts(cloud_calls=1)


@given(AMOUNTS, AMOUNTS)
def test_excess_added_back_covers_the_larger(mine: Amounts, theirs: Amounts) -> None:
    covered = theirs + mine.excess_over(theirs)
    assert list(covered) == [max(pair) for pair in zip(mine, theirs, strict=True)]


@given(st.integers(0, 10**18))
def test_micros_become_usd_exactly_whatever_the_decimal_context_is(micros: int) -> None:
    with decimal.localcontext(prec=2):
        usd = micros_to_usd(micros)
    assert usd * 1_000_000 == micros


@pytest.mark.parametrize("usd", [0.1, "0.1", Decimal("0.1")])
def test_limit_of_usd_is_exact_in_every_notation(usd: Any) -> None:
    assert Limits(usd=usd).usd_micros == 100_000


def test_limit_of_usd_is_rounded_down_when_finer_than_a_micro() -> None:
    assert Limits(usd="0.0000019").usd_micros == 1


def test_limit_of_usd_does_not_depend_on_the_decimal_context() -> None:
    with decimal.localcontext(prec=1):
        assert Limits(usd="1.234567").usd_micros == 1_234_567


@pytest.mark.parametrize(
    "usd", [float("nan"), "NaN", float("inf"), "-Infinity", -0.01, True, "five", [], "sNaN"]
)
def test_limit_of_usd_is_refused_when_it_is_no_amount(usd: Any) -> None:
    with pytest.raises(ConfigurationError, match="USD limit"):
        Limits(usd=usd)


@pytest.mark.parametrize("field", ["cloud_tokens", "cloud_calls"])
@pytest.mark.parametrize("value", [-1, 2.5, True, float("nan"), "7"])
def test_limit_of_a_count_is_refused_when_it_is_no_count(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=field):
        Limits(**{field: value})


@pytest.mark.parametrize("usd", ["1e999999999", "1e400", "1e-999999999", 10**12 + 1])
def test_limit_of_usd_is_refused_when_no_ledger_can_count_it(usd: Any) -> None:
    with pytest.raises(ConfigurationError, match="at most 1e12"):
        Limits(usd=usd)
    assert Limits(usd="1e12").usd_micros == 10**18


@pytest.mark.parametrize("field", ["cloud_tokens", "cloud_calls"])
def test_limit_of_a_count_is_refused_when_no_ledger_can_count_it(field: str) -> None:
    assert Limits(**{field: 2**53})
    with pytest.raises(ConfigurationError, match=field):
        Limits(**{field: 2**53 + 1})


def test_limits_are_false_when_nothing_is_limited() -> None:
    assert not Limits()
    assert Limits(usd=0)


def test_remaining_is_never_negative_when_overdrawn() -> None:
    account = Account("a", "budget", Limits(cloud_tokens=10))
    state = AccountState(account, used=Amounts(cloud_tokens=12))
    assert state.remaining("cloud_tokens") == 0


def test_limits_survive_copying_and_pickling() -> None:
    limits = Limits(usd="0.05", cloud_calls=3)
    for copied in (copy.deepcopy(limits), pickle.loads(pickle.dumps(limits)), replace(limits)):
        assert copied == limits
        assert copied.usd_micros == 50_000


@pytest.mark.parametrize("key", ["", "a\nb", "a\0", "\ud800", "x" * 1_001, 7, None])
def test_account_is_refused_when_its_key_fits_no_store(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="key"):
        Account(key, "user")
    with pytest.raises(ConfigurationError, match="key"):
        Account("user", "user", earlier=(key,))


def test_account_takes_names_in_any_script() -> None:
    assert Account("user/Åsa 山田 {x}", "user").keys == ("user/Åsa 山田 {x}",)


@pytest.mark.parametrize("earlier", [("a",), ("b", "b")])
def test_account_is_refused_when_a_bucket_would_be_counted_twice(earlier: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        Account("a", "user", earlier=earlier)


@pytest.mark.parametrize("keep_s", [0.0, -1.0, float("nan"), float("inf")])
def test_account_is_refused_when_it_is_kept_for_no_time(keep_s: float) -> None:
    with pytest.raises(ConfigurationError, match="keep_s"):
        Account("a", "user", keep_s=keep_s)


def test_account_states_are_equal_when_read_at_different_times() -> None:
    account = Account("a", "budget")
    assert AccountState(account, at=1.0) == AccountState(account, at=2.0)
    assert AccountState(account, note=Note(1, "x")) != AccountState(account)
