"""What is learnt on top of embeddings: their main directions, and regressions of both scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["EmbeddingBlock", "fit_embedding"]

_DIRECTIONS = 64
_ALPHA = 20.0
_ALIKE = 0.98  # cosine of one text by one model, perhaps on other hardware
_DIGITS = 3  # services answer the same text a little differently; no tree is to split on that


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingBlock:
    """Features of embeddings.

    Attributes:
        name: What the embeddings are called.
        probe: Shape (dimension,), the vector of a known text, by which they are recognised.
        mean: Shape (dimension,), of the vectors of length 1.
        directions: Shape (dimension, at most 64), where the vectors differ most.
        heads: Shape (dimension, 2), regressions of the edge's and the cloud's score.
        intercepts: Shape (2,).
    """

    name: str
    probe: Floats
    mean: Floats
    directions: Floats
    heads: Floats
    intercepts: Floats

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return len(self.mean)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in their order."""
        return (
            *(f"embedding {number + 1}" for number in range(self.directions.shape[1])),
            "edge right, by embedding",
            "cloud right, by embedding",
            "gain, by embedding",
        )

    def features(self, vectors: Floats) -> Floats:
        """Return the features of vectors of shape (n, dimension)."""
        unit = _unit(vectors)
        return _assembled((unit - self.mean) @ self.directions, unit @ self.heads + self.intercepts)

    def check(self, name: str, probe: Floats | None) -> None:
        """Refuse other embeddings than those that this was learnt from.

        Args:
            name: What they are called.
            probe: Their vector of the known text; `None` if it cannot be had.

        Raises:
            ConfigurationError: They are others.
        """
        if name != self.name:
            raise ConfigurationError(
                f"The router was trained with the embeddings {self.name}, and these are {name}. "
                f"Give it those, or train it again."
            )
        if probe is None:
            return
        if len(probe) != self.dimension:
            raise ConfigurationError(
                f"The router was trained on vectors of {self.dimension} numbers, and {name} "
                f"returns {len(probe)}. Train it again."
            )
        alike = float(_unit(probe[None])[0] @ _unit(self.probe[None])[0])
        if alike < _ALIKE:
            raise ConfigurationError(
                f"{name} is another model than the one of this name that the router was trained "
                f"with: a known text has another vector (cosine {alike:.2f}). Train it again."
            )


def fit_embedding(
    vectors: Floats,
    scores: Floats,
    *,
    name: str,
    probe: Floats,
    folds: NDArray[np.int64],
    seed: int,
) -> tuple[EmbeddingBlock, Floats]:
    """Learn what embeddings say of the scores.

    Args:
        vectors: Shape (n, dimension).
        scores: Shape (n, 2), those of the edge and of the cloud.
        name: What the embeddings are called.
        probe: The vector of a known text.
        folds: Shape (n,), the fold of each row; a group lies in one fold.
        seed: Seed of the search for directions.

    Returns:
        What was learnt, and the features of the training rows, made out-of-fold.
    """
    import numpy as np
    from sklearn.utils.extmath import randomized_svd

    unit = _unit(vectors)
    mean = unit.mean(axis=0)
    rank = min(_DIRECTIONS, min(unit.shape) - 1)
    _, _, found = randomized_svd(unit - mean, rank, n_iter=2, random_state=seed)
    linear = np.empty((len(unit), 2), dtype=np.float32)
    for fold in np.unique(folds):
        held = folds == fold
        heads, intercepts = _ridge(unit[~held], scores[~held])
        linear[held] = unit[held] @ heads + intercepts
    heads, intercepts = _ridge(unit, scores)
    block = EmbeddingBlock(
        name=name,
        probe=probe,
        mean=mean,
        directions=np.ascontiguousarray(found.T, dtype=np.float32),
        heads=heads,
        intercepts=intercepts,
    )
    return block, _assembled((unit - mean) @ block.directions, linear)


def _unit(vectors: Floats) -> Floats:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
    return unit


def _assembled(directions: Any, linear: Any) -> Floats:
    import numpy as np

    gain = linear[:, 1:] - linear[:, :1]
    return np.round(np.hstack([directions, linear, gain]), _DIGITS).astype(np.float32)


def _ridge(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    import numpy as np

    centre, mean = x.mean(axis=0), y.mean(axis=0)
    centred = (x - centre).astype(float)
    gram = centred.T @ centred + _ALPHA * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (y - mean)).astype(np.float32)
    return weights, (mean - centre @ weights).astype(np.float32)
