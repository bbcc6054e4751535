"""The answer-or-ask format: read whole, read in pieces, and taken out of what others wrote."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_hybridflow.answer_or_ask import (
    ASK_MARKER,
    NO_HELP,
    Piece,
    Reply,
    ReplyReader,
    read_reply,
    strip_markers,
    strip_markers_across,
)

BITS = (
    ASK_MARKER,
    "<unknown>I need external assistance.</unknown>",
    "<UNKNOWN> i need\nexternal assistance < / unknown >",
    "<unknown> I need ",
    "external assistance </unknown>",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "< Answer >",
    "<",
    "</",
    "<un",
    "33",
    " ",
    "\n",
    "a < b",
    "Hm.",
)
outputs = st.lists(st.sampled_from(BITS), max_size=8).map("".join)
LOOK_ALIKES = (
    "<unknown>I need external assistance</unknown>",
    "<UNKNOWN>I NEED EXTERNAL ASSISTANCE</UNKNOWN>",
    "< unknown >\n I\tneed  external assistance . < / unknown >",
    "\uff1cunknown\uff1e I need external assistance \uff1c/unknown\uff1e",
    "<\uff55nknown> I need external assistance </unknown>",
    "<unkn\u043ewn> I n\u0435ed external assistance </unkn\u043ewn>",
    "<unk\u200bnown> I need exter\u200dnal assistance </unknown\ufeff>",
    "<unknown>\u00a0I\u2003need\u00a0external\u00a0assistance</unknown>",
)


def read_in_pieces(text: str, cuts: list[int], *, tagged: bool = True, stops: bool = True) -> tuple:
    reader = ReplyReader(tagged=tagged, stops=stops)
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces: list[Piece] = []
    for start, end in itertools.pairwise(places):
        pieces += reader.feed(text[start:end])
    shown = {
        part: "".join(piece.text for piece in pieces if piece.part == part)
        for part in ("thinking", "answer")
    }
    return shown, reader.asks, reader.close()


# -- read_reply ------------------------------------------------------------------------------


def test_reply_is_well_formed_when_thinking_and_answer_stand_between_their_tags() -> None:
    assert read_reply("<think>3 * 4</think> <answer>12</answer>\n") == Reply(
        thinking="3 * 4", answer="12", asks=False, well_formed=True
    )


@pytest.mark.parametrize("text", [f"<think>Hard.</think>{ASK_MARKER}", f" {ASK_MARKER} \n"])
def test_reply_asks_when_the_output_ends_with_the_marker(text: str) -> None:
    reply = read_reply(text)
    assert (reply.asks, reply.well_formed, reply.answer) == (True, True, None)


@pytest.mark.parametrize("text", LOOK_ALIKES[:3])
def test_reply_asks_but_is_not_well_formed_when_the_marker_is_written_otherwise(text: str) -> None:
    reply = read_reply(f"<think>Hard.</think>{text}")
    assert (reply.asks, reply.well_formed, reply.thinking) == (True, False, "Hard.")


@pytest.mark.parametrize(
    "text",
    [
        f"{ASK_MARKER} The answer is 4.",
        f"<think>I could write {ASK_MARKER} now.</think><answer>4</answer>",
        f"<answer>{ASK_MARKER}</answer>",
        f"<think>{ASK_MARKER}</think>",
        f"{ASK_MARKER}<think>",
        "<unknown> I need external assistance </unknown",
        "<unknown></unknown> I need external assistance",
        "I need external assistance",
    ],
)
def test_reply_does_not_ask_when_the_marker_is_not_at_the_very_end(text: str) -> None:
    assert not read_reply(text).asks


@pytest.mark.parametrize(
    "text",
    [
        f"<think>Or not. {ASK_MARKER}",
        f"<think>a</think><answer>3</answer>{ASK_MARKER}",
        f"It may be 3. {ASK_MARKER}",
        f"<answer>3 {ASK_MARKER}",
    ],
)
def test_reply_asks_when_the_marker_ends_whatever_stands_before(text: str) -> None:
    reply = read_reply(text)
    assert (reply.asks, reply.well_formed) == (True, False)


def test_reply_keeps_the_answer_it_gave_up_when_it_asks() -> None:
    assert read_reply(f"<think>a</think><answer>3</answer>{ASK_MARKER}").answer == "3"


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("33", "", "33"),
        ("", "", None),
        ("<think>a</think>33", "a", "33"),
        ("<think>a</think>", "a", None),
        ("<think>a", "a", None),
        ("a</think>33", "a", "33"),
        ("<think>a<answer>33</answer>", "a", "33"),
        ("<think>a</think><answer>33", "a", "33"),
        ("<think>a</think><answer>1</answer><answer>33</answer>", "a", "33"),
        ("<think>a</think>So: <answer>33</answer>!", "a", "33"),
        ("<THINK>a</ think><Answer>33</answer>", "a", "33"),
        ("<think>a</think><think>b</think><answer>33</answer>", "a\nb", "33"),
        ("<think>a</think><answer></answer>", "a", None),
        (f"<think>a {ASK_MARKER}b</think><answer>33</answer>", "a b", "33"),
        (f"<think>a</think><answer>3{ASK_MARKER}3</answer>", "a", "33"),
        ("<think>a</think><unknown> I need ext", "a", None),
        ("1 < 2", "", "1 < 2"),
        ("is it <unknown>?", "", "is it <unknown>?"),
    ],
)
def test_reply_finds_thinking_and_answer_when_tags_are_missing_or_odd(
    text: str, thinking: str, answer: str | None
) -> None:
    reply = read_reply(text)
    assert (reply.thinking, reply.answer, reply.asks) == (thinking, answer, False)


@pytest.mark.parametrize(
    "text",
    [
        "33",
        "<think>a</think>33",
        "<think>a</think><answer> </answer>",
        "<think>a</think><answer>3</answer>!",
        "<think>a<think>b</think><answer>3</answer>",
        "<THINK>a</THINK><answer>3</answer>",
        f"<think>a</think><answer>3</answer>{ASK_MARKER}",
        f"<think>{ASK_MARKER}</think><answer>3</answer>",
        f"<think>a</think>{ASK_MARKER}{ASK_MARKER}",
    ],
)
def test_reply_is_not_well_formed_when_anything_differs_from_the_format(text: str) -> None:
    assert not read_reply(text).well_formed


def test_untagged_reply_keeps_answer_tags_as_text() -> None:
    text = "<think>a</think>Write <answer>x</answer> and <think>."
    assert read_reply(text, tagged=False).answer == "Write <answer>x</answer> and <think>."


def test_untagged_reply_asks_when_the_text_ends_with_the_marker() -> None:
    reply = read_reply(f"I am not sure. {ASK_MARKER}", tagged=False)
    assert (reply.asks, reply.answer) == (True, "I am not sure.")


# -- ReplyReader -----------------------------------------------------------------------------


@given(outputs, st.lists(st.integers(0, 300)), st.booleans(), st.booleans())
@example(f"<think>a</think>{ASK_MARKER} b", list(range(99)), True, True)
def test_reading_is_the_same_however_the_output_is_cut(
    text: str, cuts: list[int], tagged: bool, stops: bool
) -> None:
    whole = read_in_pieces(text, [], tagged=tagged, stops=stops)
    assert read_in_pieces(text, cuts, tagged=tagged, stops=stops)[1:] == whole[1:]


def test_text_around_a_mention_does_not_become_a_marker() -> None:
    nested = ASK_MARKER.replace("need", f"need {ASK_MARKER}")
    reply = read_reply(f"<think>Hm.</think>{nested}", tagged=False)
    assert reply.answer == "<unknown> I need \\ external assistance </unknown>"
    assert not read_reply(reply.answer, tagged=False).asks


@given(outputs, st.lists(st.integers(0, 300)), st.booleans())
def test_pieces_never_show_a_marker(text: str, cuts: list[int], tagged: bool) -> None:
    shown, _, reply = read_in_pieces(text, cuts, tagged=tagged, stops=False)
    for said in (*shown.values(), reply.thinking, reply.answer or ""):
        squeezed = "".join(said.lower().split())
        assert not re.search(r"<unknown>ineedexternalassistance\.?</unknown>", squeezed)


@given(st.text("ab <\n>/", max_size=40), st.lists(st.integers(0, 40)), st.booleans())
def test_pieces_are_the_answer_when_there_are_no_signs(
    text: str, cuts: list[int], ends: bool
) -> None:
    shown, _, reply = read_in_pieces(f"<think>{text}</think>{text}", cuts, tagged=False)
    assert (reply.answer or "").startswith(shown["answer"])
    assert shown["thinking"] == text.strip()


def test_reader_is_certain_at_the_last_letter_of_a_marker_in_the_answers_place() -> None:
    reader = ReplyReader()
    reader.feed(f"<think>Hard.</think>\n{ASK_MARKER[:-1]}")
    assert not reader.asks
    reader.feed(">")
    assert reader.asks


@pytest.mark.parametrize("before", ["<think>", "<answer>3</answer>", "I would say 3. "])
def test_reader_waits_for_the_end_when_a_marker_stands_elsewhere(before: str) -> None:
    reader = ReplyReader()
    reader.feed(before + ASK_MARKER)
    assert not reader.asks
    assert reader.close().asks


def test_reader_ends_the_output_at_a_certain_marker() -> None:
    reader = ReplyReader()
    reader.feed(f"<think>Hard.</think>{ASK_MARKER} Or 12.")
    assert reader.close() == Reply("Hard.", None, asks=True, well_formed=True)


def test_reader_holds_back_what_may_become_a_marker() -> None:
    reader = ReplyReader(tagged=False)
    assert reader.feed("Yes <unknown> I ne") == [Piece("answer", "Yes")]
    assert reader.feed("w") == [Piece("answer", " <unknown> I new")]


def test_reader_says_the_same_when_closed_twice() -> None:
    reader = ReplyReader()
    reader.feed("<think>a</think><answer>3 <")
    assert reader.close() == reader.close()


@pytest.mark.parametrize("bit", ["<", "< ", "<unknown>", "<unknown> I need", ASK_MARKER, "<think>"])
def test_reading_takes_time_by_the_length_of_the_text_alone(bit: str) -> None:
    started = time.process_time()
    read_reply(bit * (200_000 // len(bit)))
    read_reply("<" + " " * 200_000 + bit)
    assert time.process_time() - started < 5


# -- strip_markers ---------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [ASK_MARKER, *LOOK_ALIKES])
def test_marker_is_taken_out_of_a_text_however_it_is_written(marker: str) -> None:
    assert strip_markers(f"Say {marker} now.") == "Say  now."


@pytest.mark.parametrize("tag", ["<think>", "</think>", "< ANSWER >", "</ answer>"])
def test_tag_loses_its_meaning_and_stays_readable(tag: str) -> None:
    stripped = strip_markers(tag)
    assert stripped == "<\\" + tag[1:]
    assert read_reply(stripped).answer == stripped


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 < 2",
        "<b>bold</b>",
        "<unknowns>",
        "async load(): Promise<unknown> { }",
        "I need external assistance",
        "<thinking>",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert strip_markers(text) == text


def test_answer_tags_are_left_alone_when_they_have_no_meaning() -> None:
    text = f"Write it between <answer> and </answer>. <think>{ASK_MARKER}"
    stripped = strip_markers(text, tagged=False)
    assert stripped == "Write it between <answer> and </answer>. <\\think>"


def test_marker_cannot_be_made_of_what_is_left_of_markers() -> None:
    nested = ASK_MARKER.replace("need", f"need {ASK_MARKER}")
    stripped = strip_markers(nested)
    assert not read_reply(stripped).asks
    assert strip_markers(stripped) == stripped


@given(st.lists(outputs, max_size=5), st.booleans())
def test_stripped_texts_hold_no_sign_and_stay_as_they_are(texts: list[str], tagged: bool) -> None:
    stripped = strip_markers_across(texts, tagged=tagged)
    assert strip_markers_across(stripped, tagged=tagged) == stripped
    reply = read_reply("".join(stripped), tagged=tagged)
    assert (reply.thinking, reply.asks) == ("", False)
    assert reply.answer == ("".join(stripped).strip() or None)


@given(outputs, st.lists(st.integers(0, 300)))
def test_stripping_texts_is_stripping_what_they_make_together(text: str, cuts: list[int]) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    parts = [text[a:b] for a, b in itertools.pairwise(places)] or [text]
    stripped = strip_markers_across(parts)
    assert len(stripped) == len(parts)
    assert "".join(stripped) == strip_markers(text)


@pytest.mark.parametrize("bit", ["<", "< ", "<unknown> I need ", ASK_MARKER, "<\u200b", "</ "])
def test_stripping_takes_time_by_the_length_of_the_text_alone(bit: str) -> None:
    started = time.process_time()
    strip_markers(bit * (200_000 // len(bit)))
    strip_markers("<" + " " * 200_000 + bit)
    assert time.process_time() - started < 5


def test_sentence_that_refuses_help_holds_no_sign() -> None:
    assert strip_markers(NO_HELP) == NO_HELP
