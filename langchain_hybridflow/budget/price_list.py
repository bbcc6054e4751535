"""List prices of common cloud models, each with the day it was checked and where.

Facts for convenience, not a promise: providers change prices. Give your own with
`Budget(prices={...})`; they go before this list. These are the standard rates of the providers'
own APIs: no batch discounts, no regional or fast-mode surcharges, no cache storage. Where a
provider's rate for cached input was not on the page, there is none here, and cached tokens cost as
much as others. Models whose price depends on the hour or changes on a fixed day are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final

from langchain_hybridflow.budget.pricing import Price

__all__ = ["PRICES", "ListedPrice"]


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """A row of the list.

    Args:
        price: What the model costs.
        as_of: The day on which the page said so.
        source: URL of the provider's page.
    """

    price: Price
    as_of: date
    source: str


_OPENAI = "https://developers.openai.com/api/docs/pricing"
_ANTHROPIC = "https://platform.claude.com/docs/en/about-claude/pricing"
_GOOGLE = "https://ai.google.dev/gemini-api/docs/pricing"


def _openai_tiered(fresh: str, answer: str, cached: str, written: str | None = None) -> Price:
    """Beyond 272,000 prompt tokens input costs 2x and output 1.5x, for the whole call."""
    base = Price(fresh, answer, cached, cache_write_usd_per_mtok=written)
    long = Price(
        base.input_usd_per_mtok * 2,
        base.output_usd_per_mtok * 3 / 2,
        None if base.cached_input_usd_per_mtok is None else base.cached_input_usd_per_mtok * 2,
        cache_write_usd_per_mtok=None
        if base.cache_write_usd_per_mtok is None
        else base.cache_write_usd_per_mtok * 2,
    )
    return Price(
        fresh, answer, cached, cache_write_usd_per_mtok=written, long_prompt=(272_000, long)
    )


def _claude(fresh: str, answer: str, cached: str, written: str) -> Price:
    """The rate for writing to the cache is that of the default, the five-minute one."""
    return Price(fresh, answer, cached, cache_write_usd_per_mtok=written)


def _listed(source: str, as_of: date, rows: Mapping[str, Price]) -> dict[str, ListedPrice]:
    return {name: ListedPrice(price, as_of, source) for name, price in rows.items()}


_OPENAI_CURRENT = {
    "gpt-6-astra": _openai_tiered("10", "50", "1", "12.5"),
    "gpt-6-sol": _openai_tiered("2", "10", "0.2", "2.5"),
    "gpt-6-luna": _openai_tiered("0.1", "0.5", "0.01", "0.125"),
    "gpt-5.6": _openai_tiered("4", "20", "0.4", "5"),
    "gpt-5.6-sol": _openai_tiered("4", "20", "0.4", "5"),
    "gpt-5.6-terra": _openai_tiered("2", "12", "0.2", "2.5"),
    "gpt-5.6-luna": _openai_tiered("0.2", "1.2", "0.02", "0.25"),
}

_OPENAI_EARLIER = {
    "gpt-5.5": _openai_tiered("5", "30", "0.5"),
    "gpt-5.4": _openai_tiered("2.5", "15", "0.25"),
    "gpt-5.4-mini": Price("0.75", "4.5", "0.075"),
    "gpt-5.4-nano": Price("0.2", "1.25", "0.02"),
    "gpt-5.1": Price("1.25", "10", "0.125"),
    "gpt-5": Price("1.25", "10", "0.125"),
    "gpt-5-mini": Price("0.25", "2", "0.025"),
    "gpt-5-nano": Price("0.05", "0.4", "0.005"),
    "gpt-4.1": Price("2", "8", "0.5"),
    "gpt-4.1-mini": Price("0.4", "1.6", "0.1"),
    "gpt-4.1-nano": Price("0.1", "0.4", "0.025"),
    "gpt-4o": Price("2.5", "10", "1.25"),
    "gpt-4o-2024-05-13": Price("5", "15"),
    "gpt-4o-mini": Price("0.15", "0.6", "0.075"),
    "o3": Price("2", "8"),
    "o4-mini": Price("1.1", "4.4"),
}

_CLAUDE = {
    "claude-fable-5-1": _claude("10", "50", "0.25", "12.5"),
    "claude-fable-5": _claude("10", "50", "1", "12.5"),
    "claude-opus-5-5": _claude("4", "20", "0.2", "5"),
    "claude-opus-5": _claude("5", "25", "0.5", "6.25"),
    "claude-opus-4-8": _claude("5", "25", "0.5", "6.25"),
    "claude-opus-4-7": _claude("5", "25", "0.5", "6.25"),
    "claude-opus-4-6": _claude("5", "25", "0.5", "6.25"),
    "claude-opus-4-5": _claude("5", "25", "0.5", "6.25"),
    "claude-opus-4-1": _claude("15", "75", "1.5", "18.75"),
    "claude-sonnet-5-5": _claude("2", "10", "0.1", "2.5"),
    "claude-sonnet-5": _claude("2", "10", "0.2", "2.5"),
    "claude-sonnet-4-6": _claude("3", "15", "0.3", "3.75"),
    "claude-sonnet-4-5": _claude("3", "15", "0.3", "3.75"),
    "claude-haiku-5-5": Price(
        "0.1",
        "0.5",
        "0.01",
        cache_write_usd_per_mtok="0.125",
        long_prompt=(100_000, _claude("0.5", "2.5", "0.05", "0.625")),
    ),
    "claude-haiku-4-5": _claude("1", "5", "0.1", "1.25"),
}

_GEMINI = {
    "gemini-3.5-flash": Price("1.5", "9"),
    "gemini-3.5-flash-lite": Price("0.3", "2.5"),
    "gemini-3.1-pro-preview": Price("2", "12", long_prompt=(200_000, Price("4", "18"))),
    "gemini-2.5-pro": Price("1.25", "10", long_prompt=(200_000, Price("2.5", "15"))),
    "gemini-2.5-flash": Price("0.3", "2.5"),
    "gemini-2.5-flash-lite": Price("0.1", "0.4"),
}

PRICES: Final[Mapping[str, ListedPrice]] = MappingProxyType(
    {
        **_listed(_OPENAI, date(2026, 10, 16), _OPENAI_CURRENT),
        **_listed(_OPENAI, date(2026, 5, 4), _OPENAI_EARLIER),
        **_listed(_ANTHROPIC, date(2026, 10, 24), _CLAUDE),
        **_listed(_GOOGLE, date(2026, 10, 7), _GEMINI),
    }
)
"""Listed prices by model name: lower case, no provider prefix, and a date only where it matters."""
