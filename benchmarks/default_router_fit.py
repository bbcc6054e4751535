"""Fit the default router: ridge regressions of the gain and of the edge's score, then calibrated.

Each table has an intercept of its own and counts as much as the others: which table a question is
from says which models answered it, and that is not to be learnt. The penalties were chosen for
what is learnt on two tables and measured on the third.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import floor

import numpy as np
from default_router_data import Floats, Outcomes, subtask_outcomes
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack, vstack

from langchain_hybridflow.routing import RouteRequest
from langchain_hybridflow.routing.default.artefact import pack, unpack
from langchain_hybridflow.routing.default.reading import SURFACE_NAMES, Reading, read, word_key
from langchain_hybridflow.routing.default.weights import Pair, Weights

MIN_ROWS_OF_A_WORD = 20
MIN_TABLES_OF_A_WORD = 2
MAX_SHARE_OF_A_WORD = 0.2
"""More frequent words say how something is said rather than what."""
DAMPING = 20.0
WORD_PENALTY = 100.0
SURFACE_PENALTY = 200.0
LARGEST = 0.995
"""Weights of words, and their sum in a text, are kept within this quantile of their sizes."""
FOLDS = 4
CLOUD_SHARE = 0.30
HARD = 5
"""The operating point: that share of the pooled questions goes to the cloud, or a little more, so
that subtasks of this difficulty do, as planners are told (HybridFlow, arXiv 2512.22137)."""
DIGITS = 5

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    weights: Weights
    min_gain: float


@dataclass(frozen=True)
class Part:
    """Some rows of a table."""

    outcomes: Outcomes
    rows: Rows


@cache
def _readings(questions: tuple[str, ...]) -> list[Reading]:
    return [read(question) for question in questions]


def fit(parts: Sequence[Part], difficulty: tuple[Pair, ...]) -> Fitted:
    """Fit, calibrate on out-of-fold predictions, and choose the operating point on them."""
    raw = _ridge(parts, difficulty)
    held = [np.zeros((len(part.rows), 2)) for part in parts]
    for fold in range(FOLDS):
        inside = [part.outcomes.clusters[part.rows] % FOLDS != fold for part in parts]
        some = _ridge(
            [
                Part(part.outcomes, part.rows[keep])
                for part, keep in zip(parts, inside, strict=True)
            ],
            difficulty,
        )
        for part, keep, found in zip(parts, inside, held, strict=True):
            found[~keep] = foresee(some, part.outcomes, part.rows[~keep])
    targets = [part.outcomes.targets[part.rows] for part in parts]
    gain = _line([one[:, 0] for one in held], [one[:, 0] for one in targets])
    edge = _line([one[:, 1] for one in held], [one[:, 1] for one in targets])
    weights = rounded(_stretched(raw, gain, edge))
    shares = [np.full(len(one), 1 / len(one)) for one in held]
    pooled = np.concatenate([gain[0] + gain[1] * one[:, 0] for one in held])
    point = _quantile(pooled, np.concatenate(shares), 1 - CLOUD_SHARE)
    return Fitted(weights, floor(100 * min(point, difficulty[HARD - 1].gain)) / 100)


def foresee(weights: Weights, outcomes: Outcomes, rows: Rows) -> Floats:
    """Return the gain and P(edge right), shape (rows, 2), not yet cut to probabilities."""
    readings = _readings(outcomes.questions)
    found = [weights.parts(readings[row]) for row in rows]
    return np.array([(parts.gain, parts.edge) for parts in found]).reshape(len(rows), 2)


def predictions(weights: Weights, texts: Sequence[str]) -> Floats:
    """Return P(edge right), P(cloud right) as the router has them, shape (n, 2)."""
    found = [weights.foresee(RouteRequest(text=text)) for text in texts]
    return np.array([(one.edge_quality, one.cloud_quality) for one in found])


def difficulty_table() -> tuple[Pair, ...]:
    """Return what is foreseen of a subtask at each of the planner's nine levels."""
    from sklearn.linear_model import LogisticRegression

    levels, scores = subtask_outcomes()
    curves = []
    for tier in (0, 1):
        x = np.concatenate([levels, levels])[:, None].astype(float)
        y = np.repeat([1, 0], len(levels))
        weight = np.concatenate([scores[:, tier], 1 - scores[:, tier]])
        model = LogisticRegression(C=1.0).fit(x, y, sample_weight=weight)
        curves.append(model.predict_proba(np.arange(1, 10, dtype=float)[:, None])[:, 1])
    edge, cloud = np.round(curves, DIGITS)
    return tuple(
        Pair(round(float(c - e), DIGITS), float(e)) for e, c in zip(edge, cloud, strict=True)
    )


def rounded(weights: Weights) -> Weights:
    """Return the weights as they will be read from the file."""

    def pair(one: Pair) -> Pair:
        return Pair(round(one.gain, DIGITS), round(one.edge, DIGITS))

    plain = replace(
        weights,
        base=pair(weights.base),
        surface=tuple(map(pair, weights.surface)),
        means=tuple(round(mean, DIGITS) for mean in weights.means),
        bound=pair(weights.bound),
    )
    about = {"feature_schema": 1, "parameters": {"min_gain": 0.0}}
    return unpack(pack(plain, about)).weights


def _ridge(parts: Sequence[Part], difficulty: tuple[Pair, ...]) -> Weights:
    readings = [[_readings(part.outcomes.questions)[row] for row in part.rows] for part in parts]
    words = _vocabulary(readings)
    index = {word: i for i, word in enumerate(words)}
    surface = [np.array([one.surface for one in table]) for table in readings]
    means = np.mean([table.mean(axis=0) for table in surface], axis=0)
    rows = vstack([_word_matrix(table, index) for table in readings])
    tables = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    x = hstack(
        [
            rows,
            csr_matrix(np.concatenate(surface) - means),
            csr_matrix(np.eye(len(parts))[tables]),
        ]
    ).tocsr()
    y = np.concatenate([part.outcomes.targets[part.rows] for part in parts])
    share = np.concatenate([np.full(len(part.rows), len(y) / len(part.rows)) for part in parts])
    penalty = np.repeat(
        [WORD_PENALTY, SURFACE_PENALTY, 1e-6], [len(words), len(SURFACE_NAMES), len(parts)]
    )
    weighted = diags(share / len(parts)) @ x
    gram = (weighted.T @ x).toarray() + np.diag(penalty)
    found = np.linalg.solve(gram, np.asarray(weighted.T @ y))
    own, looks, bases = np.split(found, [len(words), len(words) + len(SURFACE_NAMES)])
    most = np.quantile(np.abs(own), LARGEST, axis=0)
    own = np.clip(own, -most, most)
    sums = np.abs(np.asarray(rows @ own))
    return Weights(
        base=Pair(*map(float, bases.mean(axis=0))),
        words={word_key(word): Pair(*map(float, own[i])) for word, i in index.items()},
        surface=tuple(Pair(*map(float, one)) for one in looks),
        means=tuple(map(float, means)),
        difficulty=difficulty,
        damping=DAMPING,
        bound=Pair(*map(float, np.quantile(sums, LARGEST, axis=0))),
    )


def _vocabulary(readings: Sequence[Sequence[Reading]]) -> list[str]:
    """Return the words that several tables have often: those of one table alone name its topic."""
    counts = [Counter(word for one in table for word in one.words) for table in readings]
    often = {
        word
        for one, table in zip(counts, readings, strict=True)
        for word, rows in one.items()
        if rows > MAX_SHARE_OF_A_WORD * len(table)
    }
    return sorted(
        word
        for word in set().union(*counts) - often
        if sum(one[word] >= MIN_ROWS_OF_A_WORD for one in counts) >= MIN_TABLES_OF_A_WORD
    )


def _word_matrix(readings: Sequence[Reading], index: dict[str, int]) -> csr_matrix:
    rows, columns, values = [], [], []
    for row, one in enumerate(readings):
        known = sorted(index[word] for word in one.words if word in index)
        rows += [row] * len(known)
        columns += known
        values += [1 / np.sqrt(len(one.words) + DAMPING)] * len(known)
    return csr_matrix((values, (rows, columns)), shape=(len(readings), len(index)))


def _line(predicted: Sequence[Floats], observed: Sequence[Floats]) -> tuple[float, float]:
    """Return intercept and slope of the line from predicted to observed, tables alike.

    The slope is that within tables; the intercept makes the means over all tables agree.
    """
    above = sum(
        float(np.mean((p - p.mean()) * (o - o.mean())))
        for p, o in zip(predicted, observed, strict=True)
    )
    below = sum(float(np.var(p)) for p in predicted)
    slope = max(above / below, 0.05) if below > 0 else 1.0
    means = [np.mean([one.mean() for one in values]) for values in (predicted, observed)]
    return float(means[1] - slope * means[0]), slope


def _stretched(weights: Weights, gain: tuple[float, float], edge: tuple[float, float]) -> Weights:
    """Fold the lines into the weights."""

    def stretched(one: Pair) -> Pair:
        return Pair(one.gain * gain[1], one.edge * edge[1])

    base = stretched(weights.base)
    return replace(
        weights,
        base=Pair(base.gain + gain[0], base.edge + edge[0]),
        words={key: stretched(one) for key, one in weights.words.items()},
        surface=tuple(map(stretched, weights.surface)),
        bound=stretched(weights.bound),
    )


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(below, share)])
