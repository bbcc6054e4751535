"""Data cannot leave the delimiters of our prompts, nor hold anybody up by trying."""

from __future__ import annotations

import time

import pytest

from langchain_hybridflow.delimiters import inert


@pytest.mark.parametrize("name", ["attempt", "question", "result", "subtask", "Result"])
@pytest.mark.parametrize("tag", ["<{}>", "</{}>", "< / {} >", '<\n{} id="1">'])
def test_delimiter_is_broken_however_it_is_written(name: str, tag: str) -> None:
    written = tag.format(name)
    assert inert(written) == "<\\" + written[1:]


@pytest.mark.parametrize("text", ["<results>", "a < b", "<b>result</b>", ""])
def test_other_text_is_left_alone(text: str) -> None:
    assert inert(text) == text


def test_long_runs_of_white_space_take_no_long_time() -> None:
    started = time.process_time()
    inert("<" + " " * 200_000)
    assert time.process_time() - started < 1
