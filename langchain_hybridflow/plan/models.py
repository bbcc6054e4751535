"""The plan: a DAG of subtasks that is valid by construction."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from langchain_hybridflow.errors import PlanError
from langchain_hybridflow.plan._graph import topological_order
from langchain_hybridflow.plan.subtask import Subtask
from langchain_hybridflow.plan.validate import validate_subtasks

__all__ = ["Plan"]


class Plan(BaseModel):
    """A question taken apart: subtasks and who waits for whom (a DAG with one sink).

    A `Plan` that exists is valid; `validate_subtasks` has the rules. To read a plan that a model
    wrote, with its faults repaired, use `parse_plan`.

    Attributes:
        subtasks: In listing order; the first is the `explain`, if there is more than one.

    Raises:
        PlanError: The subtasks are not a valid plan; `.issues` lists every fault.
        pydantic.ValidationError: A subtask is not valid on its own.

    Example:
        >>> plan = Plan(
        ...     subtasks=[
        ...         Subtask(id="1", task="What is asked?", role="explain"),
        ...         Subtask(id="2", task="What does Ann pay?", depends_on=["1"]),
        ...         Subtask(id="3", task="What does Bob pay?", depends_on=["1"]),
        ...         Subtask(id="4", task="Who pays more?", role="generate", depends_on=["2", "3"]),
        ...     ]
        ... )
        >>> plan.order
        ('1', '2', '3', '4')
        >>> plan.sink.id, plan.dependents("1"), sorted(plan.ancestors("4"))
        ('4', ('2', '3'), ['1', '2', '3'])
        >>> Plan.model_validate(plan.model_dump(mode="json")) == plan
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subtasks: tuple[Subtask, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if issues := validate_subtasks(self.subtasks):
            raise PlanError("This is not a valid plan:", issues)
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the plan; other than pydantic's own, a changed copy is checked like a new plan.

        Raises:
            PlanError: The changed copy would not be a valid plan.
        """
        if update:
            return type(self).model_validate({"subtasks": self.subtasks, **update})
        return super().model_copy(deep=deep)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """All ids, each after what it depends on, in listing order where that leaves a choice."""
        index = {subtask.id: position for position, subtask in enumerate(self.subtasks)}
        deps = [[index[dep] for dep in subtask.depends_on] for subtask in self.subtasks]
        return tuple(self.subtasks[node].id for node in topological_order(deps))

    @property
    def sink(self) -> Subtask:
        """The `generate` subtask, whose answer is the final answer."""
        return self[self.order[-1]]

    def dependents(self, subtask_id: str) -> tuple[str, ...]:
        """Ids of the subtasks that need this one's answer, in listing order.

        Raises:
            KeyError: The plan has no such subtask.
        """
        self[subtask_id]
        return self._dependents[subtask_id]

    def ancestors(self, subtask_id: str) -> frozenset[str]:
        """Ids of all subtasks that this one waits for, directly or through others.

        Raises:
            KeyError: The plan has no such subtask.
        """
        found: set[str] = set()
        to_visit = list(self[subtask_id].depends_on)
        while to_visit:
            if (ancestor := to_visit.pop()) not in found:
                found.add(ancestor)
                to_visit.extend(self[ancestor].depends_on)
        return frozenset(found)

    def __getitem__(self, subtask_id: str) -> Subtask:
        """Get a subtask by its id.

        Raises:
            KeyError: The plan has no such subtask.
        """
        return self._by_id[subtask_id]

    def __contains__(self, subtask_id: object) -> bool:
        return subtask_id in self._by_id

    def __len__(self) -> int:
        return len(self.subtasks)

    def _repr_html_(self) -> str:
        from langchain_hybridflow.plan.render import to_html

        return to_html(self)

    @cached_property
    def _by_id(self) -> dict[str, Subtask]:
        return {subtask.id: subtask for subtask in self.subtasks}

    @cached_property
    def _dependents(self) -> dict[str, tuple[str, ...]]:
        dependents: dict[str, list[str]] = {subtask.id: [] for subtask in self.subtasks}
        for subtask in self.subtasks:
            for dep in subtask.depends_on:
                dependents[dep].append(subtask.id)
        return {subtask_id: tuple(ids) for subtask_id, ids in dependents.items()}
