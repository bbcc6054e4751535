"""How sure an edge model is, asked on known questions: once, resumed, and within its budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.budget import Price
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk, VerifyRequest
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import read_labelled_runs
from langchain_hybridflow.profiling import (
    Collected,
    Item,
    JudgeScorer,
    Score,
    acollect_confidence,
    collect_confidence,
)
from langchain_hybridflow.profiling.collecting import Collector
from langchain_hybridflow.profiling.scoring import CallableScorer
from langchain_hybridflow.sandbox import sandbox_edge
from langchain_hybridflow.testing import ScriptedChatModel
from langchain_hybridflow.verify import (
    AskMarker,
    Confidence,
    SampleAgreement,
    StatedConfidence,
    TokenProbability,
)

ITEMS = [Item(id=str(n), question=f"What is {n} + {n}?", reference=2 * n) for n in range(12)]
PRICES = {"edge": Price(1_000, 1_000)}  # a dollar for a thousand tokens


def number_in(messages: list[BaseMessage]) -> int:
    question = next(m.text for m in reversed(messages) if m.text.startswith("What is"))
    return int(question.split()[2])


def answering(messages: list[BaseMessage]) -> str:
    """Right below 6 and sure of it; wrong from there on, and less sure."""
    number = number_in(messages)
    if "CONFIDENCE" in messages[-1].text:
        return "CONFIDENCE: 90" if number < 6 else "CONFIDENCE: 30"
    return f"Answer: {2 * number + (number >= 6)}"


def scripted(answer: Any = answering, **facts: Any) -> ScriptedChatModel:
    return ScriptedChatModel(responses=[answer], model_name="edge", **facts)


def world(out: Path, **options: Any) -> dict[str, Any]:
    made = {
        "edge": scripted(),
        "signal": StatedConfidence(),
        "out": out,
        "scorer": "numeric",
        "prices": PRICES,
    }
    return made | options


def collected(out: Path, data: Any = ITEMS, **options: Any) -> Collected:
    return collect_confidence(data, **world(out, **options))


def test_each_answer_has_a_score_and_a_label(tmp_path: Path) -> None:
    found = collected(tmp_path)
    assert (found.is_complete, found.stop, found.failed) == (True, None, 0)
    assert found.runs.scores == (0.9,) * 6 + (0.3,) * 6
    assert found.runs.correct == (True,) * 6 + (False,) * 6
    assert read_labelled_runs(found.table) == found.runs
    assert found.runs.groups == tuple(str(n) for n in range(12))


def test_collection_is_continued_without_buying_anything_again(tmp_path: Path) -> None:
    collected(tmp_path, ITEMS[:5])
    models = world(tmp_path)
    found = collect_confidence(ITEMS, **models)
    assert len(models["edge"].calls) == 2 * 7
    assert len(found.runs) == 12


def test_cost_of_the_answer_and_of_the_signal_is_counted(tmp_path: Path) -> None:
    found = collected(tmp_path, ITEMS[:2], limit_usd="5", max_tokens=20)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(float(row["usd"]) > 0.02 for row in rows)  # the answer alone is cheaper
    assert float(found.spent_usd) == pytest.approx(sum(float(row["usd"]) for row in rows))


@pytest.mark.parametrize("parallel", [1, 4])
def test_budget_ends_it_and_more_of_it_goes_on(tmp_path: Path, parallel: int) -> None:
    how: dict[str, Any] = {
        "max_tokens": 20,
        "signal": StatedConfidence(max_tokens=20),
        "parallel": parallel,
    }
    found = collected(tmp_path, limit_usd="0.9", **how)
    assert found.stop is not None
    assert (found.stop.kind, found.stop.tier) == ("budget", "edge")
    assert 0 < len(found.runs) < 12
    assert not found.is_complete
    assert float(found.spent_usd) <= 0.9
    again = collected(tmp_path, limit_usd="9", **how)
    assert again.is_complete
    assert again.runs.scores == (0.9,) * 6 + (0.3,) * 6


def test_calls_that_fail_are_no_wrong_answers(tmp_path: Path) -> None:
    def failing(messages: list[BaseMessage]) -> Any:
        return TimeoutError("slow") if number_in(messages) == 3 else answering(messages)

    found = collected(tmp_path, edge=scripted(failing))
    assert (found.failed, found.missing, len(found.runs)) == (1, 1, 11)
    assert collected(tmp_path).is_complete


def test_answer_whose_signal_failed_is_not_bought_again(tmp_path: Path) -> None:
    def failing(messages: list[BaseMessage]) -> Any:
        asked = "CONFIDENCE" in messages[-1].text
        return TimeoutError("slow") if asked else answering(messages)

    found = collected(tmp_path, ITEMS[:3], edge=scripted(failing))
    assert (found.failed, len(found.runs)) == (3, 0)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(row["error"].startswith("the signal failed: TimeoutError") for row in rows)
    edge = scripted()
    again = collected(tmp_path, ITEMS[:3], edge=edge)
    assert again.is_complete
    assert again.runs.scores == (0.9,) * 3
    assert ["CONFIDENCE" in call[-1].text for call in edge.calls] == [True] * 3
    assert again.spent_usd > found.spent_usd > 0


def test_answer_that_no_money_was_left_to_measure_is_not_bought_again(tmp_path: Path) -> None:
    one = ITEMS[:1]
    whole = collected(tmp_path / "whole", one)
    asked = scripted()
    how: dict[str, Any] = {"max_tokens": 20, "signal": SampleAgreement(samples=9)}
    found = collected(tmp_path / "part", one, edge=asked, limit_usd="0.1", **how)
    assert (found.stop is not None, len(asked.calls) > 0, len(found.runs)) == (True, True, 0)
    assert 0 < found.spent_usd < whole.spent_usd
    edge = scripted()
    assert collected(tmp_path / "part", one, edge=edge, limit_usd="9", **how).is_complete
    assert len(edge.calls) == 9


def test_answer_whose_log_probabilities_are_needed_is_asked_for_again(tmp_path: Path) -> None:
    """They are not in the store."""

    class Failing:
        reads_logprobs = True

        def measure(self, request: VerifyRequest, desk: Desk) -> Script[Confidence]:
            yield from desk.ask("edge", [*request.messages, HumanMessage("CONFIDENCE")])
            return Confidence(0.5)

    def failing(messages: list[BaseMessage]) -> Any:
        asked = "CONFIDENCE" in messages[-1].text
        return TimeoutError("slow") if asked else answering(messages)

    one, signal = ITEMS[:1], Failing()
    assert collected(tmp_path, one, edge=scripted(failing), signal=signal).failed == 1
    edge = scripted()
    assert collected(tmp_path, one, edge=edge, signal=signal).is_complete
    assert len(edge.calls) == 2


def test_model_that_keeps_failing_ends_it(tmp_path: Path) -> None:
    edge = scripted(TimeoutError("slow"))
    found = collected(tmp_path, edge=edge, max_failures=4)
    assert found.stop is not None
    assert (found.stop.kind, found.stop.tier, len(edge.calls)) == ("failures", "edge", 4)
    assert "slow" in found.stop.cause


def test_scorer_that_fails_leaves_answers_that_are_not_bought_again(tmp_path: Path) -> None:
    def broken(item: Item, answer: str) -> float:
        raise OSError("no scorer")

    found = collected(tmp_path, scorer=CallableScorer(broken, name="mine"), max_failures=3)
    assert found.stop is not None
    assert (found.stop.kind, found.stop.tier) == ("failures", None)
    models = world(tmp_path, scorer=CallableScorer(lambda item, answer: 1.0, name="mine"))
    again = collect_confidence(ITEMS, **models)
    assert again.is_complete
    assert len(models["edge"].calls) == 2 * 9


def test_answer_that_cannot_be_scored_is_left_out(tmp_path: Path) -> None:
    unsure = CallableScorer(
        lambda item, answer: Score(None if item.id == "3" else 1.0, "who knows"), name="mine"
    )
    found = collected(tmp_path, scorer=unsure)
    assert (found.unscored, len(found.runs), found.is_complete) == (1, 11, True)


def test_marks_in_between_count_as_right_from_a_half_on(tmp_path: Path) -> None:
    marks = CallableScorer(lambda item, answer: int(item.id) / 11, name="mine")
    found = collected(tmp_path, scorer=marks)
    assert found.runs.correct == (False,) * 6 + (True,) * 6
    assert found.notes == (
        "10 answers have a score between 0 and 1; from 0.5 on they count as right.",
    )


def test_mended_reference_is_scored_anew_without_a_call(tmp_path: Path) -> None:
    collected(tmp_path)
    models = world(tmp_path)
    mended = [Item(id=one.id, question=one.question, reference=0) for one in ITEMS]
    found = collect_confidence(mended, **models)
    assert (models["edge"].calls, sum(found.runs.correct)) == ([], 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"signal": SampleAgreement()},
        {"signal": StatedConfidence(max_tokens=9)},
        {"scorer": "exact"},
        {"max_tokens": 9},
        {"contract": "prompt"},
        {"instructions": "Be brief."},
    ],
)
def test_collection_is_not_continued_with_other_settings(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    collected(tmp_path)
    with pytest.raises(ConfigurationError, match="other settings"):
        collected(tmp_path, **changed)
    assert collected(tmp_path, restart=True, **changed).is_complete


# ------------------------------------------------------------------------------ signals


class WithLogprobs(ScriptedChatModel):
    logprobs: bool | None = None
    top_logprobs: int | None = None


def test_model_is_asked_for_the_logprobs_that_the_signal_reads(tmp_path: Path) -> None:
    content = [{"token": "4", "logprob": -0.5, "top_logprobs": []}]
    said = AIMessage("Answer: 4", response_metadata={"logprobs": {"content": content}})
    for place, signal, options in (
        ("a", TokenProbability(), {"logprobs": True}),
        ("b", AskMarker(alternatives=2), {"logprobs": True, "top_logprobs": 2}),
    ):
        edge = WithLogprobs(responses=[said], model_name="edge")
        found = collected(tmp_path / place, ITEMS[:1], edge=edge, signal=signal)
        assert edge.call_kwargs == [{"max_tokens": 2048} | options]
        assert found.runs.scores[0] == pytest.approx(0.6065 if place == "a" else 1.0, abs=1e-4)


def test_sampled_answers_get_no_more_options_than_the_answer(tmp_path: Path) -> None:
    edge = scripted("Answer: 0")
    found = collected(tmp_path, ITEMS[:1], edge=edge, signal=SampleAgreement(samples=2))
    assert found.runs.scores == (1.0,)
    assert edge.call_kwargs[1] == {"max_tokens": 2048, "temperature": 0.7}


def test_asking_for_help_is_no_right_answer(tmp_path: Path) -> None:
    def asking(messages: list[BaseMessage]) -> str:
        number = number_in(messages)
        return f"<think>Hm.</think>{ASK_MARKER if number % 2 else f'Answer: {2 * number}'}"

    how: dict[str, Any] = {"edge": scripted(asking), "signal": AskMarker(), "contract": "auto"}
    found = collected(tmp_path, **how)
    assert found.runs.correct == (True, False) * 6
    assert found.runs.scores == (1.0, 0.0) * 6
    assert ASK_MARKER in how["edge"].calls[0][0].text


def test_model_that_was_trained_to_ask_is_told_nothing(tmp_path: Path) -> None:
    class Trained(ScriptedChatModel):
        answers_or_asks: bool = True

    edge = Trained(responses=["<think>1+1</think><answer>2</answer>"], model_name="edge")
    found = collected(tmp_path, ITEMS[1:2], edge=edge, signal=AskMarker(), contract="auto")
    assert [message.text for message in edge.calls[0]] == ["What is 1 + 1?"]
    assert found.runs.correct == (True,)


def test_puzzles_of_the_sandbox_can_be_asked(tmp_path: Path) -> None:
    how = {"scorer": None, "signal": AskMarker(), "edge": sandbox_edge(time_scale=0)}
    found = collected(tmp_path, "puzzles:30", **how)
    assert len(found.runs) == 30


# ----------------------------------------------------------------------------- refusals


def test_edge_does_not_judge_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not judge itself"):
        collected(tmp_path, scorer="judge")
    judge = ScriptedChatModel(responses=["SCORE: 10"], model_name="judge")
    found = collected(tmp_path, scorer=JudgeScorer.by(judge))
    assert found.runs.correct == (True,) * 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"parallel": 0},
        {"max_tokens": 0},
        {"max_failures": 0},
        {"timeout_s": 0.0},
        {"contract": "x"},
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        collected(tmp_path, **wrong)


async def test_within_an_event_loop_the_twin_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="await acollect_confidence"):
        collected(tmp_path)


async def test_run_can_be_asked_to_stop_and_be_continued(tmp_path: Path) -> None:
    def stop_at(count: int) -> Callable[[Collector], None]:
        return lambda run: run.ask_to_stop() if run.done == count else None

    found = await acollect_confidence(ITEMS, **world(tmp_path, on_progress=stop_at(4)))
    assert found.stop is not None
    assert (found.stop.kind, len(found.runs)) == ("asked", 4)
    assert (await acollect_confidence(ITEMS, **world(tmp_path))).is_complete


async def test_cancelled_run_keeps_what_it_has(tmp_path: Path) -> None:
    begun = asyncio.Event()

    def note(run: Collector) -> None:
        if run.done == 3:
            begun.set()

    task = asyncio.create_task(acollect_confidence(ITEMS, **world(tmp_path, on_progress=note)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 3 <= len(read_labelled_runs(tmp_path / "runs.jsonl")) < 12
