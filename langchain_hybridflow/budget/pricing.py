"""What a call costs: exact arithmetic on the list price of a model.

USD per million tokens is the same number as micro-USD per token, so costs are integer arithmetic
on micro-USD, rounded up once per call. Ledger and reports therefore agree to the digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, NamedTuple

from langchain_hybridflow.budget.types import Number, micros_to_usd, to_decimal
from langchain_hybridflow.budget.usage import Usage
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["Price"]


class _Scaled(NamedTuple):
    """The prices of a token as integers over one power of ten, so that costs are exact."""

    fresh: int
    answer: int
    cached: int
    written: int
    scale: int


@dataclass(frozen=True, slots=True, init=False)
class Price:
    """The list price of a model.

    Args:
        input_usd_per_mtok: USD for a million prompt tokens, >= 0.
        output_usd_per_mtok: USD for a million answer tokens, >= 0.
        cached_input_usd_per_mtok: USD for a million prompt tokens that the provider reads from
            its cache; `None` means they cost as much as others.
        cache_write_usd_per_mtok: USD for a million prompt tokens that the provider writes to its
            cache; `None` means they cost as much as others. A usage that does not say how many
            were written is priced at the dearer of the two.
        long_prompt: `(tokens, price)`: a call whose prompt has more tokens than that is billed
            at the other price as a whole. `None` for the same price at any length.

    Raises:
        ConfigurationError: If a price is negative, NaN, infinite, or not a number.

    Example:
        >>> from langchain_hybridflow.budget import Usage
        >>> Price(2, 8).cost_usd(Usage(input_tokens=1_000, output_tokens=500))
        Decimal('0.006000')
    """

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    long_prompt: tuple[int, Price] | None = None
    _scaled: _Scaled = field(
        init=False, repr=False, compare=False, default=_Scaled(0, 0, 0, 0, scale=1)
    )

    FREE: ClassVar[Price]
    """Costs nothing: a model that runs on the user's own device."""

    def __init__(
        self,
        input_usd_per_mtok: Number,
        output_usd_per_mtok: Number,
        cached_input_usd_per_mtok: Number | None = None,
        *,
        cache_write_usd_per_mtok: Number | None = None,
        long_prompt: tuple[int, Price] | None = None,
    ) -> None:
        fresh = to_decimal(input_usd_per_mtok, name="input_usd_per_mtok")
        answer = to_decimal(output_usd_per_mtok, name="output_usd_per_mtok")
        cached = _optional(cached_input_usd_per_mtok, name="cached_input_usd_per_mtok")
        written = _optional(cache_write_usd_per_mtok, name="cache_write_usd_per_mtok")
        if long_prompt is not None and long_prompt[0] < 1:
            raise ConfigurationError(f"long_prompt starts at {long_prompt[0]} tokens, below 1.")
        values = {
            "input_usd_per_mtok": fresh,
            "output_usd_per_mtok": answer,
            "cached_input_usd_per_mtok": cached,
            "cache_write_usd_per_mtok": written,
            "long_prompt": long_prompt,
            "_scaled": _to_integers(
                fresh,
                answer,
                fresh if cached is None else cached,
                fresh if written is None else written,
            ),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def cost_usd_micros(self, usage: Usage) -> int:
        """Cost of a call in micro-USD, rounded up."""
        if self.long_prompt is not None and usage.input_tokens > self.long_prompt[0]:
            return self.long_prompt[1].cost_usd_micros(usage)
        price = self._scaled
        uncached = usage.input_tokens - usage.cached_input_tokens
        if usage.cache_write_tokens is None:
            uncached_cost = uncached * max(price.fresh, price.written)
        else:
            plain = uncached - usage.cache_write_tokens
            uncached_cost = plain * price.fresh + usage.cache_write_tokens * price.written
        cached_cost = usage.cached_input_tokens * price.cached
        scaled_cost = uncached_cost + cached_cost + usage.output_tokens * price.answer
        return -(-scaled_cost // price.scale)

    def cost_usd(self, usage: Usage) -> Decimal:
        """Cost of a call in USD, rounded up to whole micro-USD: what the ledger books, too."""
        return micros_to_usd(self.cost_usd_micros(usage))


def _optional(value: Number | None, *, name: str) -> Decimal | None:
    return None if value is None else to_decimal(value, name=name)


def _to_integers(fresh: Decimal, answer: Decimal, cached: Decimal, written: Decimal) -> _Scaled:
    prices = (fresh, answer, cached, written)
    scale: int = 10 ** max(0, *(-int(price.as_tuple().exponent) for price in prices))

    def scaled(price: Decimal) -> int:
        numerator, denominator = price.as_integer_ratio()
        return numerator * scale // denominator

    return _Scaled(scaled(fresh), scaled(answer), scaled(cached), scaled(written), scale)


Price.FREE = Price(0, 0)
