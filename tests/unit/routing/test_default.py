"""The router that ships: what it goes by, what bounds it, and the file it lives in."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

import langchain_hybridflow.routing.default as package
from langchain_hybridflow.budget import BudgetSnapshot
from langchain_hybridflow.errors import ArtifactError, ConfigurationError
from langchain_hybridflow.routing import DefaultRouter, EdgeAnswer, RouteRequest
from langchain_hybridflow.routing.default import artefact, load_default
from langchain_hybridflow.routing.default.reading import MAX_CHARS, SURFACE_NAMES, read

RAW = files(package).joinpath(artefact.FILE_NAME).read_bytes()
WEIGHTS = load_default().weights
STORY = (
    "A shop had 120 apples and sold 3/4 of them, then got 17 more. "
    "How many remained after it gave away 20 percent?"
)

# Words that it knows and words that it does not, in any order and number.
VOCABULARY = st.sampled_from(
    (*STORY.split(), "prove", "molecule", "zyxwv", "x = 1", "?", "patient")
)
TEXTS = st.lists(VOCABULARY, max_size=60).map(" ".join) | st.text(max_size=80)


def gain(text: str) -> float:
    return WEIGHTS.parts(read(text)).gain


@pytest.mark.parametrize(
    ("difficulty", "tier"), [(1, "edge"), (4, "edge"), (5, "cloud"), (9, "cloud")]
)
def test_default_goes_by_the_planned_difficulty_in_a_plan(difficulty: int, tier: str) -> None:
    decision = DefaultRouter().route(RouteRequest(text=STORY, difficulty=difficulty))
    assert (decision.tier, decision.router) == (tier, "default")
    assert decision.reason.startswith(f"planned difficulty {difficulty}: edge ")


def test_gain_rises_with_the_difficulty_that_planners_use() -> None:
    gains = [pair.gain for pair in WEIGHTS.difficulty[:8]]
    assert gains == sorted(gains)


def test_default_sends_a_word_problem_up_and_small_talk_not() -> None:
    router = DefaultRouter()
    assert router.route(RouteRequest(text=STORY)).tier == "cloud"
    for easy in ("", "Hello there", "What is the capital of France?", "法国的首都是哪里"):
        assert router.route(RouteRequest(text=easy)).tier == "edge", easy


def test_reason_says_what_stands_out_in_a_text() -> None:
    router = DefaultRouter()
    assert "quantities" in router.route(RouteRequest(text=STORY)).reason
    assert "nothing stands out" in router.route(RouteRequest(text="Hello there")).reason


def test_a_price_keeps_on_the_edge_what_is_not_worth_it() -> None:
    hard = RouteRequest(text="?", difficulty=9)
    dear = RouteRequest(text="?", difficulty=9, budget=BudgetSnapshot(shadow_price=1e9))
    assert DefaultRouter().route(hard).tier == "cloud"
    assert DefaultRouter().route(dear).tier == "edge"


def test_min_gain_can_be_given() -> None:
    assert DefaultRouter(min_gain=-1.0).route(RouteRequest(text="Hello")).tier == "cloud"


@pytest.mark.parametrize("unit", ["zyxwv ", "x", "\n", "fnord gnarf "])
def test_length_alone_never_decides(unit: str) -> None:
    router = DefaultRouter()
    for times in (1, 10, 100, 10_000):
        assert router.route(RouteRequest(text=unit * times)).tier == "edge", times


@given(TEXTS, TEXTS)
def test_two_texts_differ_by_no_more_than_the_reach(one: str, other: str) -> None:
    assert abs(gain(one) - gain(other)) <= WEIGHTS.reach + 1e-9


@given(TEXTS, st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12) | VOCABULARY)
def test_one_more_word_moves_what_the_words_say_within_its_reach(text: str, word: str) -> None:
    before, after = read(text), read(f"{text} {word}")
    if len(after.words - before.words) <= 1 and before.words <= after.words:
        moved = WEIGHTS.parts(after).words - WEIGHTS.parts(before).words
        assert abs(moved) <= WEIGHTS.word_reach + 1e-9


@given(TEXTS)
def test_saying_it_twice_adds_nothing_to_the_words(text: str) -> None:
    once, twice = read(text), read(f"{text}\n{text}")
    if once.words == twice.words:
        assert WEIGHTS.parts(once).words == WEIGHTS.parts(twice).words


def test_words_count_for_nothing_when_none_is_known() -> None:
    assert WEIGHTS.parts(read("Warum ist der Himmel blau")).words == 0.0


@given(st.text(max_size=200))
def test_surface_is_within_bounds_for_any_text(text: str) -> None:
    surface = read(text).surface
    assert len(surface) == len(SURFACE_NAMES)
    assert all(0 <= value <= 1 for value in surface)


def test_only_both_ends_of_a_long_text_are_read() -> None:
    begin, end = "Compare. " * 200, " Why?" * 400
    short = f"{begin[: MAX_CHARS // 2]}\n{end[-MAX_CHARS // 2 :]}"
    assert read(f"{begin}{'prove 17 ' * 100_000}{end}") == read(short)


@pytest.mark.parametrize("text", ["\ud800 half \udfff", "\x00" * 100, "İ" * 3_000, "= " * 1_000])
def test_hostile_text_gets_a_decision(text: str) -> None:
    assert DefaultRouter().route(RouteRequest(text=text)).reason


def test_offered_answers_do_not_count() -> None:
    asked = "Which of these is prime?"
    assert read(f"{asked}\nA. 4\nB. 7\nC. 9\nAnswer:") == read(asked)


@pytest.mark.parametrize(
    "request_", [RouteRequest(text=STORY), RouteRequest(text="?", difficulty=7)]
)
def test_explanation_adds_up(request_: RouteRequest) -> None:
    found = DefaultRouter().explain(request_)
    parts = found.start + sum(amount for _, amount in found.contributions)
    assert parts == pytest.approx(found.prediction.gain)


def test_answers_cannot_be_explained() -> None:
    with pytest.raises(ConfigurationError, match="before any call"):
        DefaultRouter().explain(RouteRequest(text="?"), answer=EdgeAnswer(text="42"))


def test_file_is_small_and_says_where_it_comes_from() -> None:
    manifest = load_default().manifest
    assert len(RAW) < 150_000
    assert len(manifest["training_data_sha256"]) == 64
    assert {one["licence"] for one in manifest["training_data"].values()} == {"Apache-2.0", "MIT"}


def test_file_comes_out_the_same_when_it_is_written_again() -> None:
    found = artefact.unpack(RAW)
    assert artefact.pack(found.weights, found.manifest) == RAW


def test_card_is_beside_the_file_and_about_it() -> None:
    card = files(package).joinpath("MODEL_CARD.md").read_text(encoding="utf-8")
    assert load_default().manifest["training_data_sha256"] in card
    assert f"above\n{load_default().min_gain:.2f}" in card


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (RAW.replace(b'"min_gain": 0.', b'"min_gain": 1.'), "has been changed"),
        (RAW[: len(RAW) // 2], "is damaged"),
        (b"", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"sha256": 1}', "has been changed"),
        (b"\xff\xfe", "is damaged"),
    ],
)
def test_damaged_file_is_refused_with_advice(raw: bytes, what: str) -> None:
    with pytest.raises(ArtifactError, match=what) as caught:
        artefact.unpack(raw)
    assert "router=DifficultyRouter()" in str(caught.value)


def test_file_of_another_schema_is_refused() -> None:
    found = artefact.unpack(RAW)
    raw = artefact.pack(found.weights, {**found.manifest, "feature_schema": 99})
    with pytest.raises(ArtifactError, match="schema 99"):
        artefact.unpack(raw)


def test_missing_file_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact, "FILE_NAME", "no-such-file.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_default.__wrapped__()


def test_default_needs_nothing_of_the_learning_extra() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('numpy', 'sklearn', 'pyarrow', 'scipy')));"
        "from langchain_hybridflow.routing import DefaultRouter, RouteRequest;"
        "print(DefaultRouter().route(RouteRequest(text='Hello')).tier,"
        "'langchain_hybridflow.learning' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.returncode) == ("edge False", 0), run.stderr


def test_manifest_is_plain_json() -> None:
    assert json.loads(json.dumps(load_default().manifest)) == load_default().manifest
