"""The prompts that the sandbox models read, as the graph and the planner write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.sandbox import SandboxChatModel

SubtaskPrompt = Callable[..., str]


def _subtask_prompt(
    question: str, subtask: Subtask, results: Mapping[str, str] | None = None
) -> str:
    parts = [f"Question:\n<question>\n{question}\n</question>"]
    if results:
        blocks = "\n".join(
            f'<result subtask="{name}">\n{text}\n</result>' for name, text in results.items()
        )
        parts.append(f"Results of earlier subtasks:\n{blocks}")
    parts.append(
        f'Your subtask:\n<subtask id="{subtask.id}" role="{subtask.role.value}">\n'
        f"{subtask.task}\n</subtask>"
    )
    return "\n\n".join(parts)


@pytest.fixture(scope="session")
def subtask_prompt() -> SubtaskPrompt:
    """Write the last human message of a subtask call: (question, subtask, results)."""
    return _subtask_prompt


@pytest.fixture(scope="session")
def planning_messages() -> Callable[[str], list[BaseMessage]]:
    """Write the messages of a planning call."""

    def write(question: str) -> list[BaseMessage]:
        return [
            SystemMessage('Write <Plan><Step ID="1" .../></Plan>.'),
            HumanMessage(f"<question>\n{question}\n</question>"),
        ]

    return write


@pytest.fixture(scope="session")
def run_plan() -> Callable[..., dict[str, str]]:
    """Run a plan, each subtask on the model that `model_for` names: (question, plan, model_for)."""

    def run(
        question: str, plan: Plan, model_for: Callable[[Subtask], SandboxChatModel]
    ) -> dict[str, str]:
        texts: dict[str, str] = {}
        for name in plan.order:
            subtask = plan[name]
            results = {needed: texts[needed] for needed in subtask.depends_on}
            prompt = _subtask_prompt(question, subtask, results)
            texts[name] = model_for(subtask).invoke(prompt).text
        return texts

    return run
