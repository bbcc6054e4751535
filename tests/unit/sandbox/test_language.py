from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.sandbox.language import (
    Phrase,
    PhraseBook,
    format_value,
    listing,
    parse_date,
    parse_number,
    sentences,
    slots_of,
    spelt_date,
    unlisted,
)


def test_phrase_reads_nothing_when_the_sentence_is_another_one() -> None:
    assert Phrase("{who:name} buys {count:int} pens.").read("Ada sells 3 pens.") is None


def test_phrase_takes_signs_literally_when_they_mean_something_in_a_pattern() -> None:
    assert Phrase("Is it {n:int} (or more)?").read("Is it 3 (or more)?") == {"n": "3"}


def test_phrase_book_reads_whatever_form_it_wrote() -> None:
    book = PhraseBook("{who:name} has {n:int}.", "There are {n:int} with {who:name}.")
    said = ["Nothing here.", "There are 4 with Bo.", "Ada has 3."]
    assert book.read_all(said) == [{"n": "4", "who": "Bo"}, {"who": "Ada", "n": "3"}]


def test_slots_are_numbers_in_the_order_of_the_names() -> None:
    assert slots_of({"a": "3", "b": "4.50"}, "b", "a") == (Decimal("4.50"), Decimal(3))


def test_sentences_keeps_decimals_together() -> None:
    assert sentences("It costs 1.50 euros. Yes!") == ["It costs 1.50 euros.", "Yes!"]


def test_sentences_leaves_out_what_is_too_long_to_be_ours() -> None:
    assert sentences("x" * 5_000 + ". Short one.") == ["Short one."]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1,250.50 euros", "1250.50"), ("about -3", "-3"), ("\u22123", "-3"), ("$12", "12")],
)
def test_parse_number_reads_what_people_write(text: str, number: str) -> None:
    assert parse_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none", "1" * 41])
def test_parse_number_returns_none_when_there_is_no_sensible_number(text: str) -> None:
    assert parse_number(text) is None


@given(st.dates())
def test_parse_date_undoes_both_ways_of_writing_a_date(day: date) -> None:
    if day.year >= 1000:
        assert parse_date(f"It is {spelt_date(day)}.") == day
    assert parse_date(day.isoformat()) == day


def test_parse_date_returns_none_when_the_day_does_not_exist() -> None:
    assert parse_date("30 February 2024") is None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, max_value=10**9, min_value=0))
def test_format_value_is_exact_for_numbers(number: Decimal) -> None:
    assert Decimal(format_value(number)) == number


def test_format_value_writes_cents_with_two_digits() -> None:
    assert format_value(Decimal("37.5")) == "37.50"


@pytest.mark.parametrize("last", ["and", "or"])
def test_unlisted_undoes_listing(last: str) -> None:
    for items in (["cat"], ["cat", "dog"], ["cat", "dog", "pony"]):
        assert unlisted(listing(items, last=last)) == tuple(items)
