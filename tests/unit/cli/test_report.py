"""`hybridflow report`, and the files that other commands save for it."""

from __future__ import annotations

import errno
import json
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from langchain_hybridflow.report import Run as Saved
from tests.unit.cli.learnt import outcomes, saved_router
from tests.unit.report.evaluations import evaluation
from tests.unit.report.pages import assert_harmless
from tests.unit.report.runs import small_run

Run = Callable[..., Result]

QUESTION = "A shop has 12 apples and gets 3 boxes of 20. How many apples has it then?"
ASK = ("ask", QUESTION, "--edge", "sandbox", "--cloud", "sandbox", "--time-scale", "0")


def page_of(path: Path) -> str:
    html = path.read_text(encoding="utf-8")
    assert_harmless(html)
    return html


def test_asked_question_becomes_a_report(hybridflow: Run, tmp_path: Path) -> None:
    saved, page = tmp_path / "run.json", tmp_path / "report.html"
    assert hybridflow(*ASK, "--run-out", str(saved)).exit_code == 0
    made = hybridflow("report", str(saved), "-o", str(page))
    assert (made.exit_code, made.stdout) == (0, "")
    assert "1 run, " in made.stderr
    assert QUESTION in page_of(page)


def test_printed_json_becomes_a_report(hybridflow: Run, tmp_path: Path) -> None:
    printed = hybridflow(*ASK, "--json").stdout
    page = tmp_path / "report.html"
    made = hybridflow("report", "-", "-o", str(page), stdin=printed)
    assert made.exit_code == 0, made.stderr
    page_of(page)


def test_jsonl_collects_runs(hybridflow: Run, tmp_path: Path) -> None:
    for _ in range(2):
        hybridflow(*ASK, "--run-out", str(tmp_path / "runs.jsonl"))
    made = hybridflow("report", str(tmp_path / "runs.jsonl"), "-o", str(tmp_path / "r.html"))
    assert "2 runs, " in made.stderr


def test_saved_run_holds_no_key(
    hybridflow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-CANARY-123")
    question = f"What is sk-CANARY-123? {QUESTION}"
    path = tmp_path / "run.json"
    hybridflow("ask", question, *ASK[2:], "--run-out", str(path))
    assert "CANARY" not in path.read_text()
    assert QUESTION in path.read_text()


def test_runs_of_several_files_are_told_apart_by_their_files(
    hybridflow: Run, tmp_path: Path
) -> None:
    small_run().save(tmp_path / "before.json")
    small_run(label="own").save(tmp_path / "after.json")
    files = [str(tmp_path / name) for name in ("before.json", "after.json")]
    hybridflow("report", *files, "-o", str(tmp_path / "r.html"))
    assert "2 runs: before, own" in page_of(tmp_path / "r.html")


def test_evaluations_are_compared(hybridflow: Run, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.json", "b.json")]
    for file in files:
        file.write_text(json.dumps(evaluation()))
    options = ("-o", str(tmp_path / "r.html"), "--title", "Mine & yours")
    made = hybridflow("report", "--evaluation", *map(str, files), *options)
    assert "2 evaluations, " in made.stderr
    assert "Mine &amp; yours" in page_of(tmp_path / "r.html")


def test_evaluate_draws_what_it_measured(hybridflow: Run, tmp_path: Path) -> None:
    router = saved_router(tmp_path / "router")
    data = outcomes(tmp_path / "new.jsonl", 200)
    args = ("evaluate", "--router", str(router), "--data", str(data), "--html")
    done = hybridflow(*args, str(tmp_path / "e.html"))
    assert done.exit_code == 0, done.stderr
    assert "APGR" in done.stdout
    html = page_of(tmp_path / "e.html")
    assert "Router router" in html
    assert "Calibration" in html
    both = hybridflow(*args, str(tmp_path / "f.html"), "--json")
    assert json.loads(both.stdout)["rows"] == 200


def test_open_shows_the_page(
    hybridflow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not opened.append(url))
    small_run().save(tmp_path / "run.json")
    hybridflow("report", str(tmp_path / "run.json"), "-o", str(tmp_path / "r.html"), "--open")
    assert opened == [(tmp_path / "r.html").resolve().as_uri()]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((), "Give the files of runs"),
        (("run.json", "evaluation.json"), "evaluation.json: This is an evaluation of a router"),
        (("--evaluation", "evaluation.json", "run.json"), "run: This is not what"),
        (("gone.json",), "cannot be read: No such file"),
        (("other.json",), "This is not a run"),
        (("evaluation.json",), "give it with --evaluation"),
        (("--evaluation", "run.json"), "not what hybridflow evaluate --json prints"),
        (("run.json", "-o", "."), "is a directory"),
        (("run.json", "-o", "gone/r.html"), "There is no directory gone"),
    ],
)
def test_misuse_is_explained(
    hybridflow: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    small_run().save("run.json")
    Path("other.json").write_text('{"plan": 1}')
    Path("evaluation.json").write_text(json.dumps(evaluation()))
    result = hybridflow("report", *args)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())


def test_place_for_the_run_is_checked_before_anything_is_asked(
    hybridflow: Run, tmp_path: Path
) -> None:
    result = hybridflow(*ASK, "--run-out", str(tmp_path / "gone" / "run.json"))
    assert result.exit_code == 2
    assert "There is no directory" in result.stderr
    assert result.stdout == ""


def test_name_that_no_file_can_have_is_refused_before_anything_is_asked(
    hybridflow: Run, tmp_path: Path
) -> None:
    result = hybridflow(*ASK, "--run-out", str(tmp_path / f"{'x' * 300}.json"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_answer_is_told_when_the_disk_is_full(
    hybridflow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", refuse)
    result = hybridflow(*ASK, *form, "--run-out", str(tmp_path / "run.json"))
    assert result.exit_code == 2
    assert "cannot be written: No space left" in result.stderr
    assert "Answer: " in result.stdout


def test_run_that_was_saved_is_the_one_that_was_printed(hybridflow: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    printed = json.loads(hybridflow(*ASK, "--json", "--run-out", str(path)).stdout)
    run = Saved.load(path)
    assert run.answer == printed["answer"]
    assert [one.id for one in run.subtasks] == [row["id"] for row in printed["subtasks"]]
