"""A forest as a few arrays, which answers one request in microseconds.

scikit-learn's trees are as fast, but reaching them costs milliseconds of checks and threads for
one row. Here all trees take one step down at a time, for all rows at once; the upper levels of
all trees lie side by side, where the processor has them at hand, and whoever is at a leaf leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int32]
    Indices = NDArray[np.intp]

__all__ = ["FlatForest"]

_ROWS_AT_ONCE = 128  # times 300 trees stay in the cache
_FIRST_LEAVES = 7  # steps down after which a good part has reached its leaf
_STEPS_BETWEEN = 3  # sorting out who has costs half a step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """The nodes level by level, those of all trees together; siblings are neighbours.

    Attributes:
        features: Shape (nodes,).
        thresholds: Shape (nodes,), infinite at a leaf, so that its step leads nowhere else.
        left: Shape (nodes,), the left child, or the leaf itself; the right child is the next.
        values: Shape (outputs, nodes).
    """

    features: Indices
    thresholds: Floats
    left: Indices
    values: Floats


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

    Raises:
        ValueError: The nodes are no trees.
    """

    roots: Ints
    features: Ints
    thresholds: Floats
    children: Ints
    values: Floats
    depth: int
    _walk: _Walk = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_walk", _walk(self))

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
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            leaves = self._leaves(part)
            for output, values in enumerate(self._walk.values):
                total[start : start + len(part), output] = values.take(leaves).mean(
                    axis=1, dtype=np.float64
                )
        return total

    def _leaves(self, rows: Floats) -> Indices:
        """Return where on the walk each row ends in each tree, shape (n, trees)."""
        import numpy as np

        walk, (count, width), trees = self._walk, rows.shape, len(self.roots)
        flat = np.ascontiguousarray(rows, dtype=np.float32).ravel()
        offsets = np.repeat(np.arange(count) * width, trees)
        nodes = np.tile(np.arange(trees), count)
        leaves, going = np.empty_like(nodes), np.arange(len(nodes))
        for step in range(self.depth):
            if step >= _FIRST_LEAVES and (step - _FIRST_LEAVES) % _STEPS_BETWEEN == 0:
                leaves[going] = nodes
                more = np.flatnonzero(walk.left.take(nodes) != nodes)
                nodes, going, offsets = nodes.take(more), going.take(more), offsets.take(more)
            asked = walk.features.take(nodes)
            asked += offsets
            right = flat.take(asked) > walk.thresholds.take(nodes)
            nodes = walk.left.take(nodes)
            nodes += right
        leaves[going] = nodes
        return leaves.reshape(count, trees)

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


def _walk(forest: FlatForest) -> _Walk:
    import numpy as np

    count = len(forest.features)
    left, right = forest.children[::2].astype(np.intp), forest.children[1::2].astype(np.intp)
    if not len(forest.thresholds) == len(forest.values) == len(left) == len(right) == count:
        raise ValueError("The arrays of a forest differ in length.")
    level, levels, found = forest.roots.astype(np.intp), [], 0
    while len(level) and found < count:
        if level.min() < 0 or level.max() >= count:
            raise ValueError("A node of a forest has a child that is not there.")
        levels.append(level)
        found += len(level)
        inner = level[left[level] != level]
        level = np.stack([left[inner], right[inner]], axis=1).ravel()
    order = np.concatenate([*levels, level])
    places = np.full(count, -1)
    places[order[:count]] = np.arange(len(order[:count]))
    if len(order) != count or places.min() < 0:
        raise ValueError("The nodes of a forest are no trees.")
    leaf = left[order] == order
    return _Walk(
        features=np.where(leaf, 0, forest.features[order]).astype(np.intp),
        thresholds=np.where(leaf, np.inf, forest.thresholds[order]).astype(np.float32),
        left=np.where(leaf, np.arange(count), places[left[order]]).astype(np.intp),
        values=np.ascontiguousarray(forest.values[order].T),
    )


def _float32_below(thresholds: NDArray[np.float64]) -> Floats:
    """Round to float32 so that `x > threshold` keeps its truth for every float32 x."""
    import numpy as np

    rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    return np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded)
