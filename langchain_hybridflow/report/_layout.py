"""Where the boxes and lines of a drawn plan go: a layered layout, in inches, without matplotlib.

The classic four steps (Sugiyama, Tagawa and Toda 1981): layers by longest path, a waypoint in each
layer that a long line passes, fewest crossings by barycentres and swaps, and coordinates as near
to the neighbours as the gaps allow. Long lines to the same subtask share their waypoints.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from langchain_hybridflow.plan import Plan

__all__ = ["BOX_HEIGHT", "BOX_WIDTH", "COMPACT", "Box", "Layout", "Line", "Sizes", "lay_out"]

BOX_WIDTH = 2.2
BOX_HEIGHT = 0.96
_MARGIN = 0.2
_PORTS_SHARE = 0.5  # how much of a box's side the ends of its lines may use
_SWEEPS = 12

# A node is a subtask's id, or a waypoint: (target's id, layer).
_Node = str | tuple[str, int]
_Layers = list[list[_Node]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large things are, in inches.

    Args:
        box_width: Of a subtask.
        box_height: Of a subtask.
        beside: Between the boxes of one layer.
        downward: Between layers, where the lines bend, if time goes down.
        rightward: Likewise, if time goes to the right.
    """

    box_width: float = BOX_WIDTH
    box_height: float = BOX_HEIGHT
    beside: float = 0.28
    downward: float = 0.5
    rightward: float = 0.7


_FULL = Sizes()
COMPACT = Sizes(box_width=0.5, box_height=0.24, beside=0.08, downward=0.36, rightward=0.5)
"""For plans of hundreds of subtasks: boxes that hold an id."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: its lower left corner and its size, in inches."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """Say whether the two share more than an edge."""
        beside = self.x + self.width <= other.x or other.x + other.width <= self.x
        return not (beside or self.y + self.height <= other.y or other.y + other.height <= self.y)


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of one or more dependencies, between two neighbouring layers.

    Args:
        dependencies: The pairs of dependency and dependent that it is part of.
        arrives: Whether it ends at the dependent.
        points: x and y in inches. Straight up to the last but one point, then a curve that leaves
            and arrives in the direction of time.
    """

    dependencies: frozenset[tuple[str, str]]
    arrives: bool
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawn plan in inches; the origin is the lower left corner.

    Args:
        width: Of the whole drawing.
        height: Of the whole drawing.
        downward: Whether time goes down; else it goes to the right.
        boxes: Box by subtask id.
        lines: All lines.
    """

    width: float
    height: float
    downward: bool
    boxes: Mapping[str, Box]
    lines: tuple[Line, ...]


def lay_out(plan: Plan, sizes: Sizes = _FULL) -> Layout:
    """Lay out a plan, downward or to the right, whichever is narrower.

    Args:
        plan: Any plan. Up to a dozen subtasks usually come out without a needless crossing.
        sizes: How large things are.
    """
    layers, edges = _layered(plan)
    layers = _uncrossed(layers, edges)
    both = (_placed(layers, edges, sizes, downward=downward) for downward in (True, False))
    return min(both, key=lambda layout: layout.width)


def _layered(plan: Plan) -> tuple[_Layers, dict[_Node, list[_Node]]]:
    """Return the layers, waypoints included, and for each node the nodes it leads to."""
    layer_of: dict[str, int] = {}
    for name in plan.order:
        before = [layer_of[parent] for parent in plan[name].depends_on]
        layer_of[name] = 1 + max(before, default=-1)
    layers: _Layers = [[] for _ in range(1 + max(layer_of.values()))]
    edges: dict[_Node, list[_Node]] = {}
    for name in plan.order:
        layers[layer_of[name]].append(name)
        edges[name] = []
    for name in plan.order:
        waypoints: dict[int, _Node] = {layer_of[name]: name}
        first = min((layer_of[parent] for parent in plan[name].depends_on), default=layer_of[name])
        for layer in range(layer_of[name] - 1, first, -1):
            waypoints[layer] = (name, layer)
            layers[layer].append((name, layer))
            edges[(name, layer)] = [waypoints[layer + 1]]
        for parent in plan[name].depends_on:
            edges[parent].append(waypoints[layer_of[parent] + 1])
    return layers, edges


def _uncrossed(layers: _Layers, edges: Mapping[_Node, Sequence[_Node]]) -> _Layers:
    """Reorder each layer so that few lines cross: sweeps down and up, the best one wins."""
    parents = _reversed(edges)
    best, fewest = layers, _crossings(layers, edges)
    current = [list(layer) for layer in layers]
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        neighbours = parents if down else edges
        numbers = range(1, len(layers)) if down else range(len(layers) - 2, -1, -1)
        for number in numbers:
            fixed = _places(current[number - 1 if down else number + 1])
            current[number].sort(key=lambda node, fixed=fixed: _mean(neighbours[node], fixed))  # type: ignore[misc]
        _swap_neighbours(current, parents, edges)
        if (crossings := _crossings(current, edges)) < fewest:
            best, fewest = [list(layer) for layer in current], crossings
    return best


def _swap_neighbours(
    layers: _Layers,
    parents: Mapping[_Node, Sequence[_Node]],
    edges: Mapping[_Node, Sequence[_Node]],
) -> None:
    """Swap adjacent nodes wherever their own lines then cross less."""
    place = {node: float(place) for layer in layers for place, node in enumerate(layer)}

    def gain(left: _Node, right: _Node) -> int:
        """How many crossings fewer there are when the two change places."""
        return sum(
            (place[one] > place[other]) - (place[one] < place[other])
            for ends in (parents, edges)
            for one in ends[left]
            for other in ends[right]
        )

    for layer in layers:
        for number in range(len(layer) - 1):
            left, right = layer[number : number + 2]
            if gain(left, right) > 0:
                layer[number : number + 2] = right, left
                place[left], place[right] = place[right], place[left]


def _crossings(layers: _Layers, edges: Mapping[_Node, Sequence[_Node]]) -> int:
    crossings = 0
    for upper, lower in pairwise(layers):
        place = _places(lower)
        ends: list[float] = []  # of the lines so far, which all start further left, or here
        for node in upper:
            mine = [place[target] for target in edges[node]]
            crossings += sum(len(ends) - bisect_right(ends, end) for end in mine)
            for end in mine:
                insort(ends, end)
    return crossings


def _positions(
    layers: _Layers, edges: Mapping[_Node, Sequence[_Node]], breadth: float, gap: float
) -> dict[_Node, float]:
    """Return the middle of each node across the layers, near its neighbours, without overlaps."""
    parents = _reversed(edges)
    across: dict[_Node, float] = {}
    for layer in layers:
        across.update(zip(layer, _spread(layer, [0.0] * len(layer), breadth, gap), strict=True))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            last = sweep >= _SWEEPS - 2
            wanted = []
            for node in layer:
                near = (parents if down else edges)[node]
                both = [*parents[node], *edges[node]]
                wanted.append(_mean(both if last or not near else near, across, across[node]))
            across.update(zip(layer, _spread(layer, wanted, breadth, gap), strict=True))
    return across


def _spread(
    layer: Sequence[_Node], wanted: Sequence[float], breadth: float, gap: float
) -> list[float]:
    """Return the places nearest to those wanted, in least squares, that keep order and gaps.

    Isotonic regression by pooling adjacent violators, after taking the gaps out.
    """
    offsets = [0.0]
    for left, right in pairwise(layer):
        offsets.append(offsets[-1] + (_half(left, breadth) + _half(right, breadth)) + gap)
    pools: list[tuple[float, int]] = []  # mean and size
    for place, offset in zip(wanted, offsets, strict=True):
        mean, size = place - offset, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean = (mean * size + other * count) / (size + count)
            size += count
        pools.append((mean, size))
    flat = [mean for mean, size in pools for _ in range(size)]
    return [place + offset for place, offset in zip(flat, offsets, strict=True)]


def _half(node: _Node, breadth: float) -> float:
    return breadth / 2 if isinstance(node, str) else 0.0


def _placed(
    layers: _Layers,
    edges: Mapping[_Node, Sequence[_Node]],
    sizes: Sizes,
    *,
    downward: bool,
) -> Layout:
    """Turn ordered layers into boxes and lines."""
    wide, high = sizes.box_width, sizes.box_height
    breadth, length = (wide, high) if downward else (high, wide)
    across = _positions(layers, edges, breadth, sizes.beside)
    low = min(place - _half(node, breadth) for node, place in across.items()) - _MARGIN
    top = max(place + _half(node, breadth) for node, place in across.items()) + _MARGIN
    step = length + (sizes.downward if downward else sizes.rightward)
    total = 2 * _MARGIN + (len(layers) - 1) * step + length
    begin = {node: _MARGIN + number * step for number, layer in enumerate(layers) for node in layer}

    def point(place: float, along: float) -> tuple[float, float]:
        """Time goes down or right; the first subtask of a layer is on the left or on top."""
        return (place - low, total - along) if downward else (along, top - place)

    boxes = {}
    for node, along in begin.items():
        if isinstance(node, str):
            x, y = point(across[node], along + length / 2)
            boxes[node] = Box(x - wide / 2, y - high / 2, wide, high)
    parents = _reversed(edges)
    leaving, arriving = _ports(edges, across, breadth), _ports(parents, across, breadth)
    lines = []
    for source, targets in edges.items():
        end_of_source = begin[source] + length
        passing = () if isinstance(source, str) else (point(across[source], begin[source]),)
        for target in targets:
            start = point(leaving[source, target], end_of_source)
            end = point(arriving[target, source], begin[target])
            lines.append(
                Line(
                    dependencies=_dependencies(source, target, parents),
                    arrives=isinstance(target, str),
                    points=(*passing, start, end),
                )
            )
    size = (top - low, total) if downward else (total, top - low)
    return Layout(*size, downward=downward, boxes=boxes, lines=tuple(lines))


def _dependencies(
    source: _Node, target: _Node, parents: Mapping[_Node, Sequence[_Node]]
) -> frozenset[tuple[str, str]]:
    """Return the dependencies that the line from one node to the next is part of."""
    dependent = target if isinstance(target, str) else target[0]
    if isinstance(source, str):
        return frozenset({(source, dependent)})
    return frozenset().union(
        *(_dependencies(before, source, parents) for before in parents[source])
    )


def _ports(
    edges: Mapping[_Node, Sequence[_Node]], across: Mapping[_Node, float], breadth: float
) -> dict[tuple[_Node, _Node], float]:
    """Return where each line touches its node, side by side in the order of the other ends."""
    ports: dict[tuple[_Node, _Node], float] = {}
    for node, others in edges.items():
        room = 2 * _half(node, breadth) * _PORTS_SHARE
        gap = min(room / max(len(others) - 1, 1), 0.35)
        ordered = sorted(others, key=across.__getitem__)
        for number, other in enumerate(ordered):
            shift = gap * (number - (len(others) - 1) / 2) if room else 0.0
            ports[node, other] = across[node] + shift
    return ports


def _reversed(edges: Mapping[_Node, Sequence[_Node]]) -> dict[_Node, list[_Node]]:
    back: dict[_Node, list[_Node]] = {node: [] for node in edges}
    for source, targets in edges.items():
        for target in targets:
            back[target].append(source)
    return back


def _places(layer: Sequence[_Node]) -> dict[_Node, float]:
    return {node: float(place) for place, node in enumerate(layer)}


def _mean(nodes: Iterable[_Node], places: Mapping[_Node, float], default: float = 0.0) -> float:
    found = [places[node] for node in nodes]
    return sum(found) / len(found) if found else default
