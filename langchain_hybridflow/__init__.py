"""Hard questions, answered by a cheap edge model and an expensive cloud model under a hard budget.

```python
from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel

model = RoutedChatModel(edge=..., cloud=..., budget=Budget(limit_usd=0.05))
graph = HybridFlowGraph(model).compile()
graph.invoke({"messages": [("user", "...")]})["answer"]
```

Importing the package loads none of its parts, and no LangChain: each public name is loaded
when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_hybridflow.budget import Budget, Limits, Price, Scope, Window
    from langchain_hybridflow.calls import Breaker
    from langchain_hybridflow.chat_models import RoutedChatModel
    from langchain_hybridflow.errors import HybridFlowError
    from langchain_hybridflow.graph import HybridFlowGraph
    from langchain_hybridflow.plan import Plan, Subtask
    from langchain_hybridflow.routing import RouteDecision

__all__ = [
    "Breaker",
    "Budget",
    "HybridFlowError",
    "HybridFlowGraph",
    "Limits",
    "Plan",
    "Price",
    "RouteDecision",
    "RoutedChatModel",
    "Scope",
    "Subtask",
    "Window",
]

_HOME_OF = {
    "Breaker": "calls",
    "Budget": "budget",
    "HybridFlowError": "errors",
    "HybridFlowGraph": "graph",
    "Limits": "budget",
    "Plan": "plan",
    "Price": "budget",
    "RouteDecision": "routing",
    "RoutedChatModel": "chat_models",
    "Scope": "budget",
    "Subtask": "plan",
    "Window": "budget",
}


if not TYPE_CHECKING:  # a type checker that saw this would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value  # the next look-up does not come here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
