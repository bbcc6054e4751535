"""The prices of models by name: what the user says first, then the built-in list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from langchain_hybridflow.budget.price_list import PRICES
from langchain_hybridflow.budget.pricing import Price
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["PriceTable"]

_DATE_SUFFIX = re.compile(r"-(?:20\d\d-\d\d-\d\d|20\d{6}|latest)$")
_PROVIDER_PREFIX = re.compile(r"^[a-z][a-z_-]*:")


class PriceTable:
    """Look up what a model costs; unknown is `None`, never 0.

    A name is looked up as it is, then without its provider prefix (`openai/gpt-4.1`,
    `openai:gpt-4.1`), then without its date (`gpt-4.1-2025-04-14`), in the overrides first and
    then in the built-in list (`langchain_hybridflow.budget.price_list`).

    Args:
        overrides: Prices by model name that go before the built-in list.

    Raises:
        ConfigurationError: If an override is not a `Price`.

    Example:
        >>> table = PriceTable({"my-model": Price(1, 4)})
        >>> table.get("openai/my-model-2026-01-31").output_usd_per_mtok
        Decimal('4')
        >>> table.get("nobody-knows-this-one") is None
        True
    """

    def __init__(self, overrides: Mapping[str, Price] | None = None) -> None:
        self._overrides: dict[str, Price] = {}
        for name, price in (overrides or {}).items():
            if not isinstance(price, Price):
                raise ConfigurationError(
                    f"The price of {name!r} must be a Price, not {price!r}. Write "
                    f"Price(input_usd_per_mtok=..., output_usd_per_mtok=...)."
                )
            self._overrides[_normal(name)] = price
        self._found: dict[str, Price | None] = {}  # the same few names are asked for on each call

    @property
    def overrides(self) -> Mapping[str, Price]:
        """The prices that go before the built-in list, by model name."""
        return MappingProxyType(self._overrides)

    def get(self, model_name: str) -> Price | None:
        """Price of a model, or `None` if nobody has said what it costs."""
        if model_name not in self._found:
            self._found[model_name] = self._look_up(tuple(_candidates(model_name)))
        return self._found[model_name]

    def _look_up(self, candidates: tuple[str, ...]) -> Price | None:
        for name in candidates:
            if name in self._overrides:
                return self._overrides[name]
        return next((PRICES[name].price for name in candidates if name in PRICES), None)


def _normal(model_name: str) -> str:
    return model_name.strip().lower()


def _candidates(model_name: str) -> Iterator[str]:
    name = _normal(model_name)
    bare = _PROVIDER_PREFIX.sub("", name.rpartition("/")[2])
    yield name
    yield bare
    yield _DATE_SUFFIX.sub("", name)
    yield _DATE_SUFFIX.sub("", bare)
