"""The checks that all ledgers share."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_hybridflow.budget import Account, Amounts, Denial, Difference, Limits, rules
from langchain_hybridflow.errors import ConfigurationError, LedgerError

ACCOUNT = Account("a", "budget", Limits(cloud_tokens=10, cloud_calls=3))


@pytest.mark.parametrize("lease_id", ["", "x" * 1_001, "a\nb", "a\0"])
def test_request_is_refused_when_its_id_fits_no_store(lease_id: str) -> None:
    with pytest.raises(LedgerError, match="lease id"):
        rules.check_request(lease_id, [ACCOUNT])


def test_request_is_refused_when_it_names_a_key_twice() -> None:
    with pytest.raises(LedgerError, match="twice"):
        rules.check_request("a", [ACCOUNT, Account("a", "other")])


def test_windows_may_overlap_when_their_current_keys_differ() -> None:
    accounts = (Account("b/2", "hour", earlier=("b/1",)), Account("b/1", "bucket"))
    assert rules.check_request("a", accounts) == accounts


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"expected_version": -1}, "expected_version"),
        ({"expected_version": True}, "expected_version"),
        ({"text": "x" * 4_097}, "4096"),
        ({"text": "a\0b"}, "NUL"),
        ({"text": "\ud800"}, "UTF-8"),
    ],
)
def test_note_is_refused_when_no_store_could_keep_it(wrong: dict[str, Any], match: str) -> None:
    right: dict[str, Any] = {"key": "a", "expected_version": 0, "text": "x", "keep_s": None}
    rules.check_note(**right)
    with pytest.raises(LedgerError, match=match):
        rules.check_note(**right | wrong)


@pytest.mark.parametrize("wrong", [{"key": ""}, {"keep_s": 0.0}])
def test_note_is_refused_when_its_account_could_not_be(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"key": "a", "expected_version": 0, "text": "x", "keep_s": None}
    with pytest.raises(ConfigurationError):
        rules.check_note(**right | wrong)


def test_denial_names_the_first_dimension_that_has_too_little() -> None:
    asked = Amounts(usd_micros=99, cloud_tokens=6, cloud_calls=9)
    assert rules.first_denial(asked, ACCOUNT, used=(0, 2, 0), held=(0, 3, 0)) == Denial(
        "cloud_tokens", requested=6, remaining=5, limit=10, scope="budget", held=3
    )


def test_denial_has_nothing_remaining_when_the_account_is_overdrawn() -> None:
    denial = rules.first_denial(Amounts(cloud_calls=1), ACCOUNT, used=(0, 0, 9), held=(0, 0, 0))
    assert denial is not None
    assert denial.remaining == 0


def test_differences_are_found_when_one_side_lacks_a_key() -> None:
    found = rules.differences_of(
        {"b": {"used": (0, 0, 1)}, "empty": {"used": (0, 0, 0)}}, {"a": {"held": (0, 0, 2)}}
    )
    assert found == (
        Difference("a", "held", "cloud_calls", counted=0, journal=2),
        Difference("b", "used", "cloud_calls", counted=1, journal=0),
    )
