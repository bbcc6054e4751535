"""Many texts at once are read as one is, and a forest walks as scikit-learn's does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_hybridflow.learning import TrainedPredictor, TrainingSettings, train
from langchain_hybridflow.learning._forest import FlatForest
from langchain_hybridflow.learning._lexicon import Lexicon, lexicon, pair_keys
from langchain_hybridflow.learning._reading import (
    MASK,
    SURFACE_NAMES,
    read,
    shows_code,
    surface_values,
    term_keys,
)
from langchain_hybridflow.learning._reading_many import Readings, read_many
from langchain_hybridflow.learning._representation import text_features
from langchain_hybridflow.routing import RouteRequest
from tests.unit.learning.outcomes import dataset

# What texts are made of where readers disagree first: odd white space and digits, letters whose
# lower case is longer or depends on its place, halves of characters, options, code, units.
PARTS = (
    *"aAzZ09.,;:!?()[]{}$\\^_ \n\t\r\x0b\x1c\x85\u00a0\u2028²½Ⅷ٣Σ"
    "\u03c3\u03c2İßÉ日\u200b\u0301\ud800\"'`=<+°%",
    "A. ", "\nB) ", "\n(C) ", "def f", "f(x)", "return", "```", "5 kg", "1999", "1,000.5",
    "none of the above", "which", "not", "USA", "w" * 70, "w" * 200, " the answer ",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join) | st.text(max_size=60)


def one_by_one(texts: list[str]) -> tuple[np.ndarray, list[list[int]]]:
    readings = [read(text) for text in texts]
    surface = np.array([surface_values(one) for one in readings], dtype=np.float32)
    return surface, [sorted(term_keys(one)) for one in readings]


def keys_of(readings: Readings, count: int) -> list[list[int]]:
    return [sorted(readings.keys[readings.rows == row].tolist()) for row in range(count)]


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_many_texts_are_read_as_one_by_one_whatever_they_are(texts: list[str]) -> None:
    surface, keys = one_by_one(texts)
    found = read_many(texts)
    for row, text in enumerate(texts):
        different = np.flatnonzero(found.surface[row] != surface[row])
        assert not len(different), ([SURFACE_NAMES[place] for place in different], text)
    assert keys_of(found, len(texts)) == keys


def test_many_texts_are_read_as_one_by_one_when_they_are_long_or_more_than_a_block() -> None:
    texts = [f"Which of {row} items is not (in) {row} kg?\nA. {row}\nB. x" for row in range(1_100)]
    texts += ["word " * 4_000, "x" * 9_000, "", " "]
    surface, keys = one_by_one(texts)
    found = read_many(texts)
    assert (found.surface == surface).all()
    assert keys_of(found, len(texts))[-6:] == keys[-6:]
    assert np.array_equal(np.bincount(found.rows, minlength=len(texts)), list(map(len, keys)))


def test_nothing_is_read_when_there_are_no_texts() -> None:
    found = read_many([])
    assert found.surface.shape == (0, len(SURFACE_NAMES))
    assert len(found.keys) == 0


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=1, max_size=300))
def test_pair_keys_are_the_hash_of_both_when_the_texts_are_gone(left: bytes, right: bytes) -> None:
    from zlib import crc32

    numbers = [np.array([value]) for value in (crc32(left), crc32(right), len(right))]
    assert pair_keys(*numbers)[0] == crc32(left + right) & MASK


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f(x) + g(y)", True),
        ("f(x) only", False),
        ("def f(x)", True),  # "def f" and then no call: its name is taken
        ("(a) and (b)", False),
        ("def f", False),
        ("return a; return b", True),
        ("f(g(x))", False),
        ("f(g(x)) h(1)", True),
    ],
)
def test_code_is_seen_as_by_the_expression_alone(text: str, expected: bool) -> None:
    from langchain_hybridflow.learning import _reading

    assert (len(_reading._CODE.findall(text)) > 1) is shows_code(text)
    if text != "def f(x)":
        assert shows_code(text) is expected


def test_lexicon_gives_the_same_numbers_to_all_threads_while_it_grows() -> None:
    lexicon = Lexicon()
    pieces = [f"piece{number}," for number in range(3_000)]

    def numbers(start: int) -> dict[str, tuple[int, int]]:
        mine = pieces[start:] + pieces[:start]
        found, tables = lexicon.numbers(mine)
        tokens = tables.pieces[1].take(found).tolist()
        return {
            piece: (number, count)
            for piece, number, count in zip(mine, found.tolist(), tokens, strict=True)
        }

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(numbers, range(0, 3_000, 250))
    assert all(one == first for one in others)
    assert sorted(number for number, _ in first.values()) == list(range(3_000))
    assert {count for _, count in first.values()} == {3}


def test_lexicon_is_full_when_it_holds_too_much() -> None:
    lexicon = Lexicon()
    lexicon.numbers(["short"])
    assert not lexicon.full
    lexicon.numbers([str(number) * 1_000 for number in range(1_000)])
    assert lexicon.full


def test_terms_are_those_counted_naively() -> None:
    texts = ["a a a b", "What is 2 + 2?\nA. 3\nB. 4", ""]
    _, terms = text_features(texts)
    for row, keys in enumerate(one_by_one(texts)[1]):
        distinct, counts = np.unique(keys, return_counts=True)
        assert terms[row].indices.tolist() == distinct.tolist()
        assert terms[row].data == pytest.approx(1 + np.log(counts))


def predictor() -> TrainedPredictor:
    return train(dataset(200), settings=TrainingSettings(models=("forest",), trees=20))[0]


def test_request_is_foreseen_alone_as_among_many() -> None:
    trained = predictor()
    requests = [RouteRequest(text=text) for text in (*dataset(60, seed=3).questions, "", "(x)")]
    many = trained.predict(requests)
    alone = [trained.predict([request])[0] for request in requests]
    for one, other in zip(alone, many, strict=True):
        assert one.edge_quality == pytest.approx(other.edge_quality, abs=1e-9)
        assert one.cloud_quality == pytest.approx(other.cloud_quality, abs=1e-9)


def test_features_are_those_of_the_plain_formula() -> None:
    """Weights, norm, SVD and regressions written out with scikit-learn's normalisation."""
    from sklearn.preprocessing import normalize

    trained = predictor().representation
    texts = [*dataset(20, seed=5).questions, "nothing known here"]
    surface, terms = text_features(texts)
    kept = np.flatnonzero(trained.columns >= 0)
    plain = normalize(terms[:, kept].multiply(trained.weights).tocsr())
    shape = np.clip((surface - trained.surface_mean) / trained.surface_scale, -3, 3) / 8
    linear = np.hstack([plain.toarray(), shape]) @ trained.heads + trained.intercepts
    for found in (trained.features(texts), _stacked([trained.features([one]) for one in texts])):
        assert (found[0] == surface).all()
        assert found[1] == pytest.approx(
            trained.assemble(plain @ trained.meaning, linear)[0], abs=1.1e-4
        )
        assert found[2] == pytest.approx(linear[:, len(trained.tags) :], abs=1e-5)


def _stacked(parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    return tuple(np.vstack(column) for column in zip(*parts, strict=True))


@pytest.mark.parametrize("leaf_rows", [1, 40, 400])
def test_forest_walks_as_scikit_learn_does_however_deep_the_trees_are(leaf_rows: int) -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(1)
    rows = np.round(rng.normal(size=(700, 9)), 2).astype(np.float32)
    targets = np.stack([rows[:, 0] > rows[:, 1], rows[:, 2] > 0], axis=1).astype(float)
    forest = ExtraTreesRegressor(25, min_samples_leaf=leaf_rows, random_state=0).fit(rows, targets)
    flat = FlatForest.compile(forest)
    for part in (rows, rows[:1], rows[:0], rows[:129]):
        expected = forest.predict(part) if len(part) else np.zeros((0, 2))
        assert flat.predict(part) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("child", [-1, 0, 10_000])
def test_forest_refuses_nodes_that_are_no_trees(child: int) -> None:
    from dataclasses import replace

    from sklearn.ensemble import ExtraTreesRegressor

    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    flat = FlatForest.compile(ExtraTreesRegressor(3, random_state=0).fit(rows, rows[:, :2]))
    children = flat.children.copy()
    children[0] = child
    with pytest.raises(ValueError, match="forest"):
        replace(flat, children=children)


def test_forked_process_begins_a_lexicon_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    inherited = lexicon()
    assert lexicon() is inherited
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert lexicon() is not inherited
    assert lexicon() is lexicon()
