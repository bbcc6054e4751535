"""Scorers: what counts as right, as wrong, as no answer, and as something nobody can say."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling import Item, Score, scorer_named
from langchain_hybridflow.profiling.scoring import (
    CallableScorer,
    ChoiceScorer,
    ExactScorer,
    JsonScorer,
    NumericScorer,
    SandboxScorer,
    Scorer,
)
from langchain_hybridflow.sandbox import generate_problems, is_correct, sandbox_edge

CITIES = dict(zip("ABCDE", ("Paris", "Rome", "Madrid", "Bern", "I"), strict=True))


def item(reference: Any = None, **facts: Any) -> Item:
    return Item(id="1", question="?", reference=reference, **facts)


def value(scorer: Scorer, reference: Any, answer: str, **facts: Any) -> float | None:
    return scorer.score(item(reference, **facts), answer).value


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("Paris", "paris", 1),
        ("Paris", "**Paris.**", 1),
        ("New York", "  new\n york ", 1),
        ("Paris", "It was long ago. Answer: Paris", 1),
        ("Paris", "Paris or Rome", 0),
        (["Paris", "City of Light"], "city of light", 1),
        ("-5", "5", 0),
        ("1.5", "15", 0),
        (5, "5", 1),
        (5.0, "5", 1),
        ("\uff21", "a", 1),
        (True, "true", 1),
    ],
)
def test_exact_compares_texts(reference: Any, answer: str, expected: int) -> None:
    assert value(ExactScorer(), reference, answer) == expected


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("1250", "1,250", 1),
        ("1250", "1 250 euros", 1),
        ("1234567", "1'234'567", 1),
        ("-5", "\N{MINUS SIGN}5", 1),
        ("5", "-5", 0),
        ("0.75", "It is 3/4.", 1),
        ("3/4", "0.75", 1),
        ("-1.5", r"-\frac{3}{2}", 1),
        ("0.12", "12%", 1),
        ("12 percent", "12", 1),
        ("#### 42", "42", 1),
        ("6.02e23", "6.02E23", 1),
        ("5", "10 - 5 = 5", 1),
        ("42", "The answer is 42. I used 3 steps.\nAnswer: 42", 1),
        ("10", "Answer: 10 (see step 3)", 1),
        ("7", "There are 7 of them, of 9 in all.", 0),
        ("18", r"\$18.00", 1),
        (1250, "1250.0", 1),
        ("0.1", "0.1000001", 1),
        ("100", "101", 0),
        ("5", "5/0", 0),
    ],
)
def test_numeric_compares_numbers(reference: Any, answer: str, expected: int) -> None:
    assert value(NumericScorer(), reference, answer) == expected


def test_numeric_takes_a_tolerance_by_name() -> None:
    scorer = scorer_named("numeric:0.05")
    assert value(scorer, "100", "104") == 1
    assert value(scorer, "100", "106") == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The answer is (C)", 1),
        ("**C**", 1),
        ("C", 1),
        ("c", 1),
        ("(C)", 1),
        ("C) because Madrid is", 1),
        ("C. Madrid", 1),
        ("C: Madrid", 1),
        ("answer: c.", 1),
        ("A is wrong. So the correct answer is **C) Madrid**.", 1),
        (r"$\boxed{\text{C}}$", 1),
        ("A) no. B) no. C) yes.\n\nC", 1),
        ("<answer>C</answer>", 1),
        ("\u7b54\u6848\u662fC", 1),
        ("Answer: C\n\nA and B are incorrect because ...", 1),
        ("The answer is C, not A.", 1),
        ("Madrid", 1),
        ("The answer would be C because a cat", 1),
        ("A", 0),
        ("The answer is B", 0),
        ("Rome", 0),
        ("I think it is a nice question.", 0),
        ("The answer is a city in Spain", 0),
        ("A) no.\nB) no.\nC) yes.", None),
        ("A or C", None),
        ("The answer is A or C", None),
        ("The answer is (B) and (C)", None),
        ("A and B are wrong, and C may be right", None),
        ("The answer is not C, it is B.", None),
    ],
)
def test_choice_reads_the_letter_and_refuses_ambiguity(answer: str, expected: int | None) -> None:
    assert value(ChoiceScorer(), "C", answer, choices=CITIES) == expected


@pytest.mark.parametrize("reference", ["C", "c", "(C)", "Madrid", 2, "2"])
def test_choice_takes_the_reference_as_letter_text_or_number(reference: Any) -> None:
    assert value(ChoiceScorer(), reference, "C", choices=CITIES) == 1
    assert value(ChoiceScorer(), reference, "B", choices=CITIES) == 0


def test_choice_cannot_say_when_the_reference_is_no_choice() -> None:
    score = ChoiceScorer().score(item("Vienna", choices=CITIES), "C")
    assert score.value is None
    assert "Vienna" in score.reason


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ('{"n": 1}', '{"n": 1.0}', 1),
        ({"n": [1, 2]}, 'Here:\n```json\n{"n": [1, 2]}\n```\nDone {x}.', 1),
        ('{"a": 1, "b": 2}', 'It is {"b": 2, "a": 1}, I think.', 1),
        ("[1, 2]", "[2, 1]", 0),
        ('{"n": true}', '{"n": 1}', 0),
        ("[1]", "[1][2]", 0),
        ("plain", '"plain"', 1),
    ],
)
def test_json_compares_values(reference: Any, answer: str, expected: int) -> None:
    assert value(JsonScorer(), reference, answer) == expected


def test_json_schema_is_what_an_answer_must_meet(
    require: Callable[[str], None], tmp_path: Path
) -> None:
    require("jsonschema")
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"type": "object", "required": ["n"]}))
    scorer = scorer_named(f"json:{path}")
    assert not scorer.needs_reference
    assert value(scorer, None, '{"n": 1}') == 1
    assert value(scorer, None, '{"m": 1}') == 0
    assert value(scorer, {"n": 2}, '{"n": 1}') == 0


@pytest.mark.parametrize(
    ("scorer", "reference", "answer"),
    [
        (ExactScorer(), "x", "..."),
        (NumericScorer(), "1", "I cannot tell."),
        (ChoiceScorer(), "A", "No idea at all, sorry about that."),
        (JsonScorer(), "{}", "no braces here"),
        (SandboxScorer(), "1", "I had to stop before the end of all this"),
    ],
)
def test_answer_with_nothing_of_the_kind_is_no_answer(
    scorer: Scorer, reference: Any, answer: str
) -> None:
    score = scorer.score(item(reference), answer)
    assert (score.value, score.no_answer) == (0.0, True)


@pytest.mark.parametrize(
    ("scorer", "reference"), [(ExactScorer(), " . "), (NumericScorer(), "many")]
)
def test_reference_that_says_nothing_leaves_no_score(scorer: Scorer, reference: str) -> None:
    assert value(scorer, reference, "5") is None


def test_sandbox_scorer_agrees_with_the_sandbox() -> None:
    model = sandbox_edge(time_scale=0)
    for problem in generate_problems(30, seed=5):
        text = model.invoke(problem.question).text
        assert value(SandboxScorer(), problem.answer, text) == is_correct(problem, text)


def scores_length(item: Item, answer: str) -> float | None:
    return min(len(answer) / 10, 1.0) if answer != "?" else None


def test_callable_is_imported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_scorers.py").write_text("def half(item, answer):\n    return 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    scorer = scorer_named("my_scorers:half")
    assert scorer.name == "my_scorers:half"
    assert value(scorer, None, "x") == 0.5


@pytest.mark.parametrize(("answer", "expected"), [("12345", 0.5), ("?", None)])
def test_callable_may_give_any_score_or_none(answer: str, expected: float | None) -> None:
    assert value(CallableScorer(scores_length, "length"), None, answer) == expected


@pytest.mark.parametrize("returned", ["yes", 2.0, float("nan")])
def test_callable_that_returns_no_score_is_an_error(returned: Any) -> None:
    with pytest.raises((TypeError, ConfigurationError)):
        CallableScorer(lambda item, answer: returned, "odd").score(item(), "x")


@pytest.mark.parametrize(
    "name",
    [
        *("", "fuzzy", "exact:1", "numeric:much", "numeric:-1", "json:/nowhere.json"),
        *("json:", "no_such_mod:f", "os:no_such_name", "os:sep"),
    ],
)
def test_unknown_scorer_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        scorer_named(name)


@pytest.mark.parametrize("number", [-0.1, 1.1, float("nan")])
def test_score_outside_0_to_1_is_refused(number: float) -> None:
    with pytest.raises(ConfigurationError):
        Score(number)


ALL: list[Scorer] = [
    ExactScorer(),
    NumericScorer(),
    ChoiceScorer(),
    JsonScorer(),
    SandboxScorer(),
]


@given(st.sampled_from(ALL), st.text(min_size=1), st.text(min_size=1))
def test_no_text_whatever_breaks_a_scorer(scorer: Scorer, reference: str, answer: str) -> None:
    score = scorer.score(item(reference, choices=CITIES), answer)
    assert score.value in (None, 0.0, 1.0)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1e9, max_value=1e9))
def test_number_is_right_however_it_is_grouped(number: Decimal) -> None:
    for written in (f"{number}", f"{number:,}", f"so it is {number:,} euros."):
        assert value(NumericScorer(), str(number), written) == 1


@given(st.sampled_from("ABCDE"), st.sampled_from(["{}", "({})", "**{}**", "Answer: {}", "{}."]))
def test_letter_is_right_however_it_is_marked(letter: str, form: str) -> None:
    assert value(ChoiceScorer(), letter, form.format(letter), choices=CITIES) == 1


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
))  # fmt: skip
def test_json_value_equals_itself_whatever_its_spelling(value_: Any) -> None:
    text = json.dumps(value_, indent=2)
    assert value(JsonScorer(), json.dumps(value_), f"```json\n{text}\n```") == 1


@pytest.mark.parametrize("text", ["[" * 50_000, "{" * 5_000 + "}", "1/" * 50_000, "A or " * 20_000])
@pytest.mark.parametrize("scorer", ALL)
def test_long_hostile_answer_is_scored(scorer: Scorer, text: str) -> None:
    assert scorer.score(item("1", choices=CITIES), text).value in (None, 0.0, 1.0)
