"""What a model of two tiers is made of, and what it says about itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from operator import is_, itemgetter
from typing import Any, Literal, Self

from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import BaseMessage
from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator
from typing_extensions import override

from langchain_hybridflow.budget import (
    Budget,
    Usage,
    estimate_prompt_tokens,
    estimate_text_tokens,
)
from langchain_hybridflow.budget.settings import budget_from_settings, budget_settings
from langchain_hybridflow.calls import OnError, RoutingCore, TierModel
from langchain_hybridflow.calls.breaker import Breaker, Circuit
from langchain_hybridflow.calls.options import STRUCTURED_OUTPUT
from langchain_hybridflow.calls.recipe import Recipe
from langchain_hybridflow.calls.verifying import BuyingVerifier, OnVerifyError
from langchain_hybridflow.chat_models.profile import common_profile
from langchain_hybridflow.chat_models.settings import (
    breaker_settings,
    policy_from_settings,
    policy_settings,
    router_from_settings,
    router_settings,
    travelling,
    verifier_from_settings,
    verifier_settings,
)
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import TIERS, DefaultRouter, Tier
from langchain_hybridflow.routing.sticky import StickyRouter
from langchain_hybridflow.telemetry import Telemetry

__all__ = ["TwoTierModel"]

_PACKAGE = "langchain_hybridflow.chat_models"

# What the core is made of. Read from where pydantic keeps fields: it is asked for at every call.
_PARTS = itemgetter(
    "edge",
    "cloud",
    "budget",
    "router",
    "policy",
    "sticky",
    "on_edge_error",
    "on_cloud_error",
    "on_router_error",
    "verify",
    "on_verify_error",
    "breaker",
    "connect_timeout_s",
    "edge_timeout_s",
    "cloud_timeout_s",
    "first_token_timeout_s",
    "max_output_tokens",
    "max_retries",
    "temperature",
    "max_tokens",
    "stop",
    "telemetry",
)


class TwoTierModel(BaseChatModel):
    """The parts of a `RoutedChatModel`, where they are documented, and their core.

    It answers nothing yet. It checks its arguments, describes what can be promised of both tiers
    together, and can be written down: for `dumpd` and `load` as JSON, for pickle without clients.
    """

    edge: BaseChatModel
    cloud: BaseChatModel
    budget: Budget = Field(default_factory=Budget)
    router: Any = Field(default_factory=DefaultRouter)
    policy: Any = None
    on_edge_error: OnError = "fallback"
    on_cloud_error: OnError = "fallback"
    on_router_error: Literal["edge", "cloud", "raise"] = "edge"
    sticky: Literal["thread"] | None = None
    verify: Any = None
    on_verify_error: OnVerifyError = "accept"
    breaker: Any = Field(default_factory=Breaker)
    connect_timeout_s: float | None = Field(default=5.0, gt=0, allow_inf_nan=False)
    edge_timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    cloud_timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    first_token_timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_output_tokens: int = Field(default=1024, gt=0)
    max_retries: int = Field(default=2, ge=0)

    temperature: float | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    stop: list[str] | None = None
    streaming: bool | None = None

    # It holds providers of this process, which cannot be written down; that there is none can.
    telemetry: Any = Field(default=None, exclude=True)

    # The inner models keep their own caches. One of ours would serve an answer of one tier to a
    # call that is routed to the other.
    cache: Any = Field(default=False, exclude=True)

    model_config = ConfigDict(extra="forbid")

    _core: tuple[tuple[object, ...], RoutingCore] | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _check_arguments_are_known(cls, values: Any) -> Any:
        unknown = sorted(set(values) - cls.model_fields.keys())
        if unknown:
            raise ConfigurationError(
                f"{cls.__name__} takes no {', '.join(unknown)}. Keys and whatever else "
                f"a provider's client takes are given to the edge and cloud models themselves."
            )
        return values

    @field_validator("cache")
    @classmethod
    def _check_cache_is_off(cls, value: object) -> bool:
        if value not in (None, False):
            raise ConfigurationError(
                "Give caches to the edge and cloud models: one above them would serve an answer "
                "of one tier to a call that is routed to the other."
            )
        return False

    @field_validator("budget", mode="before")
    @classmethod
    def _read_budget(cls, value: Any) -> Any:
        return budget_from_settings(value) if isinstance(value, Mapping) else value

    @field_validator("router", mode="before")
    @classmethod
    def _read_router(cls, value: Any) -> Any:
        if value is None:
            return DefaultRouter()
        return router_from_settings(value) if isinstance(value, Mapping) else value

    @field_validator("policy", mode="before")
    @classmethod
    def _read_policy(cls, value: Any) -> Any:
        return policy_from_settings(value) if isinstance(value, Mapping) else value

    @field_validator("edge", "cloud", mode="before")
    @classmethod
    def _check_is_chat_model(cls, value: object) -> object:
        if not isinstance(value, BaseChatModel):
            raise ConfigurationError(
                f"edge and cloud must be chat models, got {type(value).__name__}. Give the model "
                f"itself, without bind(): call options go to RoutedChatModel.bind()."
            )
        return value

    @field_validator("router")
    @classmethod
    def _check_is_router(cls, value: object) -> object:
        if not callable(getattr(value, "route", None)):
            raise ConfigurationError(
                f"A router has a method route(request) -> RouteDecision; "
                f"{type(value).__name__} has none."
            )
        return value

    @field_validator("policy")
    @classmethod
    def _check_is_policy(cls, value: object) -> object:
        awaits = inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(
            getattr(value, "__call__", None)  # noqa: B004 - its kind is asked, not whether it is
        )
        if value is not None and (awaits or isinstance(value, type) or not callable(value)):
            raise ConfigurationError(
                f"A policy is a function, not an async one, from a RouteRequest to the tiers "
                f"allowed, such as KeepLocal(); got {value!r}."
            )
        return value

    @field_validator("telemetry")
    @classmethod
    def _check_is_telemetry(cls, value: object) -> object:
        if value is not None and value is not False and not isinstance(value, Telemetry):
            raise ConfigurationError(
                f"telemetry is a Telemetry, None for the application's own if it has one, or "
                f"False for none; got {value!r}."
            )
        return value

    @field_validator("verify", mode="before")
    @classmethod
    def _read_verifier(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return verifier_from_settings(value)
        checks = isinstance(value, BuyingVerifier) or callable(value)
        if value is not None and (isinstance(value, type) or not checks):
            raise ConfigurationError(
                f"A verifier is a function from a VerifyRequest to a bool or a Verdict, or one of "
                f"langchain_hybridflow.verify, such as JudgeVerifier(); got {value!r}."
            )
        return value

    @field_validator("breaker", mode="before")
    @classmethod
    def _read_breaker(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return Breaker(**value)
        if value is not None and not isinstance(value, Breaker):
            raise ConfigurationError(f"breaker must be a Breaker or None, not {value!r}.")
        return value

    @model_validator(mode="after")
    def _check_cloud_has_price(self) -> Self:
        self.budget.quote("cloud", self.core.models["cloud"].name, Usage(0, 0))
        return self

    @model_validator(mode="after")
    def _adopt_content_form(self) -> Self:
        # Whole answers come from a model in the form that it was told to use, its raw chunks do
        # not: LangChain gives them that form outside, which for its calls is here.
        if self.output_version is None and "v1" in {
            self.edge.output_version,
            self.cloud.output_version,
        }:
            self.output_version = "v1"
        return self

    @property
    def core(self) -> RoutingCore:
        """The routing core that this model's calls go through; a graph uses the same one."""
        parts = _PARTS(self.__dict__)
        # `self._core` would take microseconds.
        made: tuple[tuple[object, ...], RoutingCore] | None = (self.__pydantic_private__ or {})[
            "_core"
        ]
        if made is None or not all(map(is_, made[0], parts)):  # fields can be assigned, copied over
            made = self._core = (parts, self._build_core(made and made[1]))
        return made[1]

    def _build_core(self, before: RoutingCore | None) -> RoutingCore:
        own = {"edge": self.edge, "cloud": self.cloud}
        limits_s = {"edge": self.edge_timeout_s, "cloud": self.cloud_timeout_s}
        return RoutingCore(
            models={
                tier: TierModel.of(tier, own[tier], connect_timeout_s=self.connect_timeout_s)
                for tier in TIERS
            },
            router=self.router if self.sticky is None else StickyRouter(self.router),
            budget=self.budget,
            policy=self.policy,
            on_edge_error=self.on_edge_error,
            on_cloud_error=self.on_cloud_error,
            on_router_error=self.on_router_error,
            verifier=self.verify,
            on_verify_error=self.on_verify_error,
            max_output_tokens=self.max_output_tokens,
            max_retries=self.max_retries,
            options=self._default_options,
            timeouts_s={tier: limit for tier in TIERS if (limit := limits_s[tier]) is not None},
            first_token_timeout_s=self.first_token_timeout_s,
            circuits=self._circuits(before),
            telemetry=self._told,
        )

    @property
    def _told(self) -> Telemetry | None:
        """Who is told of calls: the application's own telemetry, unless somebody has said."""
        return Telemetry.if_installed() if self.telemetry is None else self.telemetry or None

    def _circuits(self, before: RoutingCore | None) -> dict[Tier, Circuit]:
        """Return the breaker of each tier: the one it had, if it is still about the same model."""
        if self.breaker is None:
            return {}
        circuits: dict[Tier, Circuit] = {}
        for tier in TIERS:
            known = before.circuits.get(tier) if before else None
            origin = before.models[tier].origin if before else None
            same = known is not None and known.settings is self.breaker
            if known is None or not same or origin is not getattr(self, tier):
                known = Circuit(tier, self.breaker)
            circuits[tier] = known
        return circuits

    @property
    def _default_options(self) -> dict[str, Any]:
        options = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        given = {name: value for name, value in options.items() if value is not None}
        return given | ({"stop": self.stop} if self.stop else {})

    @property
    def _llm_type(self) -> str:
        return "hybridflow-routed"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        models = self.core.models
        return {
            "edge": models["edge"].name,
            "cloud": models["cloud"].name,
            "router": type(self.router).__name__,
        }

    @override
    def _resolve_model_profile(self) -> ModelProfile | None:
        return common_profile(self.edge, self.cloud)

    @override
    def get_num_tokens(self, text: str) -> int:
        """Count the tokens of a text offline, rather too many than too few."""
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens(text)
        return estimate_text_tokens(text)

    @override
    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count the prompt tokens of a call offline, rather too many than too few."""
        return estimate_prompt_tokens(messages, tools=tools)

    @override
    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        # What LangChain would make of `asdict`, which it asks for with all warnings switched off.
        kwargs.pop(STRUCTURED_OUTPUT, None)  # traces have it as `ls_structured_output_format`
        return {**self._identifying_params, "_type": self._llm_type, "stop": stop, **kwargs}

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        # Before the call nobody knows who will answer; afterwards `label_chunk` says so.
        models, named = self.core.models, kwargs.get("model")
        params = LangSmithParams(
            ls_provider="hybridflow",
            ls_model_type="chat",
            ls_model_name=named
            if isinstance(named, str)
            else f"{models['edge'].name} | {models['cloud'].name}",
        )
        if stop := stop or self.stop:
            params["ls_stop"] = stop
        for temperature in (self.temperature, kwargs.get("temperature")):
            if isinstance(temperature, int | float):
                params["ls_temperature"] = temperature
        for max_tokens in (self.max_tokens, kwargs.get("max_tokens")):
            if isinstance(max_tokens, int):
                params["ls_max_tokens"] = max_tokens
        return params

    @override
    def __repr_args__(self) -> list[tuple[str, object]]:
        # Inner models print whatever they were given, headers included.
        return [*self._identifying_params.items(), ("budget", self.budget)]

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @classmethod
    @override
    def get_lc_namespace(cls) -> list[str]:
        # Where users import it from; which module it stands in may change.
        own = f"{_PACKAGE}."
        return _PACKAGE.split(".") if cls.__module__.startswith(own) else super().get_lc_namespace()

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        # What cannot be written down stays as it is, and is dumped as "not implemented".
        budget, router = budget_settings(self.budget), router_settings(self.router)
        policy, verify = policy_settings(self.policy), verifier_settings(self.verify)
        told = {"telemetry": False} if self.telemetry is False else {}
        return {
            **told,
            "breaker": breaker_settings(self.breaker),
            "verify": self.verify if verify is None else verify,
            "budget": self.budget if budget is None else budget,
            "router": self.router if router is None else router,
            "policy": self.policy if policy is None else policy,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without clients, see `Recipe`."""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        parts = {"edge": Recipe.of(self.edge), "cloud": Recipe.of(self.cloud)}
        return _made_again, (type(self), {**fields, **parts, "budget": travelling(self.budget)})


def _made_again(kind: type[TwoTierModel], fields: dict[str, Any]) -> TwoTierModel:
    made: dict[str, Any] = {
        name: value.make() if isinstance(value, Recipe) else value for name, value in fields.items()
    }
    return kind(**made)
