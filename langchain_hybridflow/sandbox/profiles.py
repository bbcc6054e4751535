"""What sets the tiers of the sandbox apart: skill, speed and price."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from langchain_hybridflow.budget import Price

__all__ = ["CLOUD_PROFILE", "EDGE_PROFILE", "SANDBOX_PRICES", "TINY_NAME", "TierProfile"]


class TierProfile(BaseModel):
    """A model of the sandbox.

    Args:
        name: Its model name.
        skill: The difficulty, on the planner's scale of 1 to 9, at which it gets every second
            lone step right; above 9 for a model that hardly ever fails at one.
        ttft_s: Time to first token, in seconds.
        tokens_per_s: Speed of the tokens after the first one.
        input_usd_per_mtok: Price of a million prompt tokens, in USD.
        output_usd_per_mtok: Price of a million answer tokens, in USD.
        thorough: Whether it thinks at length about questions of several steps.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    skill: float
    ttft_s: float = Field(ge=0)
    tokens_per_s: float = Field(gt=0)
    input_usd_per_mtok: Decimal = Field(default=Decimal(0), ge=0)
    output_usd_per_mtok: Decimal = Field(default=Decimal(0), ge=0)
    thorough: bool = False

    @property
    def price(self) -> Price:
        """The price list entry of this model."""
        return Price(self.input_usd_per_mtok, self.output_usd_per_mtok)

    def due_s(self, token: int) -> float:
        """Return when the given token, counted from 0, is there: seconds after the request."""
        return self.ttft_s + token / self.tokens_per_s


EDGE_PROFILE: Final = TierProfile(name="sandbox-edge", skill=6.1, ttft_s=0.15, tokens_per_s=50.0)
"""Like a model of three billion parameters on a laptop."""

CLOUD_PROFILE: Final = TierProfile(
    name="sandbox-cloud",
    skill=9.9,
    ttft_s=0.6,
    tokens_per_s=90.0,
    input_usd_per_mtok=Decimal(2),
    output_usd_per_mtok=Decimal(8),
    thorough=True,
)
"""Like a flagship model behind an API."""

TINY_NAME: Final = "sandbox-tiny"
"""The real language model of `langchain_hybridflow.sandbox.tiny`, which costs nothing."""

SANDBOX_PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        **{profile.name: profile.price for profile in (EDGE_PROFILE, CLOUD_PROFILE)},
        TINY_NAME: Price.FREE,
    }
)
"""What the models of the sandbox cost, for `Budget(prices=...)`."""
