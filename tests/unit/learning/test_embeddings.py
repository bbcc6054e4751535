"""Embeddings: kept on disk while training, asked carefully when deciding, and done without."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from langchain_hybridflow.errors import ConfigurationError, EmbeddingError, MissingExtraError
from langchain_hybridflow.learning import (
    EmbeddedPredictor,
    EmbeddingService,
    LearnedRouter,
    TrainedPredictor,
    embed_texts,
    evaluate,
    save_router,
    sentence_transformer,
    train,
)
from langchain_hybridflow.learning._local_embeddings import place_of
from langchain_hybridflow.learning.embeddings import BATCH, PROBE, embeddings_name
from langchain_hybridflow.routing import EdgeAnswer, RouteRequest
from langchain_hybridflow.testing import ManualClock
from tests.unit.learning.outcomes import FAST, dataset, trained
from tests.unit.learning.vectors import KindEmbeddings, LyingEmbeddings, SilentEmbeddings

PROOF = RouteRequest(text="Prove that the sequence 17 n + 4 converges modulo 5.")


@cache
def seeing() -> TrainedPredictor:
    data = dataset(200)
    embedded = embed_texts(KindEmbeddings(), data.questions)
    return train(data, settings=FAST, embedded=embedded)[0]


def others(number: int) -> RouteRequest:
    return RouteRequest(text=f"Prove that {number} is prime.")


# Training


def test_same_text_is_embedded_once_and_in_batches() -> None:
    embeddings = KindEmbeddings()
    texts = [f"text {number % (BATCH + 10)}" for number in range(3 * BATCH)]
    found = embed_texts(embeddings, texts)
    assert found.rows.shape == (3 * BATCH, 4)
    assert [len(batch) for batch in embeddings.asked] == [BATCH, 11]  # and the probe


def test_vectors_are_taken_from_the_cache_when_they_are_there(tmp_path: Path) -> None:
    embeddings = KindEmbeddings()
    first = embed_texts(embeddings, ["a", "Prove b"], cache=tmp_path / "deep" / "vectors.sqlite")
    embeddings.asked.clear()
    again = embed_texts(
        embeddings, ["Prove b", "c", "a"], cache=tmp_path / "deep" / "vectors.sqlite"
    )
    assert embeddings.asked == [["c"]]
    assert again.rows[[2, 0]].tolist() == first.rows.tolist()


def test_cache_of_one_model_is_not_that_of_another(tmp_path: Path) -> None:
    other = KindEmbeddings()
    other.model = "other kinds"
    embed_texts(KindEmbeddings(), ["a"], cache=tmp_path / "vectors")
    embed_texts(other, ["a"], cache=tmp_path / "vectors")
    assert other.asked == [["a", PROBE]]


def test_what_was_embedded_is_kept_when_the_service_fails_half_way(tmp_path: Path) -> None:
    class TiredEmbeddings(KindEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            if len(self.asked) == 1:
                self.down = True
            return super().embed_documents(texts)

    texts = [f"text {number}" for number in range(2 * BATCH)]
    with pytest.raises(EmbeddingError, match="do not answer: ConnectionError"):
        embed_texts(TiredEmbeddings(), texts, cache=tmp_path / "vectors")
    rested = KindEmbeddings()
    embed_texts(rested, texts, cache=tmp_path / "vectors")
    assert sum(map(len, rested.asked)) == BATCH + 1


def test_cache_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all, " * 99)
    with pytest.raises(ConfigurationError, match="cannot keep vectors"):
        embed_texts(KindEmbeddings(), ["a"], cache=tmp_path / "text")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([[1.0, float("nan")]] * 2, "not finite"),
        ([[1.0], [1.0, 2.0]], "several lengths"),
        ([[1.0, 2.0]], "asked for 2 vectors"),
        ([[], []], "asked for 2 vectors"),
    ],
)
def test_vectors_that_are_none_are_refused(answer: list[list[float]], complaint: str) -> None:
    with pytest.raises(EmbeddingError, match=complaint):
        embed_texts(LyingEmbeddings(answer), ["a"])


def test_change_of_dimension_is_noticed_when_the_cache_has_others(tmp_path: Path) -> None:
    embed_texts(KindEmbeddings(), ["a"], cache=tmp_path / "vectors")
    wider = KindEmbeddings()
    wider.dimension = 9
    with pytest.raises(EmbeddingError, match="vectors of 4, 9 numbers"):
        embed_texts(wider, ["b"], cache=tmp_path / "vectors")


def test_training_refuses_vectors_of_other_questions() -> None:
    with pytest.raises(ConfigurationError, match="vectors of 3"):
        train(dataset(60), embedded=embed_texts(KindEmbeddings(), ["a", "b", "c"]))


def test_evaluation_shows_both_ways_when_there_are_embeddings() -> None:
    data = dataset(200, seed=1)
    found = evaluate(seeing(), data, embedded=embed_texts(KindEmbeddings(), data.questions))
    assert found.by_text is not None
    assert found.by_text.before == evaluate(seeing(), data, draws=0).before
    assert found.before.apgr is not None
    assert found.before.apgr > 0.65
    assert found.with_tag is not None


def test_text_decides_as_if_there_had_never_been_embeddings() -> None:
    data, other = dataset(200), dataset(50, seed=1)
    plain, _ = train(data, settings=FAST)
    gains = [
        one.foresee(other.questions, structure=other.structure).gain.tolist()
        for one in (plain, seeing())
    ]
    assert gains[0] == gains[1]


# Deciding


def test_predictor_uses_the_embeddings() -> None:
    predictor = EmbeddedPredictor(seeing(), EmbeddingService(KindEmbeddings()))
    (found,) = predictor.predict([PROOF])
    vectors = embed_texts(KindEmbeddings(), [PROOF.text]).rows
    (expected,) = seeing().predict([PROOF], vectors=vectors)
    assert found == expected
    assert found.why == ""


def test_explanation_with_embeddings_adds_up() -> None:
    router = LearnedRouter(EmbeddedPredictor(seeing(), EmbeddingService(KindEmbeddings())))
    found = router.explain(PROOF)
    total = found.start + sum(amount for _, amount in found.contributions)
    assert total == pytest.approx(found.prediction.gain, abs=1e-4)
    assert any("embedding" in name for name, _ in found.contributions)


def test_text_alone_decides_and_the_reason_says_so_when_the_service_is_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    embeddings = KindEmbeddings()
    router = LearnedRouter(EmbeddedPredictor(seeing(), EmbeddingService(embeddings)))
    embeddings.down = True
    decision = router.route(PROOF)
    assert decision.reason.startswith("by text alone, the embeddings do not answer: edge 0.")
    assert decision.score == LearnedRouter(seeing()).route(PROOF).score
    assert "ConnectionError" in caplog.text
    assert "Prove" not in caplog.text


def test_service_that_is_down_is_left_alone_for_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    embeddings, clock = KindEmbeddings(), ManualClock()
    predictor = EmbeddedPredictor(seeing(), EmbeddingService(embeddings, clock=clock))
    embeddings.down = True
    predictor.predict([others(0)])
    asked = len(embeddings.asked)
    for number in range(1, 20):
        predictor.predict([others(number)])
    assert len(embeddings.asked) == asked
    assert len(caplog.records) == 1
    embeddings.down = False
    clock.advance(61)
    assert predictor.predict([others(20)])[0].why == ""
    assert predictor.predict([others(21)])[0].why == ""


def test_service_that_is_silent_holds_up_one_decision() -> None:
    silent = SilentEmbeddings()
    silent.let_go.set()
    service = EmbeddingService(silent, timeout_s=0.05)
    predictor = EmbeddedPredictor(seeing(), service)
    silent.let_go.clear()
    try:
        assert predictor.predict([others(0)])[0].why
        assert predictor.predict([others(1)])[0].why
    finally:
        silent.let_go.set()
    assert len(silent.asked) <= 2


def test_vectors_of_another_length_are_a_failure_when_they_come_later() -> None:
    embeddings = KindEmbeddings()
    predictor = EmbeddedPredictor(seeing(), EmbeddingService(embeddings))
    embeddings.dimension = 7
    assert "by text alone" in predictor.predict([PROOF])[0].why


def test_same_text_is_asked_for_once_when_it_is_decided_on_twice() -> None:
    embeddings = KindEmbeddings()
    predictor = EmbeddedPredictor(seeing(), EmbeddingService(embeddings))
    embeddings.asked.clear()
    predictor.predict([PROOF])
    predictor.predict_answered([PROOF], [EdgeAnswer(text="Obvious.")])
    assert embeddings.asked == [[PROOF.text]]


@pytest.mark.parametrize("text", ["", " \n", "\ud800 half", "long " * 20_000])
def test_any_text_can_be_sent_to_a_service(text: str) -> None:
    embeddings = KindEmbeddings()
    predictor = EmbeddedPredictor(seeing(), EmbeddingService(embeddings))
    assert predictor.predict([RouteRequest(text=text)])[0].why == ""
    ((sent,),) = embeddings.asked[1:]
    assert sent.strip()
    assert len(sent.encode()) < 9_000


def test_declared_tag_counts_beside_embeddings() -> None:
    predictor = EmbeddedPredictor(seeing(), EmbeddingService(KindEmbeddings()))
    tagged = RouteRequest(text=PROOF.text, tag="riddle")
    first, second = predictor.predict([PROOF, tagged])
    assert second.gain < first.gain


# What does not fit


def test_router_is_loaded_with_its_embeddings(tmp_path: Path) -> None:
    save_router(tmp_path / "r", seeing(), data=dataset(200), data_sha256="ab" * 32)
    router = LearnedRouter.load(tmp_path / "r", embeddings=KindEmbeddings())
    direct = EmbeddedPredictor(seeing(), EmbeddingService(KindEmbeddings()))
    assert router.predictor.predict([PROOF]) == direct.predict([PROOF])


def test_other_embeddings_are_refused(tmp_path: Path) -> None:
    save_router(tmp_path / "r", seeing(), data=dataset(200), data_sha256="ab" * 32)
    renamed, wider, turned = KindEmbeddings(), KindEmbeddings(), LyingEmbeddings([[0, 0, 9, -1]])
    renamed.model, wider.dimension = "other", 7
    for embeddings, complaint in (
        (renamed, "trained with the embeddings kinds, and these are other"),
        (wider, "vectors of 4 numbers, and kinds returns 7"),
        (turned, "is another model than the one of this name"),
    ):
        with pytest.raises(ConfigurationError, match=complaint):
            LearnedRouter.load(tmp_path / "r", embeddings=embeddings)


def test_router_without_embeddings_refuses_some() -> None:
    with pytest.raises(ConfigurationError, match="trained without embeddings"):
        EmbeddedPredictor(trained()[0], EmbeddingService(KindEmbeddings()))
    with pytest.raises(ConfigurationError, match="trained without embeddings"):
        trained()[0].predict([PROOF], vectors=np.ones((1, 4), dtype=np.float32))


def test_router_can_be_loaded_while_its_service_is_down(tmp_path: Path) -> None:
    save_router(tmp_path / "r", seeing(), data=dataset(200), data_sha256="ab" * 32)
    embeddings = KindEmbeddings()
    embeddings.down = True
    router = LearnedRouter.load(tmp_path / "r", embeddings=embeddings)
    assert "by text alone" in router.route(PROOF).reason


def test_router_loaded_without_its_embeddings_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_router(tmp_path / "r", seeing(), data=dataset(200), data_sha256="ab" * 32)
    router = LearnedRouter.load(tmp_path / "r")
    assert "used without" in caplog.text
    assert router.route(PROOF).score == LearnedRouter(seeing()).route(PROOF).score


@pytest.mark.parametrize("times", [{"timeout_s": 0}, {"pause_s": -1.0}])
def test_service_refuses_times_that_are_none(times: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="must be positive"):
        EmbeddingService(KindEmbeddings(), **times)


def test_embeddings_without_a_model_are_called_by_their_class() -> None:
    class Nameless(KindEmbeddings):
        model = ""

    assert embeddings_name(Nameless()) == "Nameless"


def test_local_model_is_found_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "some_small_model" / "model"
    inside.mkdir(parents=True)
    (inside.parent / "__init__.py").touch()
    (inside / "modules.json").write_text("[]")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert place_of("some-small-model") == str(inside)
    assert place_of("sentence-transformers/all-MiniLM-L6-v2") == (
        "sentence-transformers/all-MiniLM-L6-v2"
    )


def test_local_model_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match="embeddings"):
        sentence_transformer("anything")
