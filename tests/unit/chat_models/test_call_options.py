"""Whatever a chat model can be told, told to the model that answers."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import ConfigurableField, RunnableParallel
from langchain_core.tracers import BaseTracer
from langchain_openai import ChatOpenAI
from pydantic import ValidationError
from routedkit import (
    ANSWER,
    PROMPT,
    ROUTERS,
    Way,
    both_tiers,
    by_ainvoke,
    by_invoke,
    every_way,
    merged,
    obedient,
    options_seen,
    plain_ways,
    scripted,
    weather,
)

from langchain_hybridflow import Budget, Price
from langchain_hybridflow.calls.options import own_options
from langchain_hybridflow.errors import ConfigurationError, UnknownPriceError
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel


@both_tiers
@every_way
async def test_call_options_reach_the_model_that_answers(way: Way, tier: str) -> None:
    model = scripted(tier).bind(seed=7, temperature=0.5, logit_bias={"1": 2})
    await way(model)
    seen = options_seen(model.bound, tier)  # type: ignore[arg-type]
    assert seen == {"seed": 7, "temperature": 0.5, "logit_bias": {"1": 2}}


@every_way
async def test_stop_cuts_the_answer(way: Way) -> None:
    assert (await way(scripted().bind(stop=[" the"]))).text == "Paris is"


@every_way
async def test_fields_are_options_of_every_call(way: Way) -> None:
    model = scripted(temperature=0.5, max_tokens=3, stop=["capital"])
    answer = await way(model)
    assert answer.text.strip() == "Paris is the"
    assert options_seen(model, "edge") == {
        "temperature": 0.5,
        "max_tokens": 3,
        "stop": ["capital"],
    }


def test_call_goes_before_the_fields() -> None:
    model = scripted(temperature=0.5, max_tokens=1, stop=["Paris"])
    answer = model.invoke(PROMPT, temperature=0, max_tokens=3, stop=["capital"])
    assert answer.text == "Paris is the"
    assert options_seen(model, "edge")["temperature"] == 0


def test_max_tokens_has_the_name_that_the_model_knows() -> None:
    class Ollamalike(FakeListChatModel):
        num_predict: int | None = None

    options = own_options(Ollamalike(responses=[""]), {"max_tokens": 5})[1]
    assert options == {"num_predict": 5}
    assert own_options(ChatOpenAI(model="x", api_key="k"), {"max_tokens": 5})[1] == {
        "max_tokens": 5
    }


@pytest.mark.parametrize("argument", ["api_key", "timeout", "on_edge_eror"])
def test_arguments_of_a_client_are_refused(argument: str) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        scripted(**{argument: "sk-CANARY"})


def test_refusal_of_an_argument_does_not_show_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        scripted(api_key="sk-CANARY")
    assert "CANARY" not in str(caught.value)


def test_limits_of_fields_are_checked() -> None:
    with pytest.raises(ValidationError):
        scripted(max_tokens=0)


# ----------------------------------------------------------------------------- another model's name


@every_way
async def test_model_named_by_the_call_answers_and_is_reported(way: Way) -> None:
    answer = await way(obedient("cloud").bind(model="big-mini"))
    assert answer.response_metadata["model_name"] == "big-mini"
    assert answer.response_metadata["hybridflow"]["model"] == "big-mini"


def test_model_named_by_the_call_is_billed_at_its_own_price() -> None:
    budget = Budget(limit_usd=9, prices={"big": Price(1_000, 1_000), "big-mini": Price(1, 1)})
    model = obedient("cloud", budget=budget)
    dear = model.invoke("Hello").response_metadata["hybridflow"]
    cheap = model.invoke("Hello", model="big-mini").response_metadata["hybridflow"]
    assert float(dear["cost_usd"]) > 100 * float(cheap["cost_usd"]) > 0


def test_model_of_unknown_price_is_refused_under_a_limit() -> None:
    model = obedient("cloud", budget=Budget(limit_usd=1, prices={"big": Price(1, 1)}))
    with pytest.raises(UnknownPriceError, match="nobody-knows"):
        model.invoke("Hello", model="nobody-knows")


# --------------------------------------------------------------------------------------- content


@both_tiers
def test_images_and_sounds_reach_the_model(tier: str) -> None:
    blocks = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "base64": "iVBORw0K", "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "base64": "JVBERi0=", "mime_type": "application/pdf"},
    ]
    model = scripted(tier)
    model.invoke([HumanMessage(blocks)])
    (message,) = getattr(model, tier).calls[0]
    kinds = [block["type"] for block in message.content_blocks]
    assert kinds == ["text", "image", "image", "audio", "audio", "file"]


@plain_ways
async def test_several_answers_of_one_call_are_all_there(way: Way) -> None:
    class Several(ScriptedChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            one = super()._generate(*args, **kwargs)
            texts = ["first", "second"][: kwargs.get("n", 1)]
            usage = one.generations[0].message.usage_metadata  # type: ignore[attr-defined]
            generations = [
                ChatGeneration(message=AIMessage(text, usage_metadata=usage)) for text in texts
            ]
            return ChatResult(generations=generations)

    model = scripted(edge=Several(responses=[ANSWER]))
    result = model.generate([[HumanMessage(PROMPT)]], n=2)
    assert [generation.text for generation in result.generations[0]] == ["first", "second"]
    assert (await way(model)).text


# ------------------------------------------------------------------------------------- Runnables


@every_way
async def test_config_goes_with_the_model(way: Way) -> None:
    seen: list[Any] = []

    class Noting(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append((kwargs["tags"], kwargs["metadata"]["user"]))

    model = scripted().with_config(tags=["mine"], metadata={"user": "ada"}, callbacks=[Noting()])
    await way(model)
    assert seen == [(["mine"], "ada")]


def test_router_can_be_configured_for_a_call() -> None:
    model = scripted("edge").configurable_fields(router=ConfigurableField(id="router"))
    plain = model.invoke(PROMPT)
    other = model.with_config(configurable={"router": AlwaysCloud()}).invoke(PROMPT)
    tiers = [answer.response_metadata["hybridflow"]["tier"] for answer in (plain, other)]
    assert tiers == ["edge", "cloud"]


def test_configured_models_share_the_budget() -> None:
    budget = Budget(max_cloud_calls=2)
    model = scripted("cloud", budget=budget).configurable_fields(
        temperature=ConfigurableField(id="temperature")
    )
    model.invoke(PROMPT)
    model.with_config(configurable={"temperature": 1.0}).invoke(PROMPT)
    assert budget.snapshot()["cloud_calls"]["spent"] == 2


def test_alternative_can_stand_in_for_the_routed_model() -> None:
    model = scripted("cloud").configurable_alternatives(
        ConfigurableField(id="llm"), default_key="routed", plain=ObedientChatModel()
    )
    assert model.invoke(PROMPT).response_metadata["model_name"] == "big"
    plain = model.with_config(configurable={"llm": "plain"}).invoke(PROMPT)
    assert plain.response_metadata["model_name"] == "obedient"


async def test_model_stands_in_a_chain() -> None:
    prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
    chain = prompt | obedient() | StrOutputParser()
    both = RunnableParallel(one=chain, two=prompt | obedient("cloud") | StrOutputParser())
    assert chain.invoke({"question": "Hello"}) == "You said: Hello"
    assert "".join(chain.stream({"question": "Hello"})) == "You said: Hello"
    assert await both.ainvoke({"question": "Hello"}) == dict.fromkeys(
        ["one", "two"], "You said: Hello"
    )


def test_fallbacks_and_retries_go_round_the_model() -> None:
    broken = ValueError("no")
    failing = ScriptedChatModel(responses=[broken, broken, ANSWER], model_name="little")
    model = scripted("edge", edge=failing, on_edge_error="raise")
    assert model.with_retry(wait_exponential_jitter=False).invoke(PROMPT).text == ANSWER
    dead = scripted(edge=ScriptedChatModel(responses=[broken]), on_edge_error="raise")
    assert dead.with_fallbacks([ObedientChatModel()]).invoke("Hello").text == "You said: Hello"


# ------------------------------------------------------------------- caches, limiters, streaming


@pytest.mark.parametrize("cache", [True, InMemoryCache()])
def test_cache_above_the_tiers_is_refused(cache: Any) -> None:
    with pytest.raises(ConfigurationError, match="one tier"):
        scripted(cache=cache)


@pytest.mark.parametrize("cache", [None, False])
def test_no_cache_is_no_cache(cache: Any) -> None:
    assert scripted(cache=cache).cache is False


@pytest.mark.parametrize("way", [by_invoke, by_ainvoke])
async def test_caches_of_two_tiers_do_not_meet(way: Way) -> None:
    cache = InMemoryCache()
    tiers = {
        "edge": ScriptedChatModel(responses=["from the edge"], model_name="little", cache=cache),
        "cloud": ScriptedChatModel(responses=["from the cloud"], model_name="big", cache=cache),
    }
    answers = [await way(scripted(tier, **tiers)) for tier in ("edge", "cloud", "edge", "cloud")]
    assert [answer.text for answer in answers] == ["from the edge", "from the cloud"] * 2
    assert [len(tier.calls) for tier in tiers.values()] == [1, 1]


def test_cache_tells_schemas_apart() -> None:
    edge = ObedientChatModel(cache=InMemoryCache())
    model = obedient(edge=edge)
    schemas = [{"title": title, "properties": {}} for title in ("Yes", "No")]
    for schema in schemas:
        model.with_structured_output(schema).invoke(PROMPT)
    tools = [obedient(edge=edge).bind_tools([weather], tool_choice=c) for c in ("any", "none")]
    assert [bool(bound.invoke(PROMPT).tool_calls) for bound in tools] == [True, False]


class Counting(BaseRateLimiter):
    """Lets everybody pass, and counts."""

    def __init__(self) -> None:
        self.passed = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.passed += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


@plain_ways
async def test_each_limiter_is_asked_once(way: Way) -> None:
    outer, inner = Counting(), Counting()
    little = ScriptedChatModel(responses=[ANSWER], rate_limiter=inner)
    await way(scripted("edge", edge=little, rate_limiter=outer))
    assert (outer.passed, inner.passed) == (1, 1)


class Tokens(BaseTracer):
    """Counts the tokens that callbacks see, and makes models stream."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> Any:
        self.texts.append(str(token))

    def _persist_run(self, run: Any) -> None:
        pass


def test_streaming_model_shows_tokens_while_it_is_invoked() -> None:
    tokens = Tokens()
    answer = scripted(streaming=True).invoke(PROMPT, {"callbacks": [tokens]})
    assert "".join(tokens.texts) == ANSWER == answer.text


@pytest.mark.parametrize("disabled", [True, "tool_calling"])
@pytest.mark.parametrize("structured", [True, False])
def test_disabled_streaming_sends_one_chunk(disabled: Any, structured: bool) -> None:
    model = obedient(disable_streaming=disabled)
    streaming: Any = model.bind_tools([weather])
    if structured:
        schema = {"title": "City", "properties": {"city": {"type": "string"}}}
        streaming = model.with_structured_output(schema, include_raw=True)
    assert len(list(streaming.stream("weather in Rome?"))) <= 2 + structured
    assert (len(list(model.stream("To be or not to be"))) == 1) is (disabled is True)


@pytest.mark.parametrize("tier_streams", [True, False])
def test_disabled_streaming_shows_no_tokens_of_a_streaming_tier(tier_streams: bool) -> None:
    class Streaming(ScriptedChatModel):
        streaming: bool = False

    tokens = Tokens()
    little = Streaming(responses=[ANSWER], streaming=tier_streams)
    model = scripted(edge=little, disable_streaming=True)
    assert model.invoke(PROMPT, {"callbacks": [tokens]}).text == ANSWER
    assert tokens.texts == []


def test_tier_that_does_not_stream_answers_in_one_piece() -> None:
    little = ScriptedChatModel(responses=[ANSWER], disable_streaming=True, model_name="little")
    chunks = list(scripted(edge=little).stream(PROMPT))
    assert [chunk.text for chunk in chunks if chunk.text] == [ANSWER]
    assert merged(chunks).response_metadata["model_name"] == "little"


@every_way
async def test_content_has_the_form_that_was_asked_for(way: Way) -> None:
    answer = await way(obedient(output_version="v1"), "Hello")
    (block,) = answer.content
    assert (block["type"], block["text"]) == ("text", "You said: Hello")


@every_way
async def test_content_has_the_form_that_a_tier_was_told_to_use(way: Way) -> None:
    model = obedient("cloud", edge=ObedientChatModel(output_version="v1"))
    (block,) = (await way(model, "Hello")).content
    assert (block["type"], block["text"]) == ("text", "You said: Hello")


def test_routers_of_the_kit_are_what_they_say() -> None:
    assert {name: type(router).__name__ for name, router in ROUTERS.items()} == {
        "edge": "AlwaysEdge",
        "cloud": "AlwaysCloud",
    }
