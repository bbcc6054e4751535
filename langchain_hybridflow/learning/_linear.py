"""Linear maps that are fitted in closed form: many ridge regressions at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ridge"]


def ridge(
    x: Any, y: NDArray[np.float32], *, alpha: float, iterations: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit one ridge regression for each column of y, all in one run of conjugate gradients.

    Stopping after a dozen steps is part of the regularisation. One product of the sparse matrix
    with all columns costs a fraction of as many products with one.

    Args:
        x: Shape (n, d), sparse.
        y: Shape (n, k).
        alpha: Strength of the penalty on the weights; the intercept has none.
        iterations: Steps of conjugate gradients.

    Returns:
        Weights of shape (d, k) and intercepts of shape (k,).
    """
    import numpy as np

    mean = y.mean(axis=0, dtype=np.float64).astype(np.float32)
    residual = np.asarray(x.T @ (y - mean), dtype=np.float32)
    weights = np.zeros_like(residual)
    direction = residual.copy()
    norms = (residual**2).sum(axis=0)
    for _ in range(iterations):
        image = x.T @ (x @ direction) + np.float32(alpha) * direction
        # A column that is solved has a direction of zero: it must stay where it is.
        step = norms / np.maximum((direction * image).sum(axis=0), 1e-12)
        weights += step * direction
        residual -= step * image
        new_norms = (residual**2).sum(axis=0)
        direction = residual + new_norms / np.maximum(norms, 1e-12) * direction
        norms = new_norms
    return weights, mean
