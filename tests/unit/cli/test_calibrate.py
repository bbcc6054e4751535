"""`hybridflow calibrate`, run in this process on the sandbox."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow import RoutedChatModel
from langchain_hybridflow.learning import ConfidenceCalibrator
from langchain_hybridflow.profiling import read_items
from langchain_hybridflow.routing import AlwaysEdge
from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
from langchain_hybridflow.verify import ConfidenceVerifier
from tests.unit.cli.conftest import Run

PAGE = Path(__file__).parents[3] / "docs" / "confidence.md"

KEYS = {
    "kind", "method", "rows", "missing", "accuracy", "auroc", "aurc", "aurc_oracle", "ece",
    "ece_noise", "brier", "reliability", "coverage", "risk", "oracle", "min_score",
    "min_probability", "cloud_share", "cloud_share_low", "cloud_share_high", "kept_risk",
    "kept_risk_low", "kept_risk_high", "notes",
}  # fmt: skip


def args(place: Path, *options: str, signal: str = "logprob", n: int = 120) -> tuple[str, ...]:
    sandbox = ("--edge", "sandbox", "--data", f"sandbox:{n}", "--time-scale", "0")
    return ("calibrate", *sandbox, "--signal", signal, "-o", str(place / "c.json"), *options)


def table(path: Path, n: int = 100, **columns: Any) -> Path:
    rows = [
        {"score": number / n, "correct": int(number >= n / 2)}
        | {name: values[number] for name, values in columns.items()}
        for number in range(n)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_calibration_shows_figures_and_what_to_do_next(hybridflow: Run, tmp_path: Path) -> None:
    run = hybridflow(*args(tmp_path, "--cloud-share", "0.3"))
    assert (run.exit_code, run.stderr) == (0, "")
    for part in ("AUROC", "AURC", "ECE", "30.0% of the answers go to the cloud", "are wrong"):
        assert part in run.stdout
    assert f'verify=ConfidenceVerifier.load("{tmp_path}/c.json")' in run.stdout
    assert all(len(line) <= 80 or str(tmp_path) in line for line in run.stdout.splitlines())


@pytest.mark.parametrize("signal", ["logprob", "consistency", "verbal", "marker"])
def test_file_works_in_a_routed_model_and_keeps_the_share(
    hybridflow: Run, tmp_path: Path, signal: str
) -> None:
    how = ("--cloud-share", "0.3", "--method", "platt", "--contract", "none", "--samples", "3")
    assert hybridflow(*args(tmp_path, *how, signal=signal)).exit_code == 0
    verify = ConfidenceVerifier.load(tmp_path / "c.json")
    model = RoutedChatModel(
        edge=sandbox_edge(time_scale=0),
        cloud=sandbox_cloud(time_scale=0),
        router=AlwaysEdge(),
        verify=verify,
        on_verify_error="escalate",
    )
    told = "Think first where it helps. End with a line 'Answer: <value>', and nothing after it."
    gone = 0
    for item in read_items("sandbox:120"):
        answer = model.invoke([("system", told), ("human", item.question)], max_tokens=2048)
        gone += answer.response_metadata["hybridflow"]["tier"] == "cloud"
    assert gone / 120 == verify.calibrator.point.cloud_share <= 0.3


def test_json_has_the_documented_keys_and_can_be_drawn(hybridflow: Run, tmp_path: Path) -> None:
    run = hybridflow(*args(tmp_path, "--cloud-share", "0.3", "--json"))
    found = json.loads(run.stdout)
    assert set(found) == KEYS
    page = PAGE.read_text(encoding="utf-8")
    assert {key for key in KEYS if f"`{key}`" not in page} == set()
    (tmp_path / "signal.json").write_text(run.stdout)
    drawn = hybridflow(
        "report", "--evaluation", str(tmp_path / "signal.json"), "-o", str(tmp_path / "r.html")
    )
    assert (drawn.exit_code, drawn.stderr.count("1 evaluation")) == (0, 1)
    assert "Does it know when it is wrong?" in (tmp_path / "r.html").read_text()


def test_page_is_drawn_at_once(hybridflow: Run, tmp_path: Path) -> None:
    html = tmp_path / "c.html"
    data = table(tmp_path / "runs.jsonl")
    run = hybridflow(
        "calibrate", "--runs", str(data), "--signal", "verbal", "--cloud-share", "0.3",
        "-o", str(tmp_path / "c.json"), "--html", str(html),
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert "Confidence verbal" in html.read_text()
    saved = ConfidenceCalibrator.load(tmp_path / "c.json")
    assert saved.signal["name"] == "StatedConfidence"
    assert saved.point.cloud_share == 0.3


def test_answers_are_asked_for_once(hybridflow: Run, tmp_path: Path) -> None:
    first = hybridflow(*args(tmp_path, "--cloud-share", "0.3", "--json"))
    log = (tmp_path / "c.runs" / "log.jsonl").read_text()
    second = hybridflow(*args(tmp_path, "--cloud-share", "0.3", "--json"))
    assert (tmp_path / "c.runs" / "log.jsonl").read_text() == log
    assert second.stdout == first.stdout


def test_directory_of_answers_is_calibrated_on_without_a_model(
    hybridflow: Run, tmp_path: Path
) -> None:
    hybridflow(*args(tmp_path, "--cloud-share", "0.3"))
    run = hybridflow(
        "calibrate", "--runs", str(tmp_path / "c.runs"), "--max-risk", "0.9",
        "-o", str(tmp_path / "risk.json"),
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    saved = ConfidenceCalibrator.load(tmp_path / "risk.json")
    assert saved.signal == {"name": "TokenProbability"}
    assert saved.facts["target"] == {"max_risk": 0.9, "confidence": 0.9}


def test_ties_are_drawn_when_asked_to(hybridflow: Run, tmp_path: Path) -> None:
    data = table(tmp_path / "runs.jsonl", score=[0.5] * 100)
    common = ("calibrate", "--runs", str(data), "--cloud-share", "0.3", "-o", str(tmp_path / "c"))
    assert "0.0% of the answers go" in hybridflow(*common).stdout
    assert "30.0% of the answers go" in hybridflow(*common, "--ties", "draw").stdout


def test_exhausted_budget_ends_with_1_and_goes_on_with_more(
    hybridflow: Run, tmp_path: Path
) -> None:
    how = ("--cloud-share", "0.3", "--price", "sandbox-edge=1000,1000", "--max-tokens", "400")
    run = hybridflow(*args(tmp_path, *how, "--limit-usd", "3"))
    assert run.exit_code == 1
    assert re.search(r"answers are missing.*Give a higher --limit-usd", run.stderr, re.DOTALL)
    assert not (tmp_path / "c.json").exists()
    assert hybridflow(*args(tmp_path, *how, "--limit-usd", "300")).exit_code == 0


def test_server_that_is_down_ends_it_with_1_and_the_cause(hybridflow: Run, tmp_path: Path) -> None:
    run = hybridflow(
        "calibrate", "--edge", "http://127.0.0.1:9/v1#m", "--data", "sandbox:60", "--signal",
        "logprob", "--cloud-share", "0.3", "-o", str(tmp_path / "c.json"),
    )  # fmt: skip
    assert run.exit_code == 1
    assert "kept failing" in run.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "--cloud-share and --max-risk"),
        (("--cloud-share", "0.3", "--max-risk", "0.1"), "--cloud-share and --max-risk"),
        (("--cloud-share", "0.3"), "--edge and --data"),
        (("--cloud-share", "0.3", "--edge", "sandbox"), "--signal"),
        (("--cloud-share", "0.3", "--edge", "sandbox", "--signal", "verbal"), "--data"),
        (("--cloud-share", "0.3", "--runs", "none.jsonl"), "no file none.jsonl"),
        (("--cloud-share", "0.3", "--runs", "{runs}", "--data", "sandbox:9"), "--edge and --data"),
    ],
)
def test_what_cannot_work_ends_with_2_and_says_why(
    hybridflow: Run, tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    runs = str(table(tmp_path / "runs.jsonl"))
    given = (one.format(runs=runs) for one in options)
    run = hybridflow("calibrate", "-o", str(tmp_path / "c.json"), *given)
    assert run.exit_code == 2
    assert why in run.stderr
    assert not (tmp_path / "c.json").exists()


def test_other_signal_than_that_of_the_answers_is_refused(hybridflow: Run, tmp_path: Path) -> None:
    hybridflow(*args(tmp_path, "--cloud-share", "0.3"))
    run = hybridflow(
        "calibrate", "--runs", str(tmp_path / "c.runs"), "--signal", "verbal", "--cloud-share",
        "0.3", "-o", str(tmp_path / "d.json"),
    )  # fmt: skip
    assert run.exit_code == 2
    assert "Leave --signal out" in run.stderr


@pytest.mark.parametrize(
    ("missing", "options", "why"),
    [
        ("", ("--max-risk", "0"), "between 0 and 1"),
        ("", ("--max-risk", "0.2", "--confidence", "1"), "between 0 and 1"),
        ("sklearn", ("--cloud-share", "0.3"), "langchain-hybridflow[learning]"),
        ("matplotlib", ("--cloud-share", "0.3", "--html", "{}/c.html"), "[report]"),
    ],
)
def test_what_can_never_be_fitted_is_refused_before_anything_is_asked(
    hybridflow: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    options: tuple[str, ...],
    why: str,
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    run = hybridflow(*args(tmp_path, *(one.format(tmp_path) for one in options)))
    assert run.exit_code == (1 if missing else 2)
    assert why in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_file_that_cannot_be_written_is_refused_before_anything_is_asked(
    hybridflow: Run, tmp_path: Path
) -> None:
    run = hybridflow(*args(tmp_path / "none", "--cloud-share", "0.3"))
    assert run.exit_code == 2
    assert list(tmp_path.iterdir()) == []
