"""How sure a sandbox model is: a signal that is worth something, and not too much."""

from __future__ import annotations

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

from langchain_hybridflow.learning.metrics import auroc
from langchain_hybridflow.sandbox import generate_problems, is_correct, sandbox_edge
from langchain_hybridflow.sandbox.tokens import tokenize

SURE = HumanMessage("How sure are you? Reply with one line: CONFIDENCE: n, from 0 to 100.")
PROBLEMS = generate_problems(300, seed=5)
EDGE = sandbox_edge(time_scale=0)


def test_log_probabilities_come_with_each_token_when_they_are_asked_for() -> None:
    answer = EDGE.invoke("What is 6 * 7?", logprobs=True)
    content = answer.response_metadata["logprobs"]["content"]
    assert [one["token"] for one in content] == tokenize(answer.text)
    assert all(one["logprob"] < 0 for one in content)
    assert "logprobs" not in EDGE.invoke("What is 6 * 7?").response_metadata


def test_log_probabilities_are_streamed_at_the_end() -> None:
    whole = EDGE.invoke("What is 6 * 7?", logprobs=True)
    chunks: list[AIMessageChunk] = list(EDGE.stream("What is 6 * 7?", logprobs=True))
    last = chunks[-1].response_metadata
    assert last["logprobs"] == whole.response_metadata["logprobs"]


def test_right_answers_are_likelier_and_not_always() -> None:
    scores, right = [], []
    for problem in PROBLEMS:
        answer = EDGE.invoke(problem.question, logprobs=True)
        content = answer.response_metadata["logprobs"]["content"]
        scores.append(sum(one["logprob"] for one in content) / len(content))
        right.append(is_correct(problem, answer.text))
    found = auroc(scores, right)  # type: ignore[arg-type]
    assert found is not None
    assert 0.6 < found < 0.95


def test_model_says_too_high_a_number_when_asked_how_sure_it_is() -> None:
    said, right = [], []
    for problem in PROBLEMS[:150]:
        answer = EDGE.invoke(problem.question)
        asked = [HumanMessage(problem.question), AIMessage(answer.text), SURE]
        label, number = EDGE.invoke(asked).text.split()
        assert label == "CONFIDENCE:"
        said.append(int(number) / 100)
        right.append(is_correct(problem, answer.text))
    found = auroc(said, right)  # type: ignore[arg-type]
    assert found is not None
    assert found > 0.6
    assert sum(said) / len(said) > sum(right) / len(right)


def test_model_is_not_sure_of_what_it_does_not_know() -> None:
    asked = [HumanMessage("Who wrote Faust?"), AIMessage("Schiller"), SURE]
    assert EDGE.invoke(asked).text == "CONFIDENCE: 0"


def test_samples_differ_by_their_seed_and_are_the_same_for_it() -> None:
    question = PROBLEMS[0].question
    answers = [EDGE.invoke(question, temperature=0.7, seed=seed).text for seed in range(30)]
    assert len(set(answers)) > 1
    assert answers == [EDGE.invoke(question, temperature=0.7, seed=s).text for s in range(30)]


def test_seed_alone_changes_nothing_at_temperature_0() -> None:
    question = PROBLEMS[0].question
    plain = EDGE.invoke(question).text
    assert {EDGE.invoke(question, temperature=0.0, seed=s).text for s in range(9)} == {plain}
