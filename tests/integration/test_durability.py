"""A process that is killed at any moment is resumed by another one, and nothing is paid twice."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

logger = logging.getLogger(__name__)

ZYGOTE = Path(__file__).with_name("durable_zygote.py")
KILLS = 16
"""Moments at which each kind of graph is killed, spread evenly over a run."""


class Zygote:
    """Runs each job in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = count()
        self._process = subprocess.Popen(
            [sys.executable, str(ZYGOTE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true", "PYTHONWARNINGS": "ignore"},
        )

    def run(self, name: str, **job: Any) -> tuple[int, dict[str, Any], list[str]]:
        """Run a job; return its exit code, what came of it, and its lines in the journal."""
        run = next(self._runs)
        out, journal = self.folder / f"{run}.json", self.folder / f"{run}.journal"
        job |= {"db": str(self.folder / f"{name}.db"), "out": str(out), "journal": str(journal)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"durability": "async", **job}) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        found = json.loads(out.read_text()) if out.exists() else {}
        return code, found, journal.read_text().split("\n")[:-1]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    process = Zygote(tmp_path_factory.mktemp("durability"))
    yield process
    process.close()


def keys(lines: list[str], event: str) -> list[str]:
    return [line.split()[1] for line in lines if line.startswith(f"{event} ")]


def finished(lines: list[str], *, put_before: Collection[str] = ()) -> set[str]:
    """The subtasks whose results were durable when the process died, with their checkpoints."""
    put = {*keys(lines, "put"), *put_before}
    saves = [line.split()[1:] for line in lines if line.startswith("saved ")]
    return {key for key, *needs in saves if put.issuperset(needs)}


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("kind", ["compiled", "planned"])
@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.timeout(300)
def test_killed_process_is_resumed_without_paying_twice(
    zygote: Zygote, kind: str, face: str, durability: str
):
    job = {"kind": kind, "face": face, "durability": durability}
    case = f"{kind}-{face}-{durability}"
    code, whole, _ = zygote.run(f"{case}-whole", **job)
    assert code == 0
    kills, in_flight, kept = 0, 0, 0
    for step in range(KILLS):
        kill_at = 1 + step * (whole["moments"] - 1) // (KILLS - 1)
        name = f"{case}-{step}"
        code, _, before = zygote.run(name, kill_at=kill_at, **job)
        if code == 0:
            continue  # this run had fewer moments than the first one
        assert code == -signal.SIGKILL
        kills += 1
        code, found, after = zygote.run(name, **job)
        assert code == 0
        assert found["answer"] == whole["answer"], f"killed at moment {kill_at}"
        assert found["answers"] == whole["answers"], f"killed at moment {kill_at}"
        durable, again = finished(before), keys(after, "begin")
        assert not durable & set(again), f"paid twice, killed at moment {kill_at}"
        assert len(again) == len(set(again)), f"called twice after the resume: {again}"
        in_flight += len(set(keys(before, "begin")) & set(again))
        kept += len(durable)
    logger.info(
        "%s: %d kills, %d finished calls kept, 0 of them repeated, %d in flight repeated",
        *(case, kills, kept, in_flight),
    )
    assert kills >= 12
    assert kept > 0


@pytest.mark.parametrize("kind", ["compiled", "planned"])
def test_process_that_is_killed_again_and_again_comes_to_the_end(zygote: Zygote, kind: str):
    job = {"kind": kind, "face": "async", "durability": "sync"}
    _, whole, _ = zygote.run(f"again-whole-{kind}", **job)
    durable: set[str] = set()
    put: set[str] = set()
    found: dict[str, Any] = {}
    for _ in range(20):
        code, found, lines = zygote.run(f"again-{kind}", kill_at=70, **job)
        assert not durable & set(keys(lines, "begin"))
        put |= set(keys(lines, "put"))
        durable |= finished(lines, put_before=put)
        if code == 0:
            break
    assert found["answers"] == whole["answers"]


@pytest.mark.parametrize("kind", ["compiled", "planned"])
@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.timeout(120)
def test_person_is_asked_exactly_once_though_each_answer_comes_in_a_new_process(
    zygote: Zygote, kind: str, face: str
):
    job = {"kind": kind, "face": face, "approve": True}
    name = f"approve-{kind}-{face}"
    code, found, lines = zygote.run(name, **job)
    assert code == 0
    asked: list[str] = []
    seen: set[str] = set()
    while found["interrupts"]:
        new = [one for one in found["interrupts"] if one["id"] not in seen]
        asked += [one["subtask"] for one in new]
        seen |= {one["id"] for one in new}
        one = found["interrupts"][0]  # several may wait: they are answered one by one
        code, found, more = zygote.run(name, answers={one["id"]: {"approve": True}}, **job)
        assert code == 0
        lines += more
    assert sorted(asked) == ["1", "2", "3", "4", "5", "6"]
    calls = [key for key in keys(lines, "begin") if key != "plan"]
    assert sorted(calls) == ["1", "2", "3", "4", "5", "6"]
    assert set(found["tiers"].values()) == {"cloud"}
    assert found["answer"].startswith("6:")


def test_answers_after_a_resume_are_made_from_the_inputs_of_before(zygote: Zygote):
    """The lost wave has the inputs no more; they come from the subtask's own checkpoint."""
    job = {"kind": "compiled", "face": "async"}
    _, whole, _ = zygote.run("inputs-whole", **job)
    _, found, _ = zygote.run("inputs", approve=True, **job)
    while found["interrupts"]:
        answers = {one["id"]: {"approve": True} for one in found["interrupts"]}
        _, found, _ = zygote.run("inputs", approve=True, answers=answers, **job)
    assert found["answers"] == whole["answers"]


@pytest.mark.parametrize("face", ["sync", "async"])
def test_fallback_to_the_cloud_is_approved_in_a_new_process(zygote: Zygote, face: str):
    job = {"kind": "compiled", "face": face, "approve": True, "edge_fails": ["3"]}
    _, found, lines = zygote.run(f"fallback-{face}", **job)
    assert [one["subtask"] for one in found["interrupts"]] == ["3"]
    answers = {found["interrupts"][0]["id"]: {"approve": True}}
    code, found, more = zygote.run(f"fallback-{face}", answers=answers, **job)
    assert code == 0
    assert found["interrupts"] == []
    assert found["tiers"] == {**dict.fromkeys("12456", "edge"), "3": "cloud"}
    calls = keys(lines + more, "begin")
    assert sorted(calls) == [
        "1",
        "2",
        "3",
        "3",
        "4",
        "5",
        "6",
    ]  # 3: the edge that failed, the cloud
