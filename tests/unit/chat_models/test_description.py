"""What a routed model says about itself: profile, tokens, traces, repr, and its written forms."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel, ModelProfile
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import HumanMessage, trim_messages
from langchain_openai import ChatOpenAI
from pydantic import Field, SecretStr
from routedkit import PROMPT, obedient, scripted, weather

from langchain_hybridflow import Budget, Limits, Price, RoutedChatModel
from langchain_hybridflow.budget import estimate_prompt_tokens, estimate_text_tokens
from langchain_hybridflow.budget.settings import budget_from_settings, budget_settings
from langchain_hybridflow.chat_models.profile import common_profile
from langchain_hybridflow.chat_models.settings import router_from_settings, router_settings
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import (
    AlwaysCloud,
    AlwaysEdge,
    DifficultyRouter,
    RandomRouter,
    ThresholdRouter,
)
from langchain_hybridflow.testing import ObedientChatModel, OutageLedger

pytestmark = pytest.mark.filterwarnings("ignore:The function `load` is in beta")

KEY = "sk-CANARY-0123456789"
CLASSES = [RoutedChatModel, ObedientChatModel, ChatOpenAI]


def fake(**profile: Any) -> FakeListChatModel:
    return FakeListChatModel(responses=[""], profile=ModelProfile(**profile) or None)


def clients(**fields: Any) -> RoutedChatModel:
    tiers = {
        name: ChatOpenAI(
            model=name,
            api_key=KEY,
            base_url="http://127.0.0.1:9/v1",
            default_headers={"X-Secret": KEY},
        )
        for name in ("edge", "cloud")
    }
    return RoutedChatModel(**(tiers | fields))


def reloaded(model: RoutedChatModel) -> RoutedChatModel:
    loaded = load(
        json.loads(dumps(model)),
        allowed_objects=CLASSES,
        valid_namespaces=["langchain_hybridflow"],
        secrets_map={"OPENAI_API_KEY": KEY},
    )
    assert isinstance(loaded, RoutedChatModel)
    return loaded


# --------------------------------------------------------------------------------------- profile


@pytest.mark.parametrize(
    ("edge", "cloud", "common"),
    [
        ({"tool_calling": True}, {"tool_calling": True}, {"tool_calling": True}),
        ({"tool_calling": True}, {"tool_calling": False}, {"tool_calling": False}),
        ({"max_input_tokens": 8}, {"max_input_tokens": 9}, {"max_input_tokens": 8}),
        (
            {"tool_calling": True, "image_inputs": False},
            {"tool_calling": True},
            {"tool_calling": True},
        ),
        (
            {"name": "a", "status": "active"},
            {"name": "b", "status": "active"},
            {"status": "active"},
        ),
        (
            {"reasoning_effort_levels": ["low", "high"]},
            {"reasoning_effort_levels": ["high", "max"]},
            {"reasoning_effort_levels": ["high"]},
        ),
        ({"tool_calling": True}, {}, None),
        ({}, {}, None),
    ],
)
def test_profile_promises_what_both_tiers_can(edge: Any, cloud: Any, common: Any) -> None:
    assert common_profile(fake(**edge), fake(**cloud)) == common
    assert common_profile(fake(**cloud), fake(**edge)) == common


def test_model_has_the_common_profile() -> None:
    model = scripted(edge=fake(max_input_tokens=8), cloud=fake(max_input_tokens=9))
    assert model.profile == {"max_input_tokens": 8}


def test_profile_that_is_given_stands() -> None:
    model = scripted(edge=fake(max_input_tokens=8), profile={"max_input_tokens": 4})
    assert model.profile == {"max_input_tokens": 4}


# ---------------------------------------------------------------------------------------- tokens


def test_tokens_are_counted_offline() -> None:
    messages = [HumanMessage(PROMPT)]
    assert clients().get_num_tokens(PROMPT) == estimate_text_tokens(PROMPT)
    assert clients().get_num_tokens_from_messages(messages) == estimate_prompt_tokens(messages)
    with_tools = clients().get_num_tokens_from_messages(messages, tools=[weather])
    assert with_tools > estimate_prompt_tokens(messages)


def test_users_own_tokenizer_goes_first() -> None:
    model = scripted(custom_get_token_ids=lambda text: [len(word) for word in text.split()])
    assert model.get_num_tokens("to be or not") == 4


def test_messages_can_be_trimmed_by_the_model() -> None:
    messages = [HumanMessage("word " * 100), HumanMessage("the last one")]
    assert trim_messages(messages, max_tokens=60, token_counter=clients()) == messages[1:]


# ---------------------------------------------------------------------------------- repr, traces


@pytest.mark.parametrize("say", [repr, str, dumps, lambda m: json.dumps(m.asdict())])
def test_model_shows_no_secret(say: Callable[[Any], str]) -> None:
    model = RoutedChatModel(
        edge=ChatOpenAI(model="edge", api_key=KEY, base_url="http://127.0.0.1:9/v1"),
        cloud=ChatOpenAI(model="cloud", api_key=SecretStr(KEY)),
    )
    assert "CANARY" not in say(model)


def test_repr_shows_no_header() -> None:
    assert "CANARY" not in repr(clients())


def test_repr_says_who_is_behind_it() -> None:
    text = repr(scripted("cloud", budget=Budget(max_cloud_calls=3)))
    assert all(word in text for word in ("little", "big", "AlwaysCloud", "cloud_calls=3"))


def test_trace_names_both_models_until_one_has_answered() -> None:
    params = scripted()._get_ls_params(stop=["x"], temperature=0.5)
    assert params == {
        "ls_provider": "hybridflow",
        "ls_model_name": "little | big",
        "ls_model_type": "chat",
        "ls_stop": ["x"],
        "ls_temperature": 0.5,
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stop": ["x"], "temperature": 1, "max_tokens": 7},
        {"temperature": "hot", "max_tokens": "many", "model": "other", "tools": []},
    ],
)
@pytest.mark.parametrize(
    "fields", [{}, {"stop": ["y"], "temperature": 0.5, "max_tokens": 9}], ids=["bare", "set"]
)
def test_trace_is_told_what_langchain_would_tell(
    fields: dict[str, Any], options: dict[str, Any]
) -> None:
    """The contract with LangChain that these two stand on, which are faster than its own."""
    model = scripted(**fields)
    assert model._get_invocation_params(**options) == BaseChatModel._get_invocation_params(
        model, **options
    )
    stop = options.get("stop") or model.stop
    theirs = BaseChatModel._get_ls_params(model, **{**options, "stop": stop})
    names = {"ls_provider": "hybridflow", "ls_model_name": options.get("model", "little | big")}
    assert model._get_ls_params(**options) == {**theirs, **names}


# ------------------------------------------------------------------------------------ written down


def test_lc_id_is_where_the_class_is_imported_from() -> None:
    assert RoutedChatModel.lc_id() == ["langchain_hybridflow", "chat_models", "RoutedChatModel"]


def test_subclass_is_found_where_it_is_defined() -> None:
    class Mine(RoutedChatModel):
        pass

    assert Mine.lc_id() == [*__name__.split("."), "Mine"]


def test_model_comes_back_from_its_dump() -> None:
    budget = Budget(
        limit_usd="0.05",
        max_cloud_calls=0,
        deadline_s=30,
        per_run=Limits(usd="0.01", cloud_tokens=100),
        on_exhausted="raise",
        prices={"big": Price("0.1", 8, long_prompt=(1_000, Price(4, 16, 1)))},
        name="team",
    )
    model = obedient(
        router=RandomRouter(cloud_share=0.25, seed=3),
        budget=budget,
        on_edge_error="raise",
        temperature=0.5,
        stop=["x"],
        max_output_tokens=99,
    )
    loaded = reloaded(model)
    assert dumpd(loaded) == dumpd(model)
    assert repr(loaded) == repr(model)
    assert loaded.budget.prices.get("big") == budget.prices.get("big")


def test_dump_holds_no_key_and_finds_it_again() -> None:
    model = RoutedChatModel(
        edge=ChatOpenAI(model="edge", api_key=KEY), cloud=ChatOpenAI(model="cloud", api_key=KEY)
    )
    assert "CANARY" not in dumps(model)
    loaded: Any = reloaded(model)
    assert loaded.edge.openai_api_key.get_secret_value() == KEY


def test_dump_of_a_foreign_router_cannot_be_loaded() -> None:
    class Mine:
        def route(self, request: Any) -> Any:
            return AlwaysEdge().route(request)

    model = obedient(router=Mine())
    assert dumpd(model)["kwargs"]["router"]["type"] == "not_implemented"
    with pytest.raises(NotImplementedError):
        reloaded(model)


@pytest.mark.parametrize(
    "router",
    [
        AlwaysEdge(),
        AlwaysCloud(),
        DifficultyRouter(threshold=3),
        RandomRouter(cloud_share=0.25, seed=9),
        ThresholdRouter(temperature=0.0, max_tokens=512),
    ],
    ids=lambda router: type(router).__name__,
)
def test_router_comes_back_from_its_settings(router: Any) -> None:
    settings = router_settings(router)
    assert settings is not None
    again = router_from_settings(json.loads(json.dumps(settings)))
    assert (type(again), vars(again)) == (type(router), vars(router))


def test_router_that_holds_code_is_not_written_down() -> None:
    assert router_settings(ThresholdRouter(scorer=lambda request: 1.0)) is None


@pytest.mark.parametrize("name", ["os.system", "Router", "RouteRequest", "uniform_draw", None, ""])
def test_settings_can_name_routers_only(name: Any) -> None:
    with pytest.raises(ConfigurationError):
        router_from_settings({"name": name})


def test_default_budget_is_written_as_nothing() -> None:
    assert budget_settings(Budget()) == {}
    assert budget_from_settings({}).limits == Limits()


def test_budget_with_a_ledger_of_its_own_is_not_written_down() -> None:
    assert budget_settings(Budget(ledger=OutageLedger())) is None


# ----------------------------------------------------------------------------------------- pickle


class Locked(ObedientChatModel):
    """A model with a client in it that cannot be pickled."""

    client: Any = Field(default_factory=threading.Lock, exclude=True)
    key: SecretStr = SecretStr("")


def test_pickle_holds_no_client() -> None:
    model = obedient("cloud", cloud=Locked(model_name="big", key=KEY, client=threading.Lock()))
    copied = pickle.loads(pickle.dumps(model))
    assert copied.cloud.key.get_secret_value() == KEY
    assert copied.cloud.client is not model.cloud.client  # type: ignore[attr-defined]
    assert copied.invoke("Hello").text == model.invoke("Hello").text


def test_pickle_makes_real_clients_again() -> None:
    copied = pickle.loads(pickle.dumps(clients(temperature=0.5, budget=Budget(deadline_s=5))))
    assert copied.cloud.model_name == "cloud"
    assert copied.cloud.openai_api_base == "http://127.0.0.1:9/v1"
    assert copied.cloud.openai_api_key.get_secret_value() == KEY
    assert (copied.temperature, copied.budget.deadline_s) == (0.5, 5)


def test_pickle_keeps_limits_of_each_run() -> None:
    budget = Budget(per_run=Limits(cloud_calls=0))
    copied = pickle.loads(pickle.dumps(obedient("cloud", budget=budget)))
    assert copied.invoke("Hello").response_metadata["hybridflow"]["degraded"]


def test_pickle_refuses_shared_limits_that_live_in_this_process() -> None:
    with pytest.raises(TypeError, match="spend them anew"):
        pickle.dumps(obedient(budget=Budget(limit_usd=0, prices={"big": Price(1, 1)})))
