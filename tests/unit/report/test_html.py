from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError, InputError, MissingExtraError
from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.report import Run, report_html, write_page
from tests.unit.report.pages import PAYLOADS, Page, assert_harmless
from tests.unit.report.runs import (
    attempt,
    budget,
    call,
    chain_run,
    hostile,
    output,
    record,
    small_output,
    small_plan,
    small_run,
)


def seen(text: str) -> str:
    return "".join(char for char in text if char.isprintable() and char != "\ufffd")


def test_text_of_models_and_people_is_shown_and_does_nothing() -> None:
    run = hostile(PAYLOADS)
    page = assert_harmless(report_html([run], title=PAYLOADS[0]))
    for payload in PAYLOADS:
        assert seen(payload)[:2_000] in seen(page.text)
    assert_harmless(report_html([run, run]))


@given(st.lists(st.text(min_size=1), min_size=3, max_size=3))
@settings(max_examples=10)
def test_any_text_is_harmless(texts: list[str]) -> None:
    words = ["a" + "".join(char for char in text if not is_surrogate(char)) for text in texts]
    assert_harmless(report_html([hostile(words)]))


def is_surrogate(char: str) -> bool:
    return 0xD800 <= ord(char) <= 0xDFFF


def test_page_of_one_run_says_all_there_is() -> None:
    page = assert_harmless(report_html([small_run(label="mine", score=1)]))
    headings = {"Answer", "Plan", "Work over time", "Budget", "Decisions"}
    assert headings <= set(page.texts)
    assert "Sent to the cloud by difficulty: planned difficulty 7 >= 5." in page.texts
    assert "Score 7 against 5." in page.texts
    assert "Expected to cost $0.002; on the edge it would have been $0." in page.texts
    assert "It cost $0.001." in page.texts
    assert "answer 3" in page.texts
    assert "What is it?" in page.texts


def test_whatever_can_be_pointed_at_leads_to_its_row() -> None:
    page = Page(report_html([small_run()]))
    pointed = {one["data-of"] for name, one in page.elements if name == "g" and "data-of" in one}
    assert pointed == {"s-1", "s-2", "s-3", "s-4"}
    assert pointed <= set(page.values("id"))


def test_pictures_have_words_for_those_who_cannot_see_them() -> None:
    page = Page(report_html([small_run()]))
    pictures = page.named("svg")
    assert len(pictures) == 4
    assert [one["role"] for one in pictures] == ["group", "img", "img", "img"]
    assert all(one["aria-label"] for one in pictures)
    boxes = [one for one in page.named("g") if "tabindex" in one]
    assert boxes[1]["aria-label"] == "2, cloud: What follows?"
    assert len(page.named("h1")) == 1
    assert page.named("html")[0]["lang"] == "en"
    assert all("scope" in one for one in page.named("th"))


def test_critical_path_and_tiers_are_marked_in_the_plan() -> None:
    page = Page(report_html([small_run()]))
    boxes = {
        one["data-of"]: one["class"].split()
        for name, one in page.elements
        if name == "g" and "box" in one.get("class", "")
    }
    assert "critical" in boxes["s-3"]
    assert "critical" not in boxes["s-2"]
    assert ("edge" in boxes["s-1"], "cloud" in boxes["s-2"]) == (True, True)


def test_what_went_wrong_is_said() -> None:
    run = Run.of(
        output(
            small_plan(),
            [
                record(
                    "1", "edge", 0.0, 1.0, degraded=True, attempts=[attempt("cloud", "refused")]
                ),
                record("2", "cloud", 1.0, 2.0, attempts=[attempt("edge", accepted=False)]),
                record("3", None, 2.0, 2.0, status="failed", error="edge: out of memory"),
                record("4", None, 2.0, 2.0),
            ],
        )
    )
    text = assert_harmless(report_html([run])).text
    assert "Without an answer: 3, 4." in text
    assert "The edge answered although the cloud was wanted: 1." in text
    assert "edge: out of memory" in text
    assert "Escalated: the cloud answered" in text
    assert "Not asked: cloud (cloud-model): TimeoutError." in text
    assert {"failed", "skipped"} <= set(assert_harmless(report_html([run])).texts)


def test_retries_are_counted() -> None:
    moments = call("edge", 0.0, 3.0)
    moments.insert(3, {"at": 1.0, "event": "paused", "seconds": 1.5})
    out = small_output()
    fresh = output(
        small_plan(),
        [
            record("1", "edge", 0.0, 3.0, timeline=moments),
            *[record(name, "edge", 3.0, 4.0) for name in "234"],
        ],
    )
    assert "Asked again 1 time, after waiting 1.50 s." in Page(report_html([Run.of(fresh)])).text
    assert "Asked again" not in Page(report_html([Run.of(out)])).text


def test_budget_shows_each_limit_and_the_price() -> None:
    out = small_output()
    for one in out["results"].values():
        state = budget(price=3.0)
        state["cloud_calls"]["limit"] = 4
        one["timeline"][0]["budget"] = state
    texts = Page(report_html([Run.of(out)])).texts
    assert {"Money", "Cloud calls", "Shadow price"} <= set(texts)
    assert "Cloud tokens" not in texts
    assert "limit $0.01" in texts
    assert "limit 4" in texts
    assert "Score 7 against 5; shadow price 3 per USD." in texts


def test_run_without_recorded_moments_is_shown_all_the_same() -> None:
    out = small_output()
    for one in out["results"].values():
        del one["timeline"]
    page = assert_harmless(report_html([Run.of(out)]))
    assert "Budget" not in page.texts
    assert "Work over time" in page.texts


def test_thousand_subtasks_make_a_page_of_reasonable_size() -> None:
    html = report_html([chain_run(1_000)])
    assert len(html) < 4_000_000
    page = assert_harmless(html)
    assert len({one for one in page.values("id") if re.fullmatch(r"s-\d+", one)}) == 1_000


@pytest.mark.parametrize("name", ["decisions", "gantt", "planning"])
def test_subtask_with_the_name_of_a_part_of_the_page_has_its_own_place(name: str) -> None:
    plan = Plan(
        subtasks=[
            Subtask(id=name, task="What is given?", role="explain"),
            Subtask(id="2", task="So what?", role="generate", depends_on=[name]),
        ]
    )
    run = Run.of(output(plan, [record(name, "edge", 0, 1), record("2", "edge", 1, 2)]))
    assert_harmless(report_html([run]))


def test_runs_are_compared_by_group() -> None:
    runs = [small_run(label=label, score=score) for label in "ab" for score in (0.5, 1)]
    page = assert_harmless(report_html(runs))
    assert "4 runs: a, b" in page.texts
    assert {"By group", "Trade-offs", "Runs"} <= set(page.texts)
    assert "0.750 \u00b1 3.176" in page.texts
    assert "Score against cost. Dashed: the Pareto front." in page.texts
    assert {"run-0", "run-3", "of-0", "of-3"} <= set(page.values("id"))


def test_runs_without_scores_are_compared_by_time_and_cost() -> None:
    texts = Page(report_html([small_run(), small_run()])).texts
    assert "Time against cost. Dashed: the Pareto front." in texts
    assert not any("Score against" in text for text in texts)


def test_only_some_of_many_runs_are_shown_in_full() -> None:
    page = assert_harmless(report_html([small_run()] * 5, detailed=2))
    assert {"of-0", "of-1"} <= set(page.values("id"))
    assert "of-2" not in page.values("id")
    assert "3 more runs are in the table only." in page.texts


def test_unknown_cost_is_called_unknown() -> None:
    value = small_run().to_json()
    value["cloud"]["cost_usd"] = None
    value["subtasks"][1]["cost_usd"] = None
    run = Run.from_json(value)
    assert "unknown" in Page(report_html([run])).texts
    assert_harmless(report_html([run, run]))


def test_same_run_gives_the_same_page() -> None:
    assert report_html([small_run()]) == report_html([small_run()])


def test_threads_do_not_get_in_each_others_way() -> None:
    run = small_run()
    with ThreadPoolExecutor(4) as threads:
        pages = list(threads.map(lambda _: report_html([run]), range(6)))
    assert set(pages) == {report_html([run])}


def test_no_runs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one run"):
        report_html([])


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"langchain-hybridflow\[report\]"):
        report_html([small_run()])


def test_page_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        write_page("x", tmp_path / "gone" / "page.html")


def test_notebook_shows_a_run_without_a_script() -> None:
    run = small_run()
    html = run._repr_html_()
    assert html == run._repr_mimebundle_()["text/html"]
    assert "<svg" in html
    assert "<script" not in html
    assert len(html) < 40_000
    Page(html)


def test_notebook_escapes_text() -> None:
    page = Page(hostile(PAYLOADS)._repr_html_())
    assert not page.named("script")
    assert not page.named("img")
    assert not [name for _, one in page.elements for name in one if name.startswith("on")]


def test_notebook_shows_a_table_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = Page(small_run()._repr_html_())
    assert not page.named("svg")
    assert len(page.named("tr")) == 5


def test_large_run_is_compact_in_a_notebook() -> None:
    html = chain_run(500)._repr_html_()
    assert len(html) < 20_000
    assert "470 more" in html


def test_what_ask_prints_is_a_run() -> None:
    row: dict[str, Any] = {
        "id": "1", "role": "generate", "task": "Why?", "depends_on": [], "status": "ok",
        "error": None, "tier": "edge", "model": "m", "decided": "edge", "reason": "easy",
        "score": 1.0, "threshold": 5.0, "price": None, "expected_cost_usd": "0",
        "cost_usd": "0", "input_tokens": 1, "output_tokens": 2, "attempts": 1,
        "degraded": False, "kept_local": False, "ready_s": 0.0, "start_s": 0.5, "end_s": 1.0,
        "on_critical_path": True, "answer": "Because.",
    }  # fmt: skip
    printed = {
        "answer": "Because.", "complete": True, "subtasks": [row], "totals": {}, "planning": {},
        "plan": {"subtasks": [{"id": "1", "task": "Why?", "role": "generate"}]},
    }  # fmt: skip
    run = Run.from_json(json.loads(json.dumps(printed)))
    assert (run["1"].answer, run.critical_path, run.seconds) == ("Because.", ("1",), 1.0)
    assert "Sent to the edge: easy." in Page(report_html([run])).texts
