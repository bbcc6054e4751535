"""`Run`: what came of one question, as it is saved, compared and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError

from langchain_hybridflow.errors import InputError, PlanError
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.report._outputs import FORMAT, VERSION, cleaned, fields_of
from langchain_hybridflow.report.records import (
    FROZEN,
    Planning,
    Seconds,
    SubtaskRun,
    TierTotals,
)

__all__ = ["Run"]


class Run(BaseModel):
    """What came of one question: the plan, who answered what and why, times and costs.

    In a notebook it shows itself. `hybridflow report` makes a page of one or more of them.

    Attributes:
        question: The question, if it is known.
        answer: The answer.
        label: Name of the run, or of the group it belongs to.
        score: How good the answer is, 0 to 1, if somebody said so.
        started_at: When it began, in seconds since the epoch.
        complete: Whether the last subtask has an answer.
        plan: The plan as it was run.
        planning: How it came about.
        subtasks: One for each subtask, in topological order.
        edge: What the edge did, planning included.
        cloud: Likewise.
        critical_path: Ids along the path that no parallelism could have shortened.
        critical_path_s: How long that took, in seconds.
        makespan_s: Seconds from the first ready subtask to the end.

    Example:
        >>> from langchain_hybridflow import HybridFlowGraph, RoutedChatModel
        >>> from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
        >>> model = RoutedChatModel(
        ...     edge=sandbox_edge(time_scale=0), cloud=sandbox_cloud(time_scale=0)
        ... )
        >>> out = HybridFlowGraph(model).compile().invoke({"messages": [("user", "Why?")]})
        >>> run = Run.of(out, label="first try", score=1)
        >>> run.question, len(run.subtasks), run.score
        ('Why?', 1, 1.0)
        >>> Run.from_json(run.to_json()) == run
        True
    """

    model_config = FROZEN

    question: str = ""
    answer: str = ""
    label: str = ""
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    started_at: float | None = None
    complete: bool
    plan: Plan
    planning: Planning = Planning()
    subtasks: tuple[SubtaskRun, ...]
    edge: TierTotals = TierTotals()
    cloud: TierTotals = TierTotals()
    critical_path: tuple[str, ...] = ()
    critical_path_s: Seconds = 0.0
    makespan_s: Seconds = 0.0

    # ------------------------------------------------------------------ made, saved, loaded

    @classmethod
    def of(
        cls,
        out: Mapping[str, Any],
        *,
        question: str | None = None,
        label: str = "",
        score: float | None = None,
    ) -> Self:
        """Make a run from what a `HybridFlowGraph` returned, or from its state.

        Args:
            out: The output of `invoke`, or the values of `get_state`.
            question: The question; by default it is looked for in the messages.
            label: Name of the run, or of the group it belongs to.
            score: How good the answer is, 0 to 1; `None` is unknown.

        Raises:
            InputError: It is no output of a finished run.
        """
        fields = fields_of(out)
        given = {"label": label, "score": score}
        return cls._made(fields | given | ({} if question is None else {"question": question}))

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Make a run from what `to_json`, `hybridflow ask --json` or a graph gave.

        Raises:
            InputError: It is nothing of the kind, or of a newer version.
        """
        if not isinstance(value, Mapping):
            raise InputError(f"A run is a JSON object, not {type(value).__name__}.")
        if value.get("format") != FORMAT:
            return cls._made(fields_of(value))
        version = value.get("version")
        if version != VERSION:
            shown = version if isinstance(version, int) else "unknown"
            raise InputError(
                f"This run is of version {shown}, and this is a program for version {VERSION}. "
                f"Use the langchain-hybridflow that has saved it, or newer."
            )
        return cls._made(value)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; USD as text."""
        return {"format": FORMAT, "version": VERSION, **self.model_dump(mode="json")}

    def save(self, path: str | Path) -> None:
        """Write the run as JSON; a file whose name ends in .jsonl gets a line more.

        Raises:
            OSError: The file cannot be written.
        """
        path = Path(path)
        if path.suffix == ".jsonl":
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.to_json()) + "\n")
        else:
            path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a run that was saved as JSON.

        Raises:
            InputError: The file cannot be read, or holds none, or more than one.
        """
        from langchain_hybridflow.report.reading import load_runs

        runs = load_runs(path)
        if len(runs) != 1:
            raise InputError(f"{path} holds {len(runs)} runs, not one; use load_runs.")
        return cls.model_validate(runs[0].model_dump())

    @classmethod
    def _made(cls, fields: Mapping[str, Any]) -> Self:
        try:
            run = cls.model_validate(cleaned(fields))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(f"This is not a run: {where}: {first['msg']}.") from error
        except PlanError as error:
            raise InputError(f"This is not a run. {error}") from error
        if [one.id for one in run.subtasks] != list(run.plan.order):
            raise InputError("This is not a run: its subtasks are not those of its plan.")
        return run

    # ------------------------------------------------------------------ read

    @property
    def cost_usd(self) -> Decimal | None:
        """What the run cost, planning included; `None` if a price is unknown."""
        if self.edge.cost_usd is None or self.cloud.cost_usd is None:
            return None
        return self.edge.cost_usd + self.cloud.cost_usd

    @property
    def seconds(self) -> float:
        """Seconds from its beginning, planning included, to its end."""
        return max(one.end_s for one in self.subtasks)

    @property
    def tokens(self) -> int:
        """Tokens of all calls, planning included."""
        tiers = (self.edge, self.cloud)
        return sum(tier.input_tokens + tier.output_tokens for tier in tiers)

    @property
    def cloud_share(self) -> float:
        """Share of the answered subtasks that the cloud answered, 0 to 1."""
        answered = [one.tier for one in self.subtasks if one.status == "ok"]
        return answered.count("cloud") / len(answered) if answered else 0.0

    def __getitem__(self, subtask_id: str) -> SubtaskRun:
        """Get what became of a subtask.

        Raises:
            KeyError: The plan has no such subtask.
        """
        for one in self.subtasks:
            if one.id == subtask_id:
                return one
        raise KeyError(subtask_id)

    def __repr__(self) -> str:
        cost = "cost unknown" if self.cost_usd is None else f"{self.cost_usd} USD"
        label = f"{self.label!r}: " if self.label else ""
        return f"<Run {label}{len(self.subtasks)} subtasks, {self.seconds:.1f} s, {cost}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        from langchain_hybridflow.report.notebook import run_html

        return run_html(self)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
