"""What calls cost, and what models are listed at."""

from __future__ import annotations

import copy
import decimal
import pickle
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget import Price, PriceTable, Usage
from langchain_hybridflow.budget.price_list import PRICES
from langchain_hybridflow.errors import ConfigurationError

PER_MTOK = st.decimals(0, 200, places=4, allow_nan=False, allow_infinity=False)
TOKENS = st.integers(0, 2_000_000)


@given(PER_MTOK, PER_MTOK, PER_MTOK, PER_MTOK, TOKENS, TOKENS, TOKENS, TOKENS)
def test_cost_is_the_exact_sum_rounded_up_to_a_micro(
    fresh: Decimal,
    answer: Decimal,
    cached: Decimal,
    written: Decimal,
    plain: int,
    read: int,
    wrote: int,
    output: int,
) -> None:
    price = Price(fresh, answer, cached, cache_write_usd_per_mtok=written)
    usage = Usage(plain + read + wrote, output, read, cache_write_tokens=wrote)
    exact = (
        plain * Fraction(fresh)
        + read * Fraction(cached)
        + wrote * Fraction(written)
        + output * Fraction(answer)
    )
    assert price.cost_usd_micros(usage) == ceil(exact)


def test_cost_does_not_depend_on_the_decimal_context() -> None:
    with decimal.localcontext(prec=2):
        cost = Price("1.2345", "2.3456").cost_usd(Usage(1_000_003, 7))
    assert cost == Decimal("1.234521")


def test_cached_tokens_cost_as_much_as_others_when_they_have_no_price() -> None:
    assert Price(2, 8).cost_usd_micros(Usage(100, 0, 60)) == 200


def test_input_is_priced_at_the_dearest_when_nobody_knows_what_was_cached() -> None:
    price = Price(2, 8, "0.2", cache_write_usd_per_mtok="2.5")
    assert price.cost_usd_micros(Usage(100, 0)) == 250
    assert price.cost_usd_micros(Usage(100, 0, cache_write_tokens=0)) == 200


def test_whole_call_has_the_long_price_when_the_prompt_is_longer() -> None:
    price = Price(1, 1, long_prompt=(1_000, Price(2, 3)))
    assert price.cost_usd_micros(Usage(1_000, 10)) == 1_010
    assert price.cost_usd_micros(Usage(1_001, 10)) == 2_032


def test_free_costs_nothing() -> None:
    assert Price.FREE.cost_usd(Usage(10**9, 10**9)) == 0


@pytest.mark.parametrize("wrong", [-1, "NaN", float("inf"), True, None, "cheap"])
def test_price_is_refused_when_it_is_no_amount(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="output_usd_per_mtok"):
        Price(1, wrong)


def test_prices_are_values() -> None:
    assert Price(2, "8.0") == Price("2", 8)
    assert len({Price(2, 8), Price(2, 8)}) == 1


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4.1",
        "openai/gpt-4.1",
        "openai:gpt-4.1",
        "openrouter/openai/gpt-4.1",
        "gpt-4.1-2025-04-14",
        "openai/gpt-4.1-2025-04-14",
        " GPT-4.1 ",
        "gpt-4.1-latest",
    ],
)
def test_listed_price_is_found_under_the_names_people_use(name: str) -> None:
    assert PriceTable().get(name) == Price("2", "8", "0.5")


def test_listed_price_is_found_without_the_compact_date() -> None:
    assert PriceTable().get("claude-haiku-4-5-20251001") == PRICES["claude-haiku-4-5"].price


def test_dated_row_goes_before_the_undated_one() -> None:
    table = PriceTable()
    assert table.get("gpt-4o-2024-05-13") != table.get("gpt-4o-2024-11-20")


@pytest.mark.parametrize(
    "name",
    ["", "gpt", "gpt-4", "llama3.2:3b", "gpt-4.1-turbo", "my-gpt-4.1", "gpt-4.1-mini-finetuned"],
)
def test_price_is_none_when_nobody_knows_it(name: str) -> None:
    assert PriceTable().get(name) is None


def test_override_goes_before_the_list() -> None:
    table = PriceTable({"gpt-4.1": Price(1, 1)})
    assert table.get("openai/gpt-4.1-2025-04-14") == Price(1, 1)


def test_override_of_one_snapshot_leaves_the_others() -> None:
    table = PriceTable({"gpt-4.1-2025-04-14": Price(1, 1)})
    assert table.get("gpt-4.1-2025-04-14") == Price(1, 1)
    assert table.get("gpt-4.1") == Price("2", "8", "0.5")


def test_override_is_found_for_a_local_name_with_a_tag() -> None:
    assert PriceTable({"llama3.2:3b": Price(0, 1)}).get("llama3.2:3b") == Price(0, 1)


def test_override_is_refused_when_it_is_no_price() -> None:
    wrong: Any = {"gpt-4.1": 2.0}
    with pytest.raises(ConfigurationError, match=r"gpt-4\.1"):
        PriceTable(wrong)


@pytest.mark.parametrize("name", sorted(PRICES))
def test_listed_row_is_dated_sourced_and_plausible(name: str) -> None:
    row = PRICES[name]
    assert name == name.strip().lower()
    assert date(2025, 1, 1) <= row.as_of
    assert row.source.startswith("https://")
    cached, written = row.price.cached_input_usd_per_mtok, row.price.cache_write_usd_per_mtok
    assert 0 < row.price.input_usd_per_mtok < row.price.output_usd_per_mtok <= 200
    assert cached is None or cached <= row.price.input_usd_per_mtok
    assert written is None or written >= row.price.input_usd_per_mtok


def test_price_survives_copying_and_pickling() -> None:
    price = PRICES["gpt-6-sol"].price
    usage = Usage(300_000, 1_000)
    for copied in (copy.deepcopy(price), pickle.loads(pickle.dumps(price)), replace(price)):
        assert copied == price
        assert copied.cost_usd(usage) == price.cost_usd(usage)
