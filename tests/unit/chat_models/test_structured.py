"""Structured output through both tiers, by all three methods."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, get_args

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1
from routedkit import both_tiers, obedient, options_seen, scripted, weather
from typing_extensions import TypedDict

from langchain_hybridflow.calls.options import own_options
from langchain_hybridflow.chat_models.structured import Method, StructuredAnswerParser
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.testing import ScriptedChatModel

PROMPT = "Answer in JSON with 'name' and 'mood': who is Ada?"


class Person(BaseModel):
    """A person."""

    name: str = Field(description="who it is")
    mood: str


class PersonDict(TypedDict):
    """A person."""

    name: Annotated[str, ..., "who it is"]
    mood: str


class OldPerson(BaseModelV1):
    """A person."""

    name: str
    mood: str


METHODS: list[Method | None] = [None, *get_args(Method)]
SCHEMAS: list[Any] = [Person, PersonDict, Person.model_json_schema()]
every_method = pytest.mark.parametrize("method", METHODS)
every_schema = pytest.mark.parametrize("schema", SCHEMAS, ids=["class", "typed_dict", "json"])


def fields_of(value: Any) -> set[str]:
    return set(value.model_fields_set if isinstance(value, Person) else value)


@both_tiers
@every_method
@every_schema
def test_answer_has_the_form(tier: str, method: Method | None, schema: Any) -> None:
    model = obedient(tier).with_structured_output(schema, method=method)
    answer = model.invoke(PROMPT)
    assert isinstance(answer, Person if schema is Person else dict)
    assert fields_of(answer) == {"name", "mood"}


@every_method
@every_schema
async def test_async_answer_is_the_same(method: Method | None, schema: Any) -> None:
    model = obedient().with_structured_output(schema, method=method)
    assert await model.ainvoke(PROMPT) == model.invoke(PROMPT)


@every_method
@every_schema
async def test_stream_ends_with_the_whole_answer(method: Method | None, schema: Any) -> None:
    model = obedient().with_structured_output(schema, method=method)
    whole = model.invoke(PROMPT)
    assert list(model.stream(PROMPT))[-1] == whole
    assert [chunk async for chunk in model.astream(PROMPT)][-1] == whole


def test_stream_of_a_dict_grows() -> None:
    model = obedient().with_structured_output(Person.model_json_schema())
    assert len(list(model.stream(PROMPT))) > 2


@every_method
def test_raw_answer_comes_beside_the_parsed_one(method: Method | None) -> None:
    model = obedient("cloud").with_structured_output(Person, method=method, include_raw=True)
    answer = model.invoke(PROMPT)
    assert answer["raw"].response_metadata["hybridflow"]["tier"] == "cloud"
    assert isinstance(answer["parsed"], Person)
    assert answer["parsing_error"] is None


@pytest.mark.parametrize("method", METHODS)
def test_parsing_error_is_returned_with_the_raw_answer(method: Method | None) -> None:
    model = scripted().with_structured_output(Person, method=method, include_raw=True)
    answer = model.invoke(PROMPT)
    assert answer["raw"].text
    assert answer["parsed"] is None
    assert isinstance(answer["parsing_error"], OutputParserException)


def test_parsing_error_is_raised_without_the_raw_answer() -> None:
    with pytest.raises(OutputParserException):
        scripted().with_structured_output(Person).invoke(PROMPT)


@pytest.mark.filterwarnings("error")
def test_classes_of_pydantic_1_are_asked_for_by_function_calling() -> None:
    model = obedient().with_structured_output(OldPerson)
    assert isinstance(model.invoke(PROMPT), OldPerson)
    assert isinstance(list(model.stream(PROMPT))[-1], OldPerson)


def test_json_mode_needs_no_schema() -> None:
    answer = obedient().with_structured_output(method="json_mode").invoke(PROMPT)
    assert {"name", "mood"} <= set(answer)


@pytest.mark.parametrize("method", [None, "function_calling", "json_schema"])
def test_other_methods_need_a_schema(method: Method | None) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        obedient().with_structured_output(method=method)


@pytest.mark.parametrize(
    ("method", "key"),
    [
        (None, "response_format"),
        ("function_calling", "tools"),
        ("json_mode", "response_format"),
        ("json_schema", "response_format"),
    ],
)
def test_each_model_is_asked_in_its_own_way(method: Method | None, key: str) -> None:
    client = ChatOpenAI(model="gpt-4.1", api_key="none")
    wish = {"schema": Person, "method": method, "strict": None}
    options = own_options(client, {"structured_output": wish, "seed": 7})[1]
    assert key in options
    assert options["seed"] == 7
    assert not {"structured_output", "ls_structured_output_format"} & options.keys()


def test_strict_reaches_a_model_that_knows_it() -> None:
    client = ChatOpenAI(model="gpt-4.1", api_key="none")
    wish = {"schema": PersonDict, "method": "json_schema", "strict": True}
    options = own_options(client, {"structured_output": wish})[1]
    assert options["response_format"]["json_schema"]["strict"] is True


def test_tools_can_be_called_beside_structured_output() -> None:
    wish = {"schema": Person, "method": "json_schema", "strict": None}
    client = ChatOpenAI(model="gpt-4.1", api_key="none")
    tools = [convert_to_openai_tool(weather)]
    options = own_options(client, {"structured_output": wish, "tools": tools})[1]
    assert [tool["function"]["name"] for tool in options["tools"]] == ["weather"]
    assert options["response_format"] is Person


def test_answer_is_read_from_where_the_model_put_it() -> None:
    parser = StructuredAnswerParser(schema_=Person)
    args = {"name": "Ada", "mood": "calm"}
    ada = Person(**args)
    call = {"name": "Person", "args": args, "id": "1", "type": "tool_call"}
    blocks = [
        {"type": "reasoning", "reasoning": "{"},
        {"type": "text", "text": ada.model_dump_json()},
    ]
    answers = [
        AIMessage("", tool_calls=[call]),
        AIMessage(ada.model_dump_json()),
        AIMessage(f"```json\n{ada.model_dump_json()}\n```"),
        AIMessage(blocks),
        AIMessage("", additional_kwargs={"parsed": ada}),
    ]
    assert [parser.invoke(answer) for answer in answers] == [ada] * 5


def test_refusal_is_an_error_that_says_so() -> None:
    refusal = AIMessage("", additional_kwargs={"refusal": "I will not."})
    with pytest.raises(OutputParserException, match="I will not"):
        StructuredAnswerParser(schema_=Person).invoke(refusal)


def test_wish_does_not_reach_the_provider() -> None:
    model = scripted()
    with pytest.raises(OutputParserException):
        model.with_structured_output(Person).invoke(PROMPT)
    assert set(options_seen(model, "edge")) == {"tools", "tool_choice"}


def test_other_options_reach_the_model() -> None:
    model = scripted()
    structured = model.with_structured_output(Person, include_raw=True, seed=3)
    structured.invoke(PROMPT)
    assert options_seen(model, "edge")["seed"] == 3


def test_other_tier_answers_when_the_chosen_one_gives_no_structured_output() -> None:
    plain = FakeListChatModel(responses=["I only talk."])
    model = obedient("edge", edge=plain).with_structured_output(Person, include_raw=True)
    answer = model.invoke(PROMPT)
    assert answer["raw"].response_metadata["hybridflow"]["tier"] == "cloud"
    assert isinstance(answer["parsed"], Person)


def test_output_type_is_the_schemas() -> None:
    assert obedient().with_structured_output(Person).OutputType is Person


def test_mixed_ways_of_two_tiers_give_one_result() -> None:
    text = ScriptedChatModel(responses=['{"name": "Ada", "mood": "calm"}'])
    call = {"name": "Person", "args": {"name": "Ada", "mood": "calm"}, "id": "1"}
    tool = ScriptedChatModel(responses=[AIMessage("", tool_calls=[call])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = [
            scripted(tier, edge=text, cloud=tool).with_structured_output(Person).invoke(PROMPT)
            for tier in ("edge", "cloud")
        ]
    assert answers == [Person(name="Ada", mood="calm")] * 2
