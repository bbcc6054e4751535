"""Graph algorithms on plain indices, shared by validation, repair and metrics.

A graph is `deps[i]` = the indices that node `i` waits for. All functions are iterative: a plan is
model output, and a chain of thousands of subtasks must not end in a RecursionError.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

__all__ = ["cycles", "dependents_of", "topological_order"]

Deps = Sequence[Sequence[int]]


def dependents_of(deps: Deps) -> list[list[int]]:
    """Turn the graph around: for each node the nodes that wait for it, in listing order."""
    dependents: list[list[int]] = [[] for _ in deps]
    for node, parents in enumerate(deps):
        for parent in parents:
            dependents[parent].append(node)
    return dependents


def topological_order(deps: Deps) -> list[int]:
    """Order the nodes so that each comes after what it waits for, by listing order where free.

    Nodes on a cycle, and nodes that wait for one, are left out.
    """
    waiting_for = [len(set(parents)) for parents in deps]
    dependents = [set(nodes) for nodes in dependents_of(deps)]
    ready = [node for node, count in enumerate(waiting_for) if count == 0]
    order: list[int] = []
    while ready:
        node = heapq.heappop(ready)
        order.append(node)
        for dependent in dependents[node]:
            waiting_for[dependent] -= 1
            if waiting_for[dependent] == 0:
                heapq.heappush(ready, dependent)
    return order


def cycles(deps: Deps) -> list[list[int]]:
    """Find the strongly connected components of more than one node (Tarjan, 1972).

    Returns:
        One sorted list of nodes a component, in listing order. Self edges do not count.
    """
    discovered: dict[int, int] = {}
    lowest: dict[int, int] = {}
    path: list[int] = []
    on_path: set[int] = set()
    found: list[list[int]] = []
    for root in range(len(deps)):
        if root in discovered:
            continue
        work = [(root, iter(deps[root]))]
        while work:
            node, parents = work[-1]
            if node not in discovered:
                discovered[node] = lowest[node] = len(discovered)
                path.append(node)
                on_path.add(node)
            for parent in parents:
                if parent not in discovered:
                    work.append((parent, iter(deps[parent])))
                    break
                if parent in on_path:
                    lowest[node] = min(lowest[node], discovered[parent])
            else:
                work.pop()
                if work:
                    caller = work[-1][0]
                    lowest[caller] = min(lowest[caller], lowest[node])
                if lowest[node] == discovered[node]:
                    found.append(_pop_component(path, on_path, node))
    return sorted(component for component in found if len(component) > 1)


def _pop_component(path: list[int], on_path: set[int], root: int) -> list[int]:
    """Take the finished component that starts at `root` off Tarjan's stack."""
    start = len(path) - 1
    while path[start] != root:
        start -= 1
    component = sorted(path[start:])
    del path[start:]
    on_path.difference_update(component)
    return component
