"""The signals: what each one measures, what it costs, and what it is written down as."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk, Verdict, VerifyRequest
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import AlwaysEdge
from langchain_hybridflow.testing import ScriptedChatModel
from langchain_hybridflow.verify import (
    AskMarker,
    Confidence,
    ConfidenceSignal,
    SampleAgreement,
    StatedConfidence,
    TokenProbability,
    signal_from_settings,
    signal_settings,
)
from langchain_hybridflow.verify.stating import stated_share
from tests.unit.chat_models.routedkit import PROMPT, Way, plain_ways

PRICES = {name: Price(1_000, 1_000) for name in ("little", "big")}
SIGNALS = [TokenProbability(), SampleAgreement(), StatedConfidence(), AskMarker()]


class Noting:
    """Accepts every answer, and notes what a signal says of it."""

    def __init__(self, signal: ConfidenceSignal) -> None:
        self.signal = signal
        self.found: list[Confidence] = []

    def check(self, request: VerifyRequest, desk: Desk) -> Script[Verdict]:
        self.found.append((yield from self.signal.measure(request, desk)))
        return Verdict(accept=True)


def model(verify: Any, *edge: Any, **fields: Any) -> RoutedChatModel:
    settings = {
        "edge": ScriptedChatModel(responses=list(edge), model_name="little", at_end="raise"),
        "cloud": ScriptedChatModel(responses=["from the cloud"], model_name="big"),
        "router": AlwaysEdge(),
        "budget": Budget(prices=PRICES),
        "max_retries": 0,
        "on_verify_error": "escalate",
    }
    return RoutedChatModel(verify=verify, **(settings | fields))


def measured(signal: ConfidenceSignal, *edge: Any, **options: Any) -> float | None:
    noting = Noting(signal)
    model(noting, *edge).invoke(PROMPT, **options)
    (found,) = noting.found
    return found.score


def said(*tokens: tuple[str, float] | tuple[str, float, dict[str, float]]) -> AIMessage:
    """An answer of tokens, each with its probability, and with those of others beside it."""
    content = []
    for text, chance, *others in tokens:
        listed = {text: chance, **(others[0] if others else {})}
        content.append(
            {
                "token": text,
                "logprob": log(chance),
                "top_logprobs": [{"token": t, "logprob": log(p)} for t, p in listed.items()],
            }
        )
    text = "".join(one["token"] for one in content)
    return AIMessage(text, response_metadata={"logprobs": {"content": content}})


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda one: type(one).__name__)
def test_signal_is_one_and_comes_back_from_its_settings(signal: ConfidenceSignal) -> None:
    assert isinstance(signal, ConfidenceSignal)
    assert signal_from_settings(signal_settings(signal)) == signal


# ---------------------------------------------------------------------------- tokens


def test_token_probability_is_the_geometric_mean() -> None:
    found = measured(TokenProbability(), said(("a", 0.9), ("b", 0.4)))
    assert found == pytest.approx(exp((log(0.9) + log(0.4)) / 2))


def test_token_probability_is_unknown_when_the_provider_sends_none() -> None:
    assert measured(TokenProbability(), "from the edge") is None


# ------------------------------------------------------------------------- agreement


@plain_ways
async def test_agreement_is_the_share_of_all_samples(way: Way) -> None:
    noting = Noting(SampleAgreement(samples=4))
    edge = ["6 * 7 = 42. Answer: 42", "Answer: 41", "It is 42.\nAnswer: 42", "Answer: 40", "no"]
    asked = model(noting, *edge)
    assert (await way(asked)).text == edge[0]
    assert noting.found[0].score == 0.25
    assert len(asked.edge.calls) == 5  # type: ignore[attr-defined]


def test_agreement_reads_the_answer_out_of_its_tags() -> None:
    edge = ["<think>6 * 7</think><answer>42</answer>", "Answer: 42", ASK_MARKER]
    assert measured(SampleAgreement(samples=2), *edge) == 0.5


def test_agreement_may_be_of_all_words() -> None:
    edge = ["So: Answer: 42", "so:  answer: 42", "Answer: 42"]
    assert measured(SampleAgreement(samples=2, extract="text"), *edge) == 0.5


def test_agreement_may_be_of_what_a_function_sees() -> None:
    assert measured(SampleAgreement(samples=2, extract=len), "aaa", "bbb", "bb") == 0.5


def test_samples_have_the_temperature_and_are_paid_by_the_call() -> None:
    asked = model(Noting(SampleAgreement(samples=2, temperature=0.9)), "a", "a", "b")
    answer = asked.invoke(PROMPT, temperature=0.0)
    given = [options["temperature"] for options in asked.edge.call_kwargs]  # type: ignore[attr-defined]
    assert given == [0.0, 0.9, 0.9]
    cost = answer.response_metadata["hybridflow"]["cost_usd"]
    assert float(cost) == pytest.approx(asked.budget.snapshot()["usd"]["spent"]) == 0.015


# --------------------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("CONFIDENCE: 85", 0.85),
        ("Confidence: **85%**", 0.85),
        ("confidence = 7/10", 0.7),
        ("I am 8 out of 10 sure.", 0.8),
        ("Confidence: 85/100", 0.85),
        ("Confidence: 0.85", 0.85),
        ("Confidence: 0,85", 0.85),
        ("CONFIDENCE: 100", 1.0),
        ("CONFIDENCE: 0", 0.0),
        ("CONFIDENCE: 1", 0.01),
        ("CONFIDENCE: 1.0", 1.0),
        ("90", 0.9),
        ("90 %", 0.9),
        ("Of the 3 steps I doubt one, so 60%.", 0.6),
        ("<think>CONFIDENCE: 10, or 20?</think>CONFIDENCE: 70", 0.7),
        ("First I said confidence: 20. No. Confidence: 40", 0.4),
        ("<answer>CONFIDENCE: 75</answer>", 0.75),
        ("The probability that it is right is about 55 percent.", 0.55),
        ("Confidence (0-100): 85", 0.85),
        ("On a scale of 0 to 1 my confidence is 0.8.", 0.8),
        ("CONFIDENCE: 101", None),
        ("CONFIDENCE: 12/10", None),
        ("CONFIDENCE: -5", None),
        ("CONFIDENCE: 1234", None),
        ("Between 3 and 4 of 5.", None),
        ("Very sure.", None),
        ("<think>CONFIDENCE: 70", None),
        ("", None),
    ],
)
def test_share_is_read_however_it_is_stated(text: str, share: float | None) -> None:
    assert stated_share(text) == (None if share is None else pytest.approx(share))


@given(st.text(max_size=200))
def test_whatever_is_said_makes_a_share_or_none(text: str) -> None:
    found = stated_share(text)
    assert found is None or 0 <= found <= 1


@plain_ways
async def test_edge_is_asked_after_its_answer_and_nobody_sees_it(way: Way) -> None:
    noting = Noting(StatedConfidence())
    asked = model(noting, "Paris", "CONFIDENCE: 85")
    assert (await way(asked)).text == "Paris"
    assert noting.found[0].score == 0.85
    first, *rest = asked.edge.calls[1]  # type: ignore[attr-defined]
    assert (first.text, rest[0].type, rest[0].text) == (PROMPT, "ai", "Paris")
    assert "CONFIDENCE: n" in rest[-1].text


def test_question_how_sure_has_options_of_its_own() -> None:
    asked = model(Noting(StatedConfidence(max_tokens=9)), "Paris", "CONFIDENCE: 85")
    asked.invoke(PROMPT, temperature=2.0, stop=["x"])
    assert asked.edge.call_kwargs[1] == {"max_tokens": 9}  # type: ignore[attr-defined]


def test_tool_call_is_shown_to_the_model_as_text() -> None:
    call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "x"}])
    asked = model(Noting(StatedConfidence()), call, "CONFIDENCE: 85")
    asked.invoke(PROMPT)
    shown = asked.edge.calls[1][1]  # type: ignore[attr-defined]
    assert (shown.text, shown.tool_calls) == ('{"name": "add", "args": {"a": 1}}', [])


def test_stated_confidence_is_unknown_when_no_number_is_named() -> None:
    assert measured(StatedConfidence(), "Paris", "I am quite sure.") is None


# --------------------------------------------------------------------------- the marker


@pytest.mark.parametrize(("text", "score"), [("Paris", 1.0), (f"Hm. {ASK_MARKER}", 0.0)])
def test_marker_alone_says_yes_or_no(text: str, score: float) -> None:
    assert measured(AskMarker(), text) == score


def test_marker_in_the_middle_of_an_answer_asks_nothing() -> None:
    assert measured(AskMarker(), f"I could say {ASK_MARKER} but it is Paris.") == 1.0


THINKING = (("<think>", 1.0), ("12", 0.6, {ASK_MARKER: 0.3}), ("</think>", 1.0))


def test_probability_of_the_marker_is_read_where_the_answer_begins() -> None:
    answer = said(*THINKING, ("<answer>", 0.7, {ASK_MARKER: 0.2}), ("12", 1.0), ("</answer>", 1.0))
    assert measured(AskMarker(), answer) == pytest.approx(0.8)


def test_request_for_help_is_below_all_answers_however_unlikely_it_was() -> None:
    likely = said(*THINKING, (ASK_MARKER, 0.6, {"<answer>": 0.4}))
    unlikely = said(*THINKING, (ASK_MARKER, 0.1, {"<answer>": 0.9}))
    assert measured(AskMarker(), likely) == pytest.approx(-0.6)
    assert measured(AskMarker(), unlikely) == pytest.approx(-0.1)


def test_request_for_help_after_other_words_is_none_the_less() -> None:
    """Nothing was likely to be asked where the answer begins."""
    answer = said(("I do not know. ", 0.9, {"Paris": 0.1}), (ASK_MARKER, 0.9, {"So": 0.1}))
    assert measured(AskMarker(), answer) == 0.0


@pytest.mark.parametrize("odd", [None, "x", float("nan"), 1_000.0])
def test_probability_that_is_none_counts_as_unlikely(odd: Any) -> None:
    """As servers send it for tokens that were forced."""
    content = [
        {
            "token": "Paris",
            "logprob": odd,
            "top_logprobs": [{"token": ASK_MARKER, "logprob": odd}, {"token": "x", "logprob": 0}],
        }
    ]
    answer = AIMessage("Paris", response_metadata={"logprobs": {"content": content}})
    assert measured(AskMarker(), answer) == 1.0


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1_000.0])
def test_token_probability_is_unknown_when_a_number_is_none(odd: float) -> None:
    content = [{"token": "Paris", "logprob": one} for one in (-0.1, odd)]
    answer = AIMessage("Paris", response_metadata={"logprobs": {"content": content}})
    assert measured(TokenProbability(), answer) is None


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_score_that_is_not_finite_is_unknown(odd: float) -> None:
    """A threshold would keep NaN."""
    assert Confidence(odd, "of my own").score is None


def test_marker_of_many_tokens_is_told_from_the_tag_that_begins_alike() -> None:
    answer = said(
        *THINKING,
        ("<", 0.9, {"I": 0.1}),
        ("answer", 0.75, {"unknown": 0.25}),
        (">", 1.0, {"unknown": 0.1}),
        ("12</answer>", 1.0),
    )
    assert measured(AskMarker(), answer) == pytest.approx(1 - 0.9 * 0.25)


def test_probabilities_of_all_that_leads_to_the_marker_are_multiplied() -> None:
    answer = said(
        *THINKING,
        ("\n", 0.5, {ASK_MARKER: 0.3}),
        ("<", 0.8, {"I": 0.2}),
        ("answer", 0.75, {"unknown": 0.25}),
        (">12</answer>", 1.0),
    )
    assert measured(AskMarker(), answer) == pytest.approx(1 - (0.3 + 0.5 * 0.8 * 0.25))


def test_marker_that_is_not_among_the_likeliest_is_not_likely() -> None:
    assert measured(AskMarker(), said(("Paris", 0.9, {"Lyon": 0.1}))) == 1.0


def test_without_alternatives_the_marker_itself_decides() -> None:
    content = [{"token": "Paris", "logprob": -0.5, "top_logprobs": []}]
    answer = AIMessage("Paris", response_metadata={"logprobs": {"content": content}})
    assert measured(AskMarker(), answer) == 1.0


# ------------------------------------------------------------------------------ settings


def test_function_and_foreign_signal_are_named_and_not_made_from_a_file() -> None:
    class Mine:
        def measure(self, request: VerifyRequest, desk: Desk) -> Script[Confidence]:
            raise NotImplementedError

    named = signal_settings(SampleAgreement(extract=stated_share))
    assert named["extract"] == "langchain_hybridflow.verify.stating:stated_share"
    foreign = signal_settings(Mine())
    assert foreign["name"].endswith("Mine")
    for settings in (named, foreign, {}, {"name": "JudgeVerifier"}, {"name": "AskMarker", "x": 1}):
        with pytest.raises(ConfigurationError, match=r"signal=\.\.\."):
            signal_from_settings(settings)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SampleAgreement(samples=0),
        lambda: SampleAgreement(samples=True),
        lambda: SampleAgreement(extract="number"),  # type: ignore[arg-type]
        lambda: StatedConfidence(max_tokens=0),
        lambda: StatedConfidence(prompt=" "),
        lambda: StatedConfidence(prompt=5),  # type: ignore[arg-type]
        lambda: AskMarker(alternatives=21),
        lambda: AskMarker(alternatives=-1),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        wrong()
