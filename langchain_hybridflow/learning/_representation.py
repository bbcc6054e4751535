"""From texts to dense features: what they look like, what they are about, what they resemble.

Four blocks, all made of words and signs alone, with nothing to download:

    surface     50 numbers of the reading (lengths, numbers, signs, how the options look)
    structure   the place in the plan
    topic       P(tag | text) of a linear classifier, when the training data have tags
    meaning     64 directions of a truncated SVD of the weighted terms
    hints       linear regressions of both tiers' scores (and of the answer's length) on all terms

Topic and hints are learnt from targets. For the training rows themselves they are made
out-of-fold, by groups, so that what is learnt on top of them sees what it will see later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.learning._linear import ridge
from langchain_hybridflow.learning._reading import HASH_BITS, read, surface_values, term_keys
from langchain_hybridflow.learning._reading_many import read_many

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

__all__ = ["Representation", "fit_representation", "text_features"]

MAX_TERMS = 50_000
MEANING = 64
FOLDS = 4
_MIN_TAG_ROWS = 10
_MAX_TAGS = 200
_SURFACE_SCALE = 8  # the surface beside a text vector of length 1
_TOPIC_SHARPNESS = 20.0
_DIGITS = 4
_FEW = 4  # texts that are as fast one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """The learnt part of the features; arrays only, so that it can be saved as such.

    Attributes:
        columns: Shape (2 ** 18,), the column of a hashed term, -1 for terms not kept.
        weights: Shape (terms,), inverse document frequencies.
        surface_mean: Shape (50,).
        surface_scale: Shape (50,).
        meaning: Shape (terms, 64), directions of the SVD.
        heads: Shape (terms + 50, tags + hints), the linear classifiers and regressions.
        intercepts: Shape (tags + hints,).
        tags: Names of the topics.
        hints: Number of regressions: the scores of edge and cloud, and perhaps the log length of
            the edge's answer.
    """

    columns: NDArray[np.int32]
    weights: Floats
    surface_mean: Floats
    surface_scale: Floats
    meaning: Floats
    heads: Floats
    intercepts: Floats
    tags: tuple[str, ...]
    hints: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the learnt features, in the order of `features`."""
        return (
            *(f"topic {tag}" for tag in self.tags),
            *(f"meaning {number + 1}" for number in range(self.meaning.shape[1])),
            "edge right, by words",
            "cloud right, by words",
            "gain, by words",
        )

    def features(self, texts: Sequence[str]) -> tuple[Floats, Floats, Floats]:
        """Return the surface, the learnt features, and the raw hints; each has n rows."""
        import numpy as np

        if len(texts) > _FEW or not texts:
            return self._many(texts)
        surface, learnt, hints = zip(*map(self._one, texts), strict=True)
        return np.vstack(surface), np.vstack(learnt), np.vstack(hints)

    def _many(self, texts: Sequence[str]) -> tuple[Floats, Floats, Floats]:
        import numpy as np
        from scipy.sparse import csr_matrix

        readings, width = read_many(texts), len(self.weights)
        size = len(texts), width
        found = self.columns.take(readings.keys).astype(np.int64)
        kept = np.flatnonzero(found >= 0)
        bounds, rows, columns, values = _counted(readings.rows.take(kept), found.take(kept), size)
        values *= self.weights.take(columns)
        norms = np.sqrt(np.bincount(rows, weights=values * values, minlength=len(texts)))
        values /= np.maximum(norms, 1e-9).astype(np.float32).take(rows)
        plain = csr_matrix((values, columns, bounds), shape=size)
        shape = _scaled_surface(self, readings.surface)
        linear = plain @ self.heads[:width] + shape @ self.heads[width:] + self.intercepts
        return readings.surface, *self.assemble(plain @ self.meaning, linear)

    def _one(self, text: str) -> tuple[Floats, Floats, Floats]:
        """Return the same for one text, without the cost of a sparse matrix."""
        import numpy as np

        reading = read(text)
        surface = np.array([surface_values(reading)], dtype=np.float32)
        found = self.columns.take(term_keys(reading))
        found = np.sort(found[found >= 0])
        starts = np.flatnonzero(np.diff(found, prepend=-1))
        columns, counts = found.take(starts), np.diff(starts, append=len(found))
        values = 1 + np.log(counts.astype(np.float32))
        values *= self.weights.take(columns)
        values /= max(float(np.sqrt(values @ values)), 1e-9)
        terms = len(self.weights)
        linear = values @ self.heads.take(columns, axis=0)
        linear = linear + _scaled_surface(self, surface) @ self.heads[terms:] + self.intercepts
        meaning = values @ self.meaning.take(columns, axis=0)
        return surface, *self.assemble(meaning[None], linear)

    def assemble(self, meaning: Floats, linear: Floats) -> tuple[Floats, Floats]:
        """Put the blocks together: topic, meaning, hints."""
        import numpy as np

        tags = len(self.tags)
        logits = _TOPIC_SHARPNESS * linear[:, :tags]
        hints = linear[:, tags:]
        if tags:
            logits -= logits.max(axis=1, keepdims=True)
            np.exp(logits, out=logits)
            logits /= logits.sum(axis=1, keepdims=True)
        gain = hints[:, 1:2] - hints[:, :1]
        learnt = np.hstack([logits, meaning, hints[:, :2], gain])
        # Sums in another order differ in the last digits; no tree is to split on those.
        return np.round(learnt, _DIGITS).astype(np.float32), hints


def text_features(texts: Sequence[str]) -> tuple[Floats, Any]:
    """Return the surface, shape (n, 50), and sparse log counts of hashed terms, (n, 2 ** 18)."""
    from scipy.sparse import csr_matrix

    readings, shape = read_many(texts), (len(texts), 1 << HASH_BITS)
    bounds, _, columns, values = _counted(readings.rows, readings.keys, shape)
    return readings.surface, csr_matrix((values, columns, bounds), shape=shape)


def _counted(rows: Ints, columns: Ints, shape: tuple[int, int]) -> tuple[Ints, Ints, Ints, Floats]:
    """Return bounds of the rows, and row, column and 1 + log(count) of each place, in order."""
    import numpy as np

    count, width = shape
    places = rows * width + columns
    if count * width < 2**31:  # half the bytes are sorted in half the time
        places = places.astype(np.int32)
    places.sort()
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    counts = np.diff(starts, append=len(places))
    places = places.take(starts).astype(np.int64)
    bounds = np.searchsorted(places, np.arange(count + 1) * width)
    rows = np.repeat(np.arange(count), np.diff(bounds))
    return bounds, rows, places - rows * width, 1 + np.log(counts.astype(np.float32))


def fit_representation(
    surface: Floats,
    terms: Any,
    hints: Floats,
    *,
    tags: Sequence[str] | None,
    folds: NDArray[np.int64],
    seed: int,
) -> tuple[Representation, Floats, Floats]:
    """Learn a representation.

    Args:
        surface: Shape (n, 50).
        terms: Shape (n, 2 ** 18), sparse.
        hints: Shape (n, 2 or 3), what the regressions are to predict.
        tags: Kind of each question; `None` without.
        folds: Shape (n,), the fold of each row; a group lies in one fold.
        seed: Seed of the SVD.

    Returns:
        The representation, and `features` of the training rows, made out-of-fold.
    """
    import numpy as np

    names, labels = _tag_targets(tags, len(hints))
    base = _fit_terms(surface, terms, names, hints.shape[1])
    plain, full = _vectors(base, surface, terms)
    meaning = _svd(plain, seed)
    linear = np.empty((len(hints), labels.shape[1] + hints.shape[1]), dtype=np.float32)
    for fold in np.unique(folds):
        held = folds == fold
        heads, intercepts = _fit_heads(full[~held], labels[~held], hints[~held])
        linear[held] = full[held] @ heads + intercepts
    heads, intercepts = _fit_heads(full, labels, hints)
    fitted = Representation(
        columns=base.columns,
        weights=base.weights,
        surface_mean=base.surface_mean,
        surface_scale=base.surface_scale,
        meaning=meaning,
        heads=heads,
        intercepts=intercepts,
        tags=names,
        hints=hints.shape[1],
    )
    return fitted, *fitted.assemble(plain @ meaning, linear)


def _fit_terms(surface: Floats, terms: Any, tags: tuple[str, ...], hints: int) -> Representation:
    """Choose the terms and their weights; the rest is still empty."""
    import numpy as np

    frequencies = np.bincount(terms.indices, minlength=terms.shape[1])
    kept = np.flatnonzero(frequencies >= 2)
    if len(kept) > MAX_TERMS:
        kept = np.sort(kept[np.argsort(-frequencies[kept], kind="stable")[:MAX_TERMS]])
    columns = np.full(terms.shape[1], -1, dtype=np.int32)
    columns[kept] = np.arange(len(kept))
    nothing = np.zeros((0, 0), dtype=np.float32)
    return Representation(
        columns=columns,
        weights=(np.log((1 + terms.shape[0]) / (1 + frequencies[kept])) + 1).astype(np.float32),
        surface_mean=surface.mean(axis=0),
        surface_scale=surface.std(axis=0) + np.float32(1e-6),
        meaning=nothing,
        heads=nothing,
        intercepts=np.zeros(0, dtype=np.float32),
        tags=tags,
        hints=hints,
    )


def _scaled_surface(fitted: Representation, surface: Floats) -> Floats:
    import numpy as np

    scaled = (surface - fitted.surface_mean) / fitted.surface_scale
    bounded: Floats = (np.clip(scaled, -3, 3) / _SURFACE_SCALE).astype(np.float32)
    return bounded


def _vectors(fitted: Representation, surface: Floats, terms: Any) -> tuple[Any, Any]:
    """Weight, normalise and, in the second matrix, append the surface."""
    import numpy as np
    from scipy.sparse import csr_matrix, diags, hstack

    kept = np.flatnonzero(fitted.columns >= 0)
    weighted = terms[:, kept] @ diags(fitted.weights)
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    plain = csr_matrix(diags(1 / np.maximum(norms, 1e-9)) @ weighted, dtype=np.float32)
    return plain, hstack([plain, csr_matrix(_scaled_surface(fitted, surface))], format="csr")


def _svd(plain: Any, seed: int) -> Floats:
    import numpy as np
    from sklearn.utils.extmath import randomized_svd

    rank = min(MEANING, min(plain.shape) - 1)
    _, _, directions = randomized_svd(plain, rank, n_iter=2, random_state=seed)
    return np.ascontiguousarray(directions.T, dtype=np.float32)


def _fit_heads(full: Any, labels: Floats, hints: Floats) -> tuple[Floats, Floats]:
    """Fit the classifiers loosely and the regressions tightly: scores are far noisier than tags."""
    import numpy as np

    pairs = [ridge(full, hints, alpha=15.0, iterations=8)]
    if labels.shape[1]:
        pairs.insert(0, ridge(full, labels, alpha=0.4, iterations=12))
    weights = np.hstack([weight for weight, _ in pairs])
    return weights, np.concatenate([intercept for _, intercept in pairs])


def _tag_targets(tags: Sequence[str] | None, rows: int) -> tuple[tuple[str, ...], Floats]:
    """Return the names of the topics and their indicators, shape (n, topics).

    Tags of fewer than ten rows cannot be learnt; so many that they are rather names of rows
    than of kinds are no tags at all.
    """
    import numpy as np

    if tags is None:
        return (), np.zeros((rows, 0), dtype=np.float32)
    names, counts = np.unique(np.asarray(tags, dtype=str), return_counts=True)
    names = names[(counts >= _MIN_TAG_ROWS) & (names != "")]
    if not 2 <= len(names) <= _MAX_TAGS:
        return (), np.zeros((rows, 0), dtype=np.float32)
    labels = np.asarray(tags, dtype=str)[:, None] == names[None]
    return tuple(map(str, names)), labels.astype(np.float32)
