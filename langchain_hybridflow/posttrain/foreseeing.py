"""What a post-training can cost, and whether its data will do, before anything is bought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from langchain_hybridflow.budget import (
    Price,
    PriceTable,
    Usage,
    estimate_prompt_tokens,
)
from langchain_hybridflow.errors import ConfigurationError, UnknownPriceError
from langchain_hybridflow.posttrain.answers import AnswerCache, answer_key
from langchain_hybridflow.posttrain.prompts import cloud_messages, row_of
from langchain_hybridflow.posttrain.ruling import AnswerVerifier
from langchain_hybridflow.posttrain.running import told_to_cloud
from langchain_hybridflow.posttrain.settings import PosttrainSettings
from langchain_hybridflow.posttrain.verifying import ScorerVerifier, verifier_of
from langchain_hybridflow.profiling.items import read_items
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.sandbox import SANDBOX_PRICES

__all__ = ["Foresight", "foresee"]

_COLUMNS: Final = {"tests": "tests", "json-schema": "schema"}
"""The column in which a verifier finds what is right, where that is not the answer."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a training will do at most.

    Attributes:
        prompts: Prompts in the data.
        without_answer: Of them, those that cannot be verified, as nothing says what is right.
        responses: Responses that the model will write.
        kept: Cloud answers that are on disk already.
        calls: Cloud calls at most, if none fails.
        usd: What these cost at most, in USD; `None` if nobody has said what the model costs.
    """

    prompts: int
    without_answer: int
    responses: int
    kept: int
    calls: int
    usd: Decimal | None

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types, USD as text."""
        return {
            "prompts": self.prompts,
            "without_answer": self.without_answer,
            "responses": self.responses,
            "kept_cloud_answers": self.kept,
            "most_cloud_calls": self.calls,
            "most_usd": None if self.usd is None else str(self.usd),
        }


def foresee(
    settings: PosttrainSettings,
    *,
    cloud: str | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Foresight:
    """Read the data, and find out what the cloud can cost at most. Nothing is asked.

    Each prompt is bought at most once, and a step takes so many new ones: the dearest that can come
    up are counted, with the longest answers. Limits make it less.

    Args:
        settings: The settings.
        cloud: The name of the cloud model; `None` if it is not asked.
        prices: Prices by model name, before the built-in list.

    Raises:
        ConfigurationError: The data cannot be read, or nothing in them can be verified.
        UnknownPriceError: USD are limited, and nobody has said what the cloud model costs.

    Example:
        >>> settings = PosttrainSettings(
        ...     model="m", data="sandbox:50", out="run", steps=2, prompts_per_step=4
        ... )
        >>> foresee(settings, cloud="sandbox-cloud").calls
        8
    """
    items = read_items(settings.data, seed=settings.seed)
    verifier = verifier_of(settings.verifier)
    missing = _without_answer(items, verifier, settings)
    responses = settings.steps * settings.prompts_per_step * settings.group
    if cloud is None:
        return Foresight(len(items), missing, responses, kept=0, calls=0, usd=Decimal(0))
    price = PriceTable({**SANDBOX_PRICES, **(prices or {})}).get(cloud)
    if price is None and settings.limit_usd is not None:
        raise UnknownPriceError(cloud)
    told = told_to_cloud(settings, verifier)
    asked = [
        cloud_messages(row_of(item, instructions="", chat=False), instructions=told)
        for item in items
    ]
    options = {"max_tokens": settings.cloud_max_tokens}
    keys = [answer_key(cloud, messages, options) for messages in asked]
    known = _known(Path(settings.out) / "answers.sqlite", keys)
    # Prompts that are the same are one.
    open_ = {key: one for key, one in zip(keys, asked, strict=True) if key not in known}
    calls = min(len(open_), settings.steps * settings.prompts_per_step)
    if settings.max_cloud_calls is not None:
        calls = min(calls, settings.max_cloud_calls)
    usd: Decimal | None = None
    if price is not None:
        bounds = [
            price.cost_usd(Usage(estimate_prompt_tokens(one), settings.cloud_max_tokens))
            for one in open_.values()
        ]
        usd = sum(sorted(bounds, reverse=True)[:calls], Decimal(0))
        if settings.limit_usd is not None:
            usd = min(usd, Decimal(str(settings.limit_usd)))
    return Foresight(len(items), missing, responses, kept=len(known), calls=calls, usd=usd)


def _known(file: Path, keys: list[str]) -> set[str]:
    """The answers that are there; a file that is not is not made."""
    return set(AnswerCache(file).get(keys)) if file.is_file() else set()


def _without_answer(
    items: list[Item], verifier: AnswerVerifier, settings: PosttrainSettings
) -> int:
    """Count the prompts of which nothing says what is right.

    Raises:
        ConfigurationError: That is so for all of them.
    """
    if isinstance(verifier, ScorerVerifier) and not verifier.scorer.needs_reference:
        return 0
    column = _COLUMNS.get(verifier.name, "answer")
    found = [item.reference if column == "answer" else item.extra.get(column) for item in items]
    missing = [number for number, one in enumerate(found, start=1) if one in (None, "")]
    if len(missing) == len(items):
        raise ConfigurationError(
            f"No row of {settings.data} has a column {column}, which the verifier "
            f"{verifier.name} compares with: nothing could be learnt. Add it, or choose another "
            f"--verifier."
        )
    return len(missing)
