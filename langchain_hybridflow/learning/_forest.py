"""A forest as a few arrays, which answers one request in microseconds.

scikit-learn's trees are as fast, but reaching them costs milliseconds of checks and threads for
one row. Here all trees take one step down at a time, for all rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int32]

__all__ = ["FlatForest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatForest:
    """All nodes of all trees in a row; the children of a leaf are the leaf itself.

    Attributes:
        roots: Shape (trees,), the index of each root.
        features: Shape (nodes,), which feature a node asks about.
        thresholds: Shape (nodes,), the row goes left when its feature is not above.
        children: Shape (2 * nodes,), left and right child of node i at 2 i and 2 i + 1.
        values: Shape (nodes, outputs), the mean target of the training rows in a node.
        depth: Steps from any root to its deepest leaf.
    """

    roots: Ints
    features: Ints
    thresholds: Floats
    children: Ints
    values: Floats
    depth: int

    @classmethod
    def compile(cls, forest: Any) -> FlatForest:
        """Flatten a fitted forest of scikit-learn; outputs beyond the second are dropped."""
        import numpy as np

        trees = [estimator.tree_ for estimator in forest.estimators_]
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        children = []
        for root, tree in zip(roots, trees, strict=True):
            own = np.arange(tree.node_count)
            leaf = tree.children_left < 0
            left = np.where(leaf, own, tree.children_left)
            right = np.where(leaf, own, tree.children_right)
            children.append(np.stack([left, right], axis=1).ravel() + root)
        return cls(
            roots=roots.astype(np.int32),
            features=np.concatenate([np.maximum(t.feature, 0) for t in trees]).astype(np.int32),
            thresholds=np.concatenate([_float32_below(t.threshold) for t in trees]),
            children=np.concatenate(children).astype(np.int32),
            values=np.concatenate([t.value[:, :2, 0] for t in trees]).astype(np.float32),
            depth=max(tree.max_depth for tree in trees),
        )

    def predict(self, rows: Floats) -> NDArray[np.float64]:
        """Return the mean leaf values, shape (n, outputs), of rows of shape (n, features)."""
        import numpy as np

        total = np.empty((len(rows), self.values.shape[1]))
        for start in range(0, len(rows), 64):  # 64 rows x 300 trees stay in the cache
            part = rows[start : start + 64]
            leaves = self._leaves(part)
            total[start : start + 64] = self.values[leaves].mean(axis=1, dtype=np.float64)
        return total

    def _leaves(self, rows: Floats) -> Ints:
        import numpy as np

        count, width = rows.shape
        flat = np.ascontiguousarray(rows, dtype=np.float32).ravel()
        offsets = (np.arange(count, dtype=np.int32) * width)[:, None]
        nodes = np.broadcast_to(self.roots, (count, len(self.roots)))
        for _ in range(self.depth):
            right = flat.take(self.features.take(nodes) + offsets) > self.thresholds.take(nodes)
            nodes = self.children.take(2 * nodes + right)
        return nodes

    def contributions(self, row: Floats) -> tuple[Floats, NDArray[np.float64]]:
        """Say what each feature of one row adds to the outputs.

        Every step down a tree changes the mean target from that of the node to that of its
        child; the change is put down to the feature that the node asks about. The sum of all
        contributions and the mean of the roots is the prediction, exactly.

        Args:
            row: Shape (features,).

        Returns:
            The mean of the roots, shape (outputs,), and contributions, shape (features, outputs).
        """
        import numpy as np

        added = np.zeros((len(row), self.values.shape[1]))
        nodes = self.roots
        for _ in range(self.depth):
            asked = self.features.take(nodes)
            right = np.asarray(row, dtype=np.float32).take(asked) > self.thresholds.take(nodes)
            below = self.children.take(2 * nodes + right)
            np.add.at(added, asked, self.values[below] - self.values[nodes])
            nodes = below
        return self.values[self.roots].mean(axis=0), added / len(self.roots)


def _float32_below(thresholds: NDArray[np.float64]) -> Floats:
    """Round to float32 so that `x > threshold` keeps its truth for every float32 x."""
    import numpy as np

    rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    return np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded)
