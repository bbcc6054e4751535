"""`hybridflow posttrain` up to the training: settings, their file, what it can cost, errors."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import Result

from langchain_hybridflow.cli import app
from langchain_hybridflow.cli.posttrainfile import CommandSettings, read_options, to_toml
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain import PosttrainSettings

Run = Callable[..., Result]

PRICE = ("--price", "big=2,8")
CLOUD = ("--cloud", "http://127.0.0.1:9/v1#big")


def told(result: Result) -> str:
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"cloud": 5}, "cloud must be text"),
        ({"price": 5}, "price must be texts"),
        ({"price": [5]}, "price must be texts"),
        ({"time_scale": "fast"}, "time_scale must be a number"),
    ],
)
def test_file_is_refused_when_a_setting_of_the_command_is_of_another_kind(
    own: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CommandSettings.of(own, {})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(10)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def posttrain(hybridflow: Run, data: Path, tmp_path: Path) -> Run:
    def run(*args: str) -> Result:
        own = {"--model": "m", "--data": str(data), "--out": str(tmp_path / "run")}
        needed = [part for pair in own.items() if pair[0] not in args for part in pair]
        return hybridflow("posttrain", *needed, *args)

    return run


# Settings


def test_config_that_was_printed_says_the_same_when_it_is_read(
    posttrain: Run, tmp_path: Path
) -> None:
    options = ("--rho", "0.25", *CLOUD, *PRICE, "--lora-rank", "8", "--trainer", "bf16=true")
    printed = posttrain(*options, "--limit-usd", "2.50", "--print-config").stdout
    file = tmp_path / "settings.toml"
    file.write_text(printed, encoding="utf-8")
    assert posttrain("--config", str(file), "--print-config").stdout == printed
    values = tomllib.loads(printed)
    assert (values["rho"], values["limit_usd"], values["price"]) == (0.25, "2.50", ["big=2,8"])
    assert values["lora"] == {"r": 8, "lora_alpha": 16}
    assert values["trainer"] == {"bf16": True}


def test_config_that_is_printed_names_every_setting(posttrain: Run) -> None:
    printed = posttrain("--print-config").stdout
    for one in fields(PosttrainSettings):
        assert f"\n{one.name} = " in f"\n{printed}" or any(
            text in printed for text in (f"# {one.name} is not set", f"[{one.name}]")
        )


def test_command_line_wins_over_the_file(posttrain: Run, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'steps = 7\nshare = 0.5\ncloud = "sandbox"\n[lora]\nr = 4\n[trainer]\nbeta = 0.0\n', "utf-8"
    )
    options = ("--steps", "9", "--rho", "0.1", "--lora-rank", "2", "--trainer", "bf16=true")
    values = tomllib.loads(posttrain("--config", str(file), *options, "--print-config").stdout)
    assert (values["steps"], values["rho"], values["cloud"]) == (9, 0.1, "sandbox")
    assert "share" not in values
    assert values["lora"] == {"r": 2, "lora_alpha": 4}
    assert values["trainer"] == {"beta": 0.0, "bf16": True}


def test_no_lora_trains_all_weights_whatever_the_file_says(posttrain: Run, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[lora]\nr = 4\n", "utf-8")
    values = tomllib.loads(posttrain("--config", str(file), "--no-lora", "--print-config").stdout)
    assert "lora" not in values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps = 9\n", "The configuration file says stepps, and there is no such setting"),
        ("steps = \n", "is no TOML"),
        ('steps = "9"\n', "steps must be an integer >= 1, not '9'"),
    ],
)
def test_file_is_refused_when_it_makes_no_sense(
    posttrain: Run, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text, "utf-8")
    result = posttrain("--config", str(file), *CLOUD, "--dry-run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in told(result)


def test_file_that_is_not_there_is_named(posttrain: Run) -> None:
    result = posttrain("--config", "nowhere.toml")
    assert result.exit_code == 2
    assert "nowhere.toml cannot be read: No such file" in told(result)


def test_defaults_that_the_help_names_are_those_of_the_settings() -> None:
    command: Any = get_command(app)
    helps = {one.name: one.help or "" for one in command.commands["posttrain"].params}
    defaults = {one.name: one.default for one in fields(PosttrainSettings)}
    for name in ("steps", "prompts_per_step", "group", "max_new_tokens", "save_every"):
        assert f"{defaults[name]} by default" in helps[name]
    assert float(helps["learning_rate"].split()[0]) == defaults["learning_rate"]
    assert f"{defaults['reward']} by default" in helps["reward"]
    assert f"{defaults['method']} (default)" in helps["method"]
    assert f"{defaults['verifier']} (default)" in helps["verifier"]


FLOATS = st.floats(allow_nan=False)
PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | st.text()
LISTS = st.lists(st.text() | st.integers(0, 9))
TABLES = st.dictionaries(st.text(), FLOATS | LISTS)


@given(st.dictionaries(st.text(min_size=1, max_size=5), PLAIN | LISTS | TABLES, max_size=5))
def test_toml_says_the_same_when_it_is_read(values: dict[str, Any]) -> None:
    text = to_toml(values)
    assert tomllib.loads(text) == {name: one for name, one in values.items() if one is not None}


@pytest.mark.parametrize("text", ["bf16", "=1", "two words=1", "bf16="])
def test_option_of_the_trainer_is_refused_when_it_is_no_pair(text: str) -> None:
    from langchain_hybridflow.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="NAME=VALUE"):
        read_options([text])


def test_settings_of_the_command_hold_none_that_the_training_does_not_know() -> None:
    values = CommandSettings.of({}, {"model": "m", "data": "d", "out": "o", "share": 0.5})
    assert values.training().ratio == 1.0


# What it can cost


def test_dry_run_counts_each_prompt_once_however_long_it_trains(posttrain: Run) -> None:
    result = posttrain(*CLOUD, *PRICE, "--steps", "500", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["prompts"], found["most_cloud_calls"]) == (10, 10)
    # The longest answers at 8 USD a million tokens, and the prompts.
    answers = 10 * 2048 * 8e-6
    assert answers < float(found["most_usd"]) < answers * 1.05


def test_dry_run_counts_no_more_prompts_than_the_steps_take(posttrain: Run) -> None:
    options = ("--steps", "2", "--prompts-per-step", "3", "--group", "4")
    found = json.loads(posttrain(*CLOUD, *PRICE, *options, "--dry-run", "--json").stdout)
    assert (found["most_cloud_calls"], found["responses"]) == (6, 24)


def test_dry_run_stays_below_the_limits(posttrain: Run) -> None:
    options = ("--max-cloud-calls", "4", "--limit-usd", "0.01")
    found = json.loads(posttrain(*CLOUD, *PRICE, *options, "--dry-run", "--json").stdout)
    assert (found["most_cloud_calls"], found["most_usd"]) == (4, "0.01")


def test_dry_run_leaves_out_what_was_bought(posttrain: Run, data: Path, tmp_path: Path) -> None:
    from langchain_hybridflow.posttrain import AnswerCache
    from langchain_hybridflow.posttrain.answers import answer_key
    from langchain_hybridflow.posttrain.prompts import cloud_messages, row_of
    from langchain_hybridflow.posttrain.running import told_to_cloud
    from langchain_hybridflow.posttrain.verifying import verifier_of
    from langchain_hybridflow.profiling.items import read_items

    settings = PosttrainSettings(model="m", data=str(data), out=str(tmp_path / "run"))
    first = row_of(read_items(data)[0], instructions=None, chat=True)
    asked = cloud_messages(first, instructions=told_to_cloud(settings, verifier_of("exact")))
    (tmp_path / "run").mkdir()
    cache = AnswerCache(tmp_path / "run" / "answers.sqlite")
    cache.put(answer_key("big", asked, {"max_tokens": 2048}), "0", model="big")
    found = json.loads(posttrain(*CLOUD, *PRICE, "--dry-run", "--json").stdout)
    assert (found["kept_cloud_answers"], found["most_cloud_calls"]) == (1, 9)


def test_dry_run_says_in_words_what_would_happen_and_writes_nothing(
    posttrain: Run, tmp_path: Path
) -> None:
    result = posttrain(*CLOUD, *PRICE, "--share", "0.2", "--lora", "--limit-usd", "9", "--dry-run")
    assert result.exit_code == 0
    assert "Cloud: big, for at most 20.0% of the prompts it keeps" in " ".join(
        result.stdout.split()
    )
    assert "at most 10, each prompt once" in result.stdout
    assert "(the limit is $9.0000)" in result.stdout
    assert "adapters" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_dry_run_knows_no_cost_without_a_price(posttrain: Run) -> None:
    result = posttrain(*CLOUD, "--dry-run")
    assert result.exit_code == 0
    assert "at most unknown" in " ".join(result.stdout.split())


def test_dry_run_of_task_tuning_asks_nobody(posttrain: Run) -> None:
    result = posttrain("--method", "task", "--dry-run")
    assert result.exit_code == 0
    assert "none is asked" in result.stdout


def test_dry_run_says_that_a_key_is_missing(posttrain: Run) -> None:
    result = posttrain("--cloud", "openai:gpt-4.1", "--dry-run")
    assert result.exit_code == 0
    assert "OPENAI_API_KEY is not set" in told(result)


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dry-run",), "Say with --cloud whom to ask"),
        ((*CLOUD, "--rho", "-1"), "rho must be >= 0 and finite, not -1.0"),
        ((*CLOUD, "--share", "1"), "from 0 to below 1, not 1.0"),
        ((*CLOUD, "--share", "0.3", "--rho", "1"), "rho and share say the same"),
        ((*CLOUD, "--limit-usd", "1"), "--price big=IN,OUT"),
        ((*CLOUD, "--method", "ppo"), "method is one of gapg"),
        ((*CLOUD, "--verifier", "guess"), "There is no verifier 'guess'"),
        ((*CLOUD, "--no-lora", "--lora-rank", "3"), "--no-lora has none"),
        ((*CLOUD, "--price", "big"), "A price is MODEL=IN,OUT"),
        (("--cloud", "http://127.0.0.1:9/v1"), "Append #NAME"),
        (("--model", "", *CLOUD), "Say --model, on the command line or in the file of --config"),
        ((*CLOUD, "--verifier", "tests"), "has a column tests"),
    ],
)
def test_command_is_refused_when_it_cannot_work(
    posttrain: Run, options: tuple[str, ...], message: str
) -> None:
    result = posttrain(*options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in told(result)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "1 + 1?", "answer": ', "is not a readable JSON lines file in line 3"),
        ('["1 + 1?", "2"]', "line 3: each line must be a JSON object"),
        ('{"prompt": "", "answer": "2"}', "The question in row 3"),
    ],
)
def test_bad_row_is_named_by_its_number(
    posttrain: Run, tmp_path: Path, line: str, message: str
) -> None:
    good = '{"prompt": "2 + 2?", "answer": "4"}\n'
    file = tmp_path / "bad.jsonl"
    file.write_text(f"{good}{good}{line}\n{good}", encoding="utf-8")
    result = posttrain("--data", str(file), *CLOUD)
    assert result.exit_code == 2
    assert message in told(result)


def test_rows_without_an_answer_are_counted_and_refused_only_if_all_are(
    posttrain: Run, tmp_path: Path
) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"prompt": "a", "answer": "1"}\n{"prompt": "b"}\n', encoding="utf-8")
    some = posttrain("--data", str(file), *CLOUD, "--dry-run")
    assert some.exit_code == 0
    assert "1 of 2 rows say nothing of what is right" in told(some)
    file.write_text('{"prompt": "a"}\n{"prompt": "b"}\n', encoding="utf-8")
    none = posttrain("--data", str(file), *CLOUD, "--dry-run")
    assert none.exit_code == 2
    assert "has a column answer" in told(none)


def test_missing_extra_is_named_before_anything_is_made(
    posttrain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langchain_hybridflow.cli import posttrain as command

    monkeypatch.setattr(command, "find_spec", lambda name: None)
    result = posttrain(*CLOUD, *PRICE)
    assert result.exit_code == 1
    assert "pip install 'langchain-hybridflow[rl]'" in told(result)
    assert not (tmp_path / "run").exists()
