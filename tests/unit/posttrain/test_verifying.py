"""Verifiers: what is right, what is wrong, and what nobody can say."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.ruling import Ruling
from langchain_hybridflow.posttrain.unit_tests import UnitTestVerifier, code_in
from langchain_hybridflow.posttrain.verifying import VERIFIERS, rule_on, verifier_of, whole_answer
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.scoring import ExactScorer

ADD = Item(id="add", question="Add.", extra={"tests": "assert add(1, 2) == 3"})


def item(reference: Any = None, **extra: Any) -> Item:
    return Item(id="1", question="?", reference=reference, extra=extra)


@pytest.mark.parametrize(
    ("name", "reference", "answer", "status"),
    [
        ("exact", "Paris", " paris. ", "correct"),
        ("exact", "Paris", "Rome", "wrong"),
        ("exact", None, "Rome", "unverified"),
        ("numeric", 42, "The answer is 42.0", "correct"),
        ("numeric", 42, "41", "wrong"),
        ("numeric", "none", "41", "unverified"),
        ("numeric:0.1", 42, "41", "correct"),
        ("json", '{"n": 1}', '{"n": 1.0}', "correct"),
        ("json", '{"n": 1}', "no json", "wrong"),
        ("sandbox", "33", "Answer: 33", "correct"),
    ],
)
def test_named_verifier_rules(name: str, reference: Any, answer: str, status: str) -> None:
    assert verifier_of(name).verify(item(reference), answer).status == status


@pytest.mark.parametrize("name", VERIFIERS)
def test_every_name_is_that_of_a_verifier(name: str) -> None:
    assert verifier_of(name).name == name


@pytest.mark.parametrize("name", ["exactly", "maths", "", "no_such_module:rule"])
def test_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        verifier_of(name)


def test_what_is_no_verifier_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="A verifier is one of"):
        verifier_of(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (True, "correct"),
        (False, "wrong"),
        (1.0, "correct"),
        (0.5, "wrong"),
        (None, "unverified"),
        (Ruling("unverified", "busy"), "unverified"),
    ],
)
def test_function_is_a_verifier(found: Any, status: str) -> None:
    assert verifier_of(lambda one, answer: found).verify(item(), "x").status == status


def test_function_sees_the_columns_of_the_row() -> None:
    verifier = verifier_of(lambda one, answer: answer == one.extra["key"])
    assert verifier.verify(item(key="k"), "k").status == "correct"


def test_scorer_is_a_verifier() -> None:
    assert verifier_of(ExactScorer()).verify(item("x"), "x").status == "correct"


def test_ruling_refuses_another_word() -> None:
    with pytest.raises(ConfigurationError, match="correct, wrong, unverified"):
        Ruling("maybe")  # type: ignore[arg-type]


# A schema for each prompt


@pytest.mark.parametrize(
    ("schema", "answer", "status"),
    [
        ({"type": "integer"}, "7", "correct"),
        ('{"type": "integer"}', "7", "correct"),
        ({"type": "integer"}, '"seven"', "wrong"),
        ({"type": "integer"}, "no json", "wrong"),
        ("{no json", "7", "unverified"),
        ({"type": "no such type"}, "7", "unverified"),
        (None, "7", "unverified"),
    ],
)
def test_schema_of_the_row_rules(schema: Any, answer: str, status: str) -> None:
    assert verifier_of("json-schema").verify(item(schema=schema), answer).status == status


# Programs


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def add(a, b): return a + b", "correct"),
        ("Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", "correct"),
        ("def add(a, b): return a - b", "wrong"),
        ("def add(a, b) return a", "wrong"),
        ("import sys; sys.exit(0)", "wrong"),
        ("import os; os._exit(0)", "wrong"),
        ("print('passed')", "wrong"),
        ("add = lambda a, b: a + b\nprint('x' * 10**6)", "correct"),
    ],
)
def test_program_is_right_when_it_passes_its_tests(program: str, status: str) -> None:
    assert UnitTestVerifier().verify(ADD, program).status == status


def test_program_that_does_not_end_is_wrong() -> None:
    found = UnitTestVerifier(timeout_s=1).verify(ADD, "while True: pass")
    assert found.status == "wrong"


def test_program_that_takes_too_much_memory_is_wrong() -> None:
    verifier = UnitTestVerifier(memory_mb=128)
    found = verifier.verify(ADD, "x = bytearray(1 << 30)\ndef add(a, b): return a + b")
    assert (found.status, "MemoryError" in found.reason) == ("wrong", True)


def test_program_that_writes_a_large_file_is_wrong(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "open('large', 'wb').write(bytes(1 << 22))\ndef add(a, b): return a + b"
    assert UnitTestVerifier(file_mb=1).verify(ADD, code).status == "wrong"


def test_program_leaves_no_child_running(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    code = (
        "import fcntl, os, time\n"
        f"held = open({str(lock)!r}, 'a')\n"
        "fcntl.flock(held, fcntl.LOCK_EX)\n"
        "time.sleep(600) if os.fork() == 0 else None\n"
        "while True: pass"
    )
    UnitTestVerifier(timeout_s=1.5).verify(ADD, code)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as soon as the last one that holds it has ended


def test_program_sees_no_environment_and_an_empty_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY")
    tests = "import os\nassert not os.listdir('.')\nassert 'OPENAI_API_KEY' not in os.environ"
    assert UnitTestVerifier().verify(item(tests=tests), "pass").status == "correct"


def test_program_cannot_import_from_the_directory_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "solution.py").write_text("def add(a, b): return a + b")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert UnitTestVerifier().verify(ADD, "from solution import add").status == "wrong"


@pytest.mark.parametrize("tests", [None, "", "assert (", 7])
def test_program_is_unverified_when_its_tests_cannot_be_run(tests: Any) -> None:
    assert UnitTestVerifier().verify(item(tests=tests), "pass").status == "unverified"


def test_program_is_unverified_when_its_process_dies_before_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    item = Item(id="1", question="?", extra={"tests": "assert True"})
    assert UnitTestVerifier().verify(item, "x = 1").status == "unverified"


def test_program_is_unverified_when_the_time_is_over_before_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    item = Item(id="1", question="?", extra={"tests": "assert True"})
    assert UnitTestVerifier(timeout_s=0.2).verify(item, "x = 1").status == "unverified"


def test_same_program_is_run_again_for_other_tests() -> None:
    items = [Item(id="1", question="?", extra={"tests": f"assert x == {n}"}) for n in (1, 2)]
    found = rule_on(UnitTestVerifier(), [(item, "x = 1") for item in items])
    assert [one.status for one in found] == ["correct", "wrong"]


def test_tests_may_be_a_list() -> None:
    tests = ["assert x == 1", "assert y == 2"]
    assert UnitTestVerifier().verify(item(tests=tests), "x = 1; y = 2").status == "correct"


def test_program_is_unverified_when_no_process_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", os.devnull)
    assert UnitTestVerifier().verify(ADD, "x").status == "unverified"


def test_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="timeout_s must be > 0"):
        UnitTestVerifier(timeout_s=0)


def test_last_code_block_counts() -> None:
    assert code_in("```python\nx = 1\n```\nNo:\n```\nx = 2\n```") == "x = 2\n"


# Many answers


def test_verifier_that_fails_makes_the_answer_unverified() -> None:
    def failing(one: Item, answer: str) -> bool:
        raise RuntimeError("out of order")

    found = rule_on(verifier_of(failing), [(item(), "x")])
    assert found == [
        Ruling("unverified", "failing failed: RuntimeError: out of order"),
    ]


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_no_answer_is_wrong_and_the_verifier_is_not_asked(answer: str | None) -> None:
    found = rule_on(verifier_of(lambda one, answer: None), [(item(), answer)])
    assert found[0].status == "wrong"


def test_same_answer_is_verified_once() -> None:
    seen: list[str] = []

    def rule(one: Item, answer: str) -> bool:
        seen.append(answer)
        return answer == "a"

    found = rule_on(verifier_of(rule), [(item(), "a"), (item(), "b"), (item(), "a")])
    assert [one.status for one in found] == ["correct", "wrong", "correct"]
    assert sorted(seen) == ["a", "b"]


def test_answers_are_verified_in_several_threads_and_come_back_in_order() -> None:
    both = threading.Barrier(2, timeout=20)

    def rule(one: Item, answer: str) -> bool:
        both.wait()  # only two at once can pass
        return answer == "a"

    found = rule_on(verifier_of(rule), [(item(), "a"), (item(), "b")], threads=2)
    assert [one.status for one in found] == ["correct", "wrong"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>x</think><answer>42</answer>", "42"),
        ("Reasoning.\nAnswer: 42", "Reasoning.\nAnswer: 42"),
        ("", ""),
    ],
)
def test_answer_of_the_cloud_is_what_is_tagged_or_all_of_it(text: str, answer: str) -> None:
    assert whole_answer(text) == answer
