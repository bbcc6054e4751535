"""Content is read to its last string, in whichever form it comes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import BaseModel, Field

from langchain_hybridflow.routing import read_content

DATA = "QkFTRTY0" * 8
CANARY = "CANARY-1"


class Lookup(BaseModel):
    """Look up CANARY-1."""

    city: str = Field(description="where")


BLOCKS = [
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}, "image"),
    ({"type": "image_url", "image_url": "https://example.org/a.png"}, "image"),
    ({"type": "image", "url": "https://example.org/a.png"}, "image"),
    ({"type": "image", "base64": DATA, "mime_type": "image/png"}, "image"),
    ({"type": "image", "source_type": "base64", "data": DATA}, "image"),
    ({"type": "image", "source": {"type": "base64", "data": DATA}}, "image"),
    ({"type": "input_image", "image_url": f"data:image/png;base64,{DATA}"}, "image"),
    ({"image": {"format": "png", "source": {"bytes": b"x"}}}, "image"),
    ({"type": "audio", "base64": DATA, "mime_type": "audio/wav"}, "audio"),
    ({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, "audio"),
    ({"type": "video", "url": "https://example.org/a.mp4"}, "video"),
    ({"type": "media", "mime_type": "video/mp4", "data": DATA}, "video"),
    ({"type": "file", "base64": DATA, "mime_type": "application/pdf"}, "pdf"),
    ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{DATA}"}}, "pdf"),
    ({"type": "input_file", "filename": "a.PDF", "file_data": DATA}, "pdf"),
    (
        {"type": "document", "source": {"media_type": "application/pdf", "data": DATA}},
        "pdf",
    ),
    ({"type": "file", "file_id": "file-1"}, "file"),
    ({"type": "file", "base64": DATA, "mime_type": "text/csv"}, "file"),
]


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in a tool's result"])
@pytest.mark.parametrize(("block", "medium"), BLOCKS)
def test_medium_is_recognised_in_every_form(
    block: dict[str, Any], medium: str, wrapped: bool
) -> None:
    content = [{"type": "tool_result", "content": [block]}] if wrapped else [block]
    for message in (HumanMessage(content), ToolMessage(content, tool_call_id="1")):
        found = read_content([message])
        assert medium in found.media
        assert DATA not in found.text


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": CANARY},
        {"type": "text", "text": "x", "annotations": [{"title": CANARY}]},
        {"type": "text-plain", "text": CANARY, "mime_type": "text/plain"},
        {"type": "file", "source_type": "text", "text": CANARY},
        {"type": "document", "source": {"type": "text", "data": CANARY}},
        {"type": "reasoning", "summary": [{"text": CANARY}]},
        {"type": "tool_use", "input": {"deep": [{"er": CANARY}]}},
        {"type": "tool_use", "input": {CANARY: 1}},
        {"type": "something_new", "whatever": (CANARY,)},
    ],
)
def test_text_is_read_in_every_block(block: dict[str, Any]) -> None:
    found = read_content([AIMessage([block])])
    assert CANARY in found.text
    assert not found.media


@pytest.mark.parametrize(
    "message",
    [
        SystemMessage(CANARY),
        HumanMessage("x", name=CANARY),
        HumanMessage(["x", CANARY]),
        ToolMessage(CANARY, tool_call_id="1"),
        AIMessage("", tool_calls=[{"name": "f", "args": {"a": [CANARY]}, "id": "1"}]),
        AIMessage("", tool_calls=[{"name": "f", "args": {CANARY: 1}, "id": "1"}]),
        AIMessage("", invalid_tool_calls=[{"name": "f", "args": CANARY, "id": "1", "error": None}]),
        AIMessage("", additional_kwargs={"function_call": {"arguments": CANARY}}),
    ],
)
def test_text_is_read_in_every_place_of_a_message(message: BaseMessage) -> None:
    assert CANARY in read_content([HumanMessage("hi"), message]).text


def test_numbers_in_arguments_are_text() -> None:
    call = {"name": "pay", "args": {"card": 4111111111111111}, "id": "1"}
    assert "4111111111111111" in read_content([AIMessage("", tool_calls=[call])]).text


def test_what_is_sent_beside_the_prompt_is_read() -> None:
    options = {"tools": [{"function": {"description": CANARY}}], "stop": ["END"]}
    text = read_content([HumanMessage("x")], options).text
    assert CANARY in text
    assert "END" in text


def test_class_of_a_schema_is_read() -> None:
    assert CANARY in read_content([HumanMessage("x")], {"schema": Lookup}).text


def test_arguments_named_like_media_are_no_media() -> None:
    block = {"type": "tool_use", "input": {"type": "image", "image": {"source": "x"}}}
    call = {"name": "draw", "args": {"image": {"source": "x"}, "type": "audio"}, "id": "1"}
    tools = {"tools": [{"properties": {"image": {"type": "string", "source": "x"}}}]}
    assert not read_content([AIMessage([block], tool_calls=[call])], tools).media


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "source", "data", "image", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), json_like, max_size=4), max_size=4))
def test_any_content_can_be_read(blocks: list[Any]) -> None:
    read_content([HumanMessage(blocks)], blocks)


@given(json_like)
def test_nothing_of_a_tool_call_is_left_unread(value: Any) -> None:
    text = read_content(
        [AIMessage("", tool_calls=[{"name": "f", "args": {"v": value}, "id": "1"}])]
    )

    def leaves(item: Any) -> list[str]:
        if isinstance(item, dict):
            return [leaf for pair in item.items() for part in pair for leaf in leaves(part)]
        if isinstance(item, list):
            return [leaf for part in item for leaf in leaves(part)]
        return [] if item is None or isinstance(item, bool) else [str(item)]

    assert all(leaf in text.text for leaf in leaves(value))
