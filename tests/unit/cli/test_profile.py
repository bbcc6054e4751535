"""`hybridflow profile`, run in this process on the sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_hybridflow.learning import load_dataset
from tests.unit.cli.conftest import Run

SANDBOX = ("--edge", "sandbox", "--cloud", "sandbox", "--time-scale", "0")


def args(out: Path, *options: str, data: str = "sandbox:60") -> tuple[str, ...]:
    return ("profile", "--data", data, "--out", str(out), *SANDBOX, *options)


def test_profile_shows_both_tiers_and_what_to_type_next(hybridflow: Run, tmp_path: Path) -> None:
    run = hybridflow(*args(tmp_path / "p"))
    assert (run.exit_code, run.stderr) == (0, "")
    for part in ("accuracy", "95 % interval", "sandbox-edge", "only the cloud", "USD"):
        assert part in run.stdout
    assert f"hybridflow train --data {tmp_path}/p/outcomes.parquet" in run.stdout
    assert all(len(line) <= 80 or str(tmp_path) in line for line in run.stdout.splitlines())
    assert len(load_dataset(tmp_path / "p" / "outcomes.parquet")) == 60


def test_profile_gives_json_and_nothing_else(hybridflow: Run, tmp_path: Path) -> None:
    found = json.loads(hybridflow(*args(tmp_path / "p", "--json")).stdout)
    assert found["complete"]
    assert found["tiers"]["cloud"]["accuracy"] > found["tiers"]["edge"]["accuracy"]
    assert found["stopped"] is None
    assert found["next"].startswith("hybridflow train")


def test_exhausted_budget_ends_with_1_and_says_how_to_go_on(
    hybridflow: Run, tmp_path: Path
) -> None:
    run = hybridflow(*args(tmp_path / "p", "--limit-usd", "0.1"))
    assert run.exit_code == 1
    assert "Repeat the command with a higher --limit-usd" in run.stderr
    assert "at least 50 questions" in run.stdout
    assert hybridflow(*args(tmp_path / "p", "--limit-usd", "5")).exit_code == 0


def test_servers_that_are_down_end_it_with_1_and_the_cause(hybridflow: Run, tmp_path: Path) -> None:
    down = "http://127.0.0.1:9/v1#m"
    out = ("--out", str(tmp_path / "p"))
    run = hybridflow("profile", "--data", "sandbox:20", *out, "--edge", down, "--cloud", down)
    assert run.exit_code == 1
    assert "kept failing" in run.stderr
    assert "Mend it" in run.stderr
    assert "No question has a score of both tiers yet" in run.stdout


def test_profile_of_a_file_is_scored_as_asked(hybridflow: Run, tmp_path: Path) -> None:
    data = tmp_path / "q.csv"
    data.write_text("question,answer,year\nWhat is 6 * 7?,42,2020\nWhat is 2 + 3?,6,2021\n")
    run = hybridflow(*args(tmp_path / "p", "--scorer", "numeric", "--json", data=str(data)))
    assert json.loads(run.stdout)["tiers"]["cloud"]["accuracy"] == 0.5
    rescored = hybridflow(
        *args(tmp_path / "p", "--scorer", "numeric:0.5", "--rescore", "--json", data=str(data))
    )
    assert json.loads(rescored.stdout)["tiers"]["cloud"]["accuracy"] == 1


def test_judge_can_be_a_model_of_its_own(hybridflow: Run, tmp_path: Path) -> None:
    run = hybridflow(*args(tmp_path / "p", "--judge", "sandbox", "--json", data="sandbox:3"))
    assert json.loads(run.stdout)["tiers"]["edge"]["scored"] == 0  # it is no judge, and says so
    assert json.loads(run.stdout)["tiers"]["edge"]["unscored"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scorer", "magic"), "There is no scorer 'magic'"),
        (("--scorer", "exact", "--judge", "sandbox"), "asks nobody"),
        (("--edge", "nothing"), "does not name a model"),
        (("--data", "no.jsonl"), "There is no file no.jsonl"),
        (("--data", "sandbox:0"), "holds no question"),
        (("--limit-usd", "much"), "limit"),
        (("--price", "x"), "A price is"),
        (("--timeout-s", "0"), "timeout_s"),
    ],
)
def test_what_cannot_work_ends_with_2_and_one_message(
    hybridflow: Run, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    run = hybridflow(*args(tmp_path / "p", *options))
    assert run.exit_code == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "p").exists()


def test_unknown_price_under_a_limit_names_the_option(hybridflow: Run, tmp_path: Path) -> None:
    cloud = ("--cloud", "http://127.0.0.1:9/v1#mine")
    run = hybridflow(*args(tmp_path / "p", "--limit-usd", "1", *cloud))
    assert run.exit_code == 2
    assert "--price mine=IN,OUT" in run.stderr


def test_place_that_cannot_be_written_ends_with_2(hybridflow: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = hybridflow(*args(tmp_path / "file" / "p"))
    assert run.exit_code == 2
    assert "Choose another --out" in run.stderr
