"""`templates/studio-agent`, copied out of the repository and served by the real `langgraph dev`.

What LangGraph Studio does is done here by its own means: the server's HTTP interface, through
langgraph-sdk and `RemoteGraph`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from starlette.applications import Starlette

from langchain_hybridflow.sandbox import sandbox_cloud
from langchain_hybridflow.sandbox.server import create_app, running_server
from tests.integration.studio_server import (
    Studio,
    add_blocking_graph,
    copied_template,
    running_studio,
    template_environ,
)

QUESTION = (
    "On 13 April 2025 the plans for the harbour are approved; 15 days after that the work starts. "
    "It takes the Plumbing team 9 weeks and another 4 days, counted from the start of work. It "
    "takes the Garden team 5 weeks and another 3 days, counted from the start of work. Only 7 days "
    "after the start of work the Kitchen team is done. On which date is everything done?"
)
ANSWER = "Answer: 2025-07-04"
ASKED = {"messages": [{"role": "user", "content": QUESTION}]}
SCHEDULE = [
    "explain_start",
    "analyze_plumbing",
    "analyze_garden",
    "analyze_kitchen",
    "generate_end",
]
MODES = (
    *("values", "updates", "messages", "messages-tuple", "custom", "debug", "events"),
    *("tasks", "checkpoints"),
)


@pytest.fixture(scope="module")
def remote_cloud() -> Iterator[tuple[str, Starlette]]:
    """A cloud model behind an OpenAI-compatible server, which knows how often it was asked."""
    app = create_app({"sandbox-cloud": sandbox_cloud(time_scale=0)})
    with running_server(app) as url:
        yield f"{url}#sandbox-cloud", app


@pytest.fixture(scope="module")
def server(
    environment: Callable[[str], Path],
    remote_cloud: tuple[str, Starlette],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Studio]:
    copied = copied_template(
        tmp_path_factory.mktemp("studio"),
        env={
            "CLOUD_MODELS": f"sandbox,{remote_cloud[0]},openai:gpt-4.1",
            "LIMIT_USD": "2",
            "BUDGET_STORE": "sqlite:///budget.db",
            "SANDBOX_TIME_SCALE": "0.02",
        },
    )
    add_blocking_graph(copied)
    with running_studio(environment("studio"), copied) as studio:
        yield studio


@pytest.fixture
def studio(server: Studio) -> Iterator[Studio]:
    """The server; whatever a test does, its event loop is never blocked."""
    before = server.log.stat().st_size
    yield server
    said = server.log.read_bytes()[before:].decode()
    assert "BlockingError" not in said
    assert "Blocking call" not in said


@pytest.fixture
async def client(studio: Studio) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=studio.url) as client:
        yield client


@pytest.fixture
async def thread(client: LangGraphClient) -> str:
    return str((await client.threads.create())["thread_id"])


async def assistant_id(client: LangGraphClient, graph: str) -> str:
    return str((await client.assistants.search(graph_id=graph))[0]["assistant_id"])


def shape(drawn: Any) -> tuple[set[str], set[tuple[str, str]], set[tuple[str, str]]]:
    """The nodes, the edges that are always taken, and those that may be."""
    nodes = {node["id"] for node in drawn["nodes"]}
    edges = {True: set(), False: set()}
    for edge in drawn["edges"]:
        edges[bool(edge.get("conditional"))].add((edge["source"], edge["target"]))
    return nodes, edges[False], edges[True]


def tiers(out: Any) -> dict[str, str]:
    return {key: record["tier"] for key, record in out["results"].items()}


# ---------------------------------------------------------------------------- what Studio draws


async def test_agent_is_drawn_as_planner_and_subtasks(client: LangGraphClient) -> None:
    drawn = await client.assistants.get_graph(await assistant_id(client, "agent"))
    nodes, always, maybe = shape(drawn)
    assert nodes == {"__start__", "dispatch", "plan", "subtask", "answer", "__end__"}
    assert always == {("__start__", "dispatch"), ("plan", "answer"), ("subtask", "answer")}
    assert maybe == {
        ("dispatch", "plan"),
        ("dispatch", "subtask"),
        ("answer", "subtask"),
        ("answer", "__end__"),
    }


async def test_schedule_is_drawn_as_its_plan(client: LangGraphClient) -> None:
    drawn = await client.assistants.get_graph(await assistant_id(client, "schedule"))
    nodes, always, maybe = shape(drawn)
    assert nodes == {"__start__", "dispatch", *SCHEDULE, "answer", "__end__"}
    first, *middle, last = SCHEDULE
    assert always == {("__start__", "dispatch"), (last, "answer")}
    assert maybe == {
        ("dispatch", first),
        *((first, team) for team in middle),
        *((team, last) for team in middle),
        ("answer", "__end__"),
    }


@pytest.mark.parametrize(("graph", "node"), [("agent", "subtask"), ("schedule", "generate_end")])
async def test_xray_shows_route_edge_and_cloud_inside(
    client: LangGraphClient, graph: str, node: str
) -> None:
    drawn = await client.assistants.get_graph(await assistant_id(client, graph), xray=True)
    _, _, maybe = shape(drawn)
    ways = {("route", "edge"), ("route", "cloud"), ("edge", "cloud"), ("edge", "verify")}
    assert {(f"{node}:{one}", f"{node}:{other}") for one, other in ways} <= maybe


async def test_form_has_choices_defaults_and_words(client: LangGraphClient) -> None:
    schemas = await client.assistants.get_schemas(await assistant_id(client, "agent"))
    fields = schemas["context_schema"]["properties"]
    assert fields["cloud"]["enum"][0] == fields["cloud"]["default"] == "sandbox"
    assert len(fields["cloud"]["enum"]) == 3
    assert fields["edge"]["enum"] == ["sandbox"]
    assert fields["router"]["enum"] == ["difficulty", "threshold", "always-edge", "always-cloud"]
    assert (fields["limit_usd"]["minimum"], fields["limit_usd"]["maximum"]) == (0, 2)
    assert fields["on_exhausted"]["enum"] == ["edge", "ask", "raise"]
    assert fields["approve_cloud"]["type"] == "boolean"
    assert all(field["description"] and "default" in field for field in fields.values())
    assert not any("anyOf" in field or "$ref" in field for field in fields.values())
    assert list(schemas["input_schema"]["properties"]) == ["messages"]  # so it can chat


# ---------------------------------------------------------------------------- what Studio runs


@pytest.mark.parametrize("mode", MODES)
async def test_run_streams_in_every_mode(client: LangGraphClient, thread: str, mode: Any) -> None:
    seen = [
        event.event
        async for event in client.runs.stream(thread, "schedule", input=ASKED, stream_mode=mode)
    ]
    kind = "messages" if mode == "messages-tuple" else mode
    assert seen[0] == "metadata"
    assert {event.partition("/")[0] for event in seen[1:]} == {kind}
    state = await client.threads.get_state(thread)
    assert state["values"]["answer"].endswith(ANSWER)
    assert state["values"]["messages"][-1]["content"] == state["values"]["answer"]


async def test_run_streams_in_all_modes_at_once(client: LangGraphClient, thread: str) -> None:
    modes: Any = [mode for mode in MODES if mode != "messages-tuple"]
    stream = client.runs.stream(
        thread, "agent", input=ASKED, stream_mode=modes, stream_subgraphs=True
    )
    seen = {event.event.partition("|")[0].partition("/")[0] async for event in stream}
    assert seen == {"metadata", *modes}


async def test_chat_streams_the_answer_alone_and_in_pieces(
    client: LangGraphClient, thread: str
) -> None:
    pieces, nodes = [], set()
    async for event in client.runs.stream(
        thread, "agent", input=ASKED, stream_mode="messages-tuple"
    ):
        if event.event == "messages":
            message, metadata = event.data
            pieces.append(message)
            nodes.add((metadata["langgraph_node"], metadata["hybridflow_role"]))
    last = (await client.threads.get_state(thread))["values"]["messages"][-1]
    assert {(one["type"], one["id"]) for one in pieces} == {("AIMessageChunk", last["id"])}
    assert "".join(one["content"] for one in pieces) == last["content"]
    assert len(pieces) > 10
    assert nodes == {("subtask", "generate")}


async def test_chat_with_subgraphs_says_which_subtask_is_heard(
    client: LangGraphClient, thread: str
) -> None:
    heard = {}
    async for event in client.runs.stream(
        thread, "schedule", input=ASKED, stream_mode="messages-tuple", stream_subgraphs=True
    ):
        if event.event.startswith("messages"):
            metadata = event.data[1]
            heard[metadata["hybridflow_subtask"]] = event.event.partition("|")[2].partition(":")[0]
    nodes = dict(zip(["start", "plumbing", "garden", "kitchen"], SCHEDULE[:4], strict=True))
    assert heard == {**nodes, "end": ""}


async def test_conversation_goes_on_in_its_thread(client: LangGraphClient, thread: str) -> None:
    await client.runs.wait(thread, "agent", input=ASKED)
    more = {"messages": [{"role": "user", "content": "What is 12 * 14?"}]}
    out = await client.runs.wait(thread, "agent", input=more)
    assert [message["type"] for message in out["messages"]] == ["human", "ai", "human", "ai"]


async def test_thread_tells_what_each_subtask_gave(client: LangGraphClient, thread: str) -> None:
    order = []
    async for event in client.runs.stream(thread, "schedule", input=ASKED, stream_mode="updates"):
        if event.event == "updates":
            order += [name for name in event.data if name in SCHEDULE]
    assert (order[0], order[-1], sorted(order)) == (SCHEDULE[0], SCHEDULE[-1], sorted(SCHEDULE))
    history = await client.threads.get_history(thread)
    wave = next(one for one in history if "generate_end" in one["next"])
    gave = {task["name"]: list(task["result"]["results"]) for task in wave["tasks"]}
    assert gave == {name: [name.partition("_")[2]] for name in SCHEDULE}
    assert [one["next"] for one in history][:2] == [[], ["answer"]]


@pytest.mark.parametrize("graph", ["agent", "schedule"])
async def test_remote_graph_stands_where_the_graph_stood(studio: Studio, graph: str) -> None:
    async with get_client(url=studio.url) as client:
        remote = RemoteGraph(graph, client=client)
        config, other = [
            {"configurable": {"thread_id": (await client.threads.create())["thread_id"]}}
            for _ in range(2)
        ]
        out = await remote.ainvoke(ASKED, other, context={"router": "always-edge"})
        assert set(tiers(out).values()) == {"edge"}
        modes = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]
        seen = [
            (space, mode)
            async for space, mode, _ in remote.astream(
                ASKED, config, stream_mode=modes, subgraphs=True
            )
        ]
        assert {mode for _, mode in seen} >= set(modes)
        assert any(space for space, _ in seen)
        state = await remote.aget_state(config)
        assert state.values["answer"].endswith(ANSWER)
        assert "dispatch" in (await remote.aget_graph()).nodes


# ---------------------------------------------------------------------------- the form takes effect


async def test_form_decides_who_answers_and_what_it_may_cost(client: LangGraphClient) -> None:
    cheap = {"router": "always-edge"}
    tight = {"router": "always-cloud", "limit_usd": 0.01}  # one call at a time, at its worst
    dear = {"router": "always-cloud", "limit_usd": 0.5}
    threads = [(await client.threads.create())["thread_id"] for _ in range(3)]
    outs = await asyncio.gather(
        *(
            client.runs.wait(thread, "schedule", input=ASKED, context=context)
            for thread, context in zip(threads, (cheap, tight, dear), strict=True)
        )
    )
    spent = [Decimal(out["report"]["totals"]["cost_usd"]) for out in outs]
    assert set(tiers(outs[0]).values()) == {"edge"}
    assert set(tiers(outs[1]).values()) == {"edge", "cloud"}
    assert set(tiers(outs[2]).values()) == {"cloud"}
    assert spent[0] == 0 < spent[1] < spent[2]
    assert spent[1] <= Decimal("0.01")
    assert [out["report"]["degraded"] for out in outs] == [False, True, False]
    # They were at work at the same time.
    begun = [min(one["ready_at"] for one in out["results"].values()) for out in outs]
    ended = [max(one["ended_at"] for one in out["results"].values()) for out in outs]
    assert max(begun) < min(ended)


async def test_model_behind_a_server_is_chosen_and_paid(
    client: LangGraphClient, thread: str, remote_cloud: tuple[str, Starlette]
) -> None:
    spec, app = remote_cloud
    before = len(app.state.log)
    context = {"router": "always-cloud", "cloud": spec}
    out = await client.runs.wait(thread, "schedule", input=ASKED, context=context)
    assert len(app.state.log) - before == len(SCHEDULE)
    assert {one["model"] for one in out["results"].values()} == {"sandbox-cloud"}
    assert out["report"]["totals"]["cloud"]["cost_usd"] != "0"


async def test_assistant_keeps_a_filled_form(client: LangGraphClient, thread: str) -> None:
    saved = await client.assistants.create("agent", context={"router": "always-edge"}, name="Free")
    out = await client.runs.wait(thread, saved["assistant_id"], input=ASKED)
    assert set(tiers(out).values()) == {"edge"}


# ---------------------------------------------------------------------------- a person is asked


async def test_cloud_calls_are_approved_by_hand_and_paid_once(
    client: LangGraphClient, thread: str, remote_cloud: tuple[str, Starlette]
) -> None:
    spec, app = remote_cloud
    before = len(app.state.log)
    context = {"router": "always-cloud", "approve_cloud": True, "cloud": spec}
    out = await client.runs.wait(thread, "schedule", input=ASKED, context=context)
    waves = []
    while asked := await questions(client, thread):
        waves.append(sorted(one["value"]["subtask_id"] for one in asked))
        made = len(app.state.log) - before
        answers = {one["id"]: {"approve": one["value"]["subtask_id"] != "garden"} for one in asked}
        out = await client.runs.wait(
            thread, "schedule", command={"resume": answers}, context=context
        )
        assert len(app.state.log) - before == made + sum(
            answer["approve"] for answer in answers.values()
        )
    assert waves == [["start"], ["garden", "kitchen", "plumbing"], ["end"]]
    assert {key for key, tier in tiers(out).items() if tier == "edge"} == {"garden"}
    assert out["report"]["totals"]["cloud"]["calls"] == 4


async def questions(client: LangGraphClient, thread: str) -> list[dict[str, Any]]:
    state = await client.threads.get_state(thread)
    return [one for task in state["tasks"] for one in task["interrupts"]]


async def test_subtask_that_waits_shows_its_own_state(client: LangGraphClient, thread: str) -> None:
    context = {"router": "always-cloud", "approve_cloud": True}
    await client.runs.wait(thread, "schedule", input=ASKED, context=context)
    state = await client.threads.get_state(thread, subgraphs=True)
    waiting = next(task for task in state["tasks"] if task["interrupts"])
    assert waiting["state"]["next"] == ["cloud"]
    assert waiting["state"]["values"]["work"]["decision"]["tier"] == "cloud"
    thread_now = await client.threads.get(thread)
    assert thread_now["status"] == "interrupted"


async def test_person_may_lift_the_limit_of_the_run(client: LangGraphClient, thread: str) -> None:
    context = {"router": "always-cloud", "limit_usd": 0, "on_exhausted": "ask"}
    await client.runs.wait(thread, "schedule", input=ASKED, context=context)
    (asked,) = await questions(client, thread)
    assert (asked["value"]["type"], asked["value"]["scope"]) == ("budget_exhausted", "run")
    command: Any = {"resume": asked["value"]["resume_with"]}
    out = await client.runs.wait(thread, "schedule", command=command, context=context)
    assert out["report"]["totals"]["cloud"]["calls"] > 0
    assert await questions(client, thread) == []


async def test_plan_is_edited_before_it_runs(client: LangGraphClient, thread: str) -> None:
    await client.runs.wait(thread, "agent", input=ASKED, interrupt_after=["plan"])
    state = await client.threads.get_state(thread)
    plan = without(state["values"]["plan"], "3")
    await client.threads.update_state(thread, {"plan": plan})
    out = await client.runs.wait(thread, "agent", input=None)
    assert sorted(out["results"]) == ["1", "2", "4", "5"]


def without(plan: dict[str, Any], subtask_id: str) -> dict[str, Any]:
    """A plan without one of its subtasks."""
    plan = copy.deepcopy(plan)
    plan["subtasks"] = [one for one in plan["subtasks"] if one["id"] != subtask_id]
    for one in plan["subtasks"]:
        one["depends_on"] = [parent for parent in one["depends_on"] if parent != subtask_id]
    return plan


# ---------------------------------------------------------------------------- time travel


async def test_fork_with_an_edited_plan_runs_only_what_is_changed(
    client: LangGraphClient, thread: str
) -> None:
    first = await client.runs.wait(thread, "agent", input=ASKED)
    history = await client.threads.get_history(thread)
    planned = next(one for one in history if one["next"] == ["answer"] and one["values"]["results"])
    plan = copy.deepcopy(planned["values"]["plan"])
    garden = next(one for one in plan["subtasks"] if "Garden" in one["task"])
    garden["task"] = garden["task"].replace("Garden", "Kitchen", 1)
    fork = await client.threads.update_state(
        thread, {"plan": plan}, checkpoint=planned["checkpoint"], as_node="plan"
    )
    out = await client.runs.wait(thread, "agent", input=None, checkpoint=fork["checkpoint"])
    sink = plan["subtasks"][-1]["id"]
    again = {key for key in out["results"] if out["results"][key] != first["results"][key]}
    assert again == {garden["id"], sink}
    assert out["results"][garden["id"]]["answer"].endswith("2025-05-05")
    # What was before the fork is still there.
    old = await client.threads.get_state(thread, checkpoint=history[0]["checkpoint"])
    assert old["values"]["plan"] == first["plan"]


async def test_run_goes_on_from_before_the_answer(client: LangGraphClient, thread: str) -> None:
    first = await client.runs.wait(thread, "schedule", input=ASKED)
    history = await client.threads.get_history(thread)
    at_wave = next(one for one in history if "generate_end" in one["next"])
    out = await client.runs.wait(thread, "schedule", input=None, checkpoint=at_wave["checkpoint"])
    assert out["answer"] == first["answer"]


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("given", "context", "says"),
    [
        ({"messages": []}, None, "There is no question"),
        ({"messages": [{"role": "user", "content": "  "}]}, None, "The question is empty"),
        ({}, None, "There is no question"),
        ({"messages": 7}, None, "Unsupported message type"),
        (ASKED, {"router": "moon"}, "'difficulty', 'threshold'"),
        (ASKED, {"limit_usd": 1_000}, "less than or equal to 2"),
        (ASKED, {"limit_usd": "a lot"}, "valid number"),
        (ASKED, {"cloud": "openai:gpt-5"}, "cloud"),
        (ASKED, {"cloud": "openai:gpt-4.1"}, "OPENAI_API_KEY"),
    ],
)
async def test_bad_input_is_an_error_that_says_why(
    client: LangGraphClient, thread: str, given: Any, context: Any, says: str
) -> None:
    waiting = client.runs.wait(thread, "agent", input=given, context=context, raise_error=False)
    out = await asyncio.wait_for(waiting, 60)
    assert says in out["__error__"]["message"]


async def test_thread_is_of_use_after_bad_input(client: LangGraphClient, thread: str) -> None:
    await client.runs.wait(thread, "schedule", input={"messages": []}, raise_error=False)
    assert (await client.threads.get(thread))["status"] == "error"
    out = await client.runs.wait(thread, "schedule", input=ASKED)
    assert out["answer"].endswith(ANSWER)


# ---------------------------------------------------------------------------- the folder


def test_budget_of_all_runs_is_counted_in_the_store_of_the_folder(studio: Studio) -> None:
    assert (studio.folder / "budget.db").exists()


def test_tests_of_the_template_pass_in_the_copied_folder(
    environment: Callable[[str], Path], tmp_path: Path
) -> None:
    copied = copied_template(tmp_path)
    run = subprocess.run(
        [str(environment("studio")), "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=copied,
        env=template_environ(copied) | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


def test_example_of_the_environment_names_what_the_graph_reads(tmp_path: Path) -> None:
    copied = copied_template(tmp_path)
    code = (copied / "src" / "agent" / "graph.py").read_text(encoding="utf-8")
    example = (copied / ".env.example").read_text(encoding="utf-8")
    names = {line[1:].partition("=")[0] for line in example.splitlines() if line.startswith("#")}
    own = {name for name in names if name.isupper() and name != "OPENAI_API_KEY"}
    assert own == {name for name in own if f'"{name}"' in code}
    assert len(own) == 6
    assert json.loads((copied / "langgraph.json").read_text())["env"] == ".env"


async def test_call_that_blocks_the_event_loop_would_be_noticed(server: Studio) -> None:
    """The last one: what it makes the server say must not be taken for another test's."""
    async with get_client(url=server.url) as client:
        out = await client.runs.wait(None, "blocking", input=ASKED, raise_error=False)
    assert "lock" in out["__error__"]["error"] + out["__error__"]["message"]
    assert "BlockingError" in server.log.read_text(encoding="utf-8")
