"""What a model of two tiers is made of, and what it says about itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
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
from langchain_hybridflow.calls.options import STRUCTURED_OUTPUT
from langchain_hybridflow.chat_models.profile import common_profile
from langchain_hybridflow.chat_models.settings import (
    Recipe,
    policy_from_settings,
    policy_settings,
    router_from_settings,
    router_settings,
    travelling,
)
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import DifficultyRouter, Tier

__all__ = ["TwoTierModel"]

_PACKAGE = "langchain_hybridflow.chat_models"


class TwoTierModel(BaseChatModel):
    """The parts of a `RoutedChatModel`, where they are documented, and their core.

    It answers nothing yet. It checks its arguments, describes what can be promised of both tiers
    together, and can be written down: for `dumpd` and `load` as JSON, for pickle without clients.
    """

    edge: BaseChatModel
    cloud: BaseChatModel
    budget: Budget = Field(default_factory=Budget)
    router: Any = Field(default_factory=DifficultyRouter)
    policy: Any = None
    on_edge_error: OnError = "fallback"
    on_cloud_error: OnError = "fallback"
    on_router_error: Literal["edge", "cloud", "raise"] = "edge"
    max_output_tokens: int = Field(default=1024, gt=0)
    max_retries: int = Field(default=2, ge=0)

    temperature: float | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    stop: list[str] | None = None
    streaming: bool | None = None

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
                f"{cls.__name__} takes no {', '.join(unknown)}. Keys, time-outs and whatever else "
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
        rules = (self.on_edge_error, self.on_cloud_error, self.on_router_error)
        parts = (self.edge, self.cloud, self.budget, self.router, self.policy)
        numbers = (self.max_output_tokens, self.max_retries, self.temperature, self.max_tokens)
        key = (*map(id, parts), *rules, *numbers, *(self.stop or ()))
        if self._core is None or self._core[0] != key:  # fields can be assigned and copied over
            self._core = (key, self._build_core())
        return self._core[1]

    def _build_core(self) -> RoutingCore:
        models: dict[Tier, TierModel] = {
            "edge": TierModel.of("edge", self.edge),
            "cloud": TierModel.of("cloud", self.cloud),
        }
        return RoutingCore(
            models=models,
            router=self.router,
            budget=self.budget,
            policy=self.policy,
            on_edge_error=self.on_edge_error,
            on_cloud_error=self.on_cloud_error,
            on_router_error=self.on_router_error,
            max_output_tokens=self.max_output_tokens,
            max_retries=self.max_retries,
            options=self._default_options,
        )

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
        kwargs.pop(STRUCTURED_OUTPUT, None)  # traces have it as `ls_structured_output_format`
        return super()._get_invocation_params(stop=stop, **kwargs)

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        # Before the call nobody knows who will answer; afterwards `label_chunk` says so.
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        models = self.core.models
        params["ls_provider"] = "hybridflow"
        params.setdefault("ls_model_name", f"{models['edge'].name} | {models['cloud'].name}")
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
        policy = policy_settings(self.policy)
        return {
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
