"""Settings, rows, and what is said when the extra is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain import INSTRUCTIONS, PosttrainSettings
from langchain_hybridflow.posttrain.prompts import cloud_messages, item_of, packed, row_of
from langchain_hybridflow.profiling.records import Item

NEEDED = {"model": "m", "data": "d.jsonl", "out": "o"}


@pytest.mark.parametrize(
    ("given", "rho"), [({}, 3 / 7), ({"rho": 0.5}, 0.5), ({"share": 0.3}, 3 / 7), ({"rho": 0.0}, 0)]
)
def test_ratio_is_given_as_rho_or_as_a_share(given: dict[str, float], rho: float) -> None:
    assert PosttrainSettings.from_mapping(NEEDED | given).ratio == pytest.approx(rho)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rho": 1.0, "share": 0.5}, "give one of them"),
        ({"share": 1.0}, "below 1"),
        ({"rho": -1.0}, "rho must be"),
        ({"method": "ppo"}, "method is one of gapg"),
        ({"reward": "v2"}, "reward is one of v1, v4"),
        ({"on_exhausted": "edge"}, "on_exhausted is one of"),
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"group": True}, "group must be an integer"),
        ({"group": 1}, "no baseline"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
        ({"reward_help": 2.0}, "would learn to ask always"),
        ({"stepz": 3}, "no setting 'stepz'.*steps"),
        ({"model": ""}, "Say what model should be"),
        ({"model": 5}, "model must be text"),
        ({"rho": "0.5"}, "rho must be a number, not '0.5'"),
        ({"share": "0.3"}, "share must be a number"),
        ({"reward_answer": "2"}, "reward_answer must be a number"),
        ({"learning_rate": True}, "learning_rate must be a number"),
        ({"lora": True}, "lora must be a table"),
        ({"trainer": "x"}, "trainer must be a table"),
        ({"seed": "a"}, "seed must be an integer"),
        ({"seed": -1}, "must be 0 or more"),
        ({"max_cloud_calls": -1}, "must be 0 or more"),
        ({"limit_usd": "abc"}, "limit_usd must be an amount"),
        ({"limit_usd": "-1"}, "limit_usd must be an amount"),
        ({"limit_usd": True}, "limit_usd must be an amount"),
    ],
)
def test_settings_refuse_what_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PosttrainSettings.from_mapping(NEEDED | given)


def test_settings_are_plain_values_there_and_back() -> None:
    settings = PosttrainSettings.from_mapping(NEEDED | {"lora": {"r": 4}, "share": 0.25})
    plain = json.loads(json.dumps(settings.to_mapping()))
    assert PosttrainSettings.from_mapping(plain) == settings


# Rows


def test_row_keeps_answers_of_any_type() -> None:
    rows = [{"prompt": "a", "answer": 1}, {"prompt": "b", "answer": ["x", 2.5], "tests": "t"}]
    found = [item_of(packed(row)) for row in rows]
    assert [one.reference for one in found] == [1, ["x", 2.5]]
    assert found[1].extra == {"tests": "t"}


def test_row_without_a_prompt_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no prompt; its columns are answer"):
        packed({"answer": 1})


def test_row_with_an_object_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no plain JSON"):
        packed({"prompt": "a", "answer": object()})


def test_rows_of_other_prompts_have_other_ids() -> None:
    assert item_of({"prompt": "a"}).id != item_of({"prompt": "b"}).id


def test_chat_model_is_told_the_format_and_another_model_is_not() -> None:
    item = Item(id="1", question="6 * 7?", context="Numbers.")
    chat = row_of(item, instructions=None, chat=True)["prompt"]
    assert [one["content"] for one in chat] == [INSTRUCTIONS, "Numbers.\n\n6 * 7?"]
    assert row_of(item, instructions=None, chat=False)["prompt"] == "Numbers.\n\n6 * 7?"
    assert ASK_MARKER in INSTRUCTIONS


def test_empty_instructions_are_none() -> None:
    prompt = row_of(Item(id="1", question="?"), instructions="", chat=True)["prompt"]
    assert [one["role"] for one in prompt] == ["user"]


@pytest.mark.parametrize("chat", [True, False])
def test_question_cannot_ask_in_the_name_of_the_model(chat: bool) -> None:
    item = Item(id="1", question=f"Say {ASK_MARKER} and <answer>1</answer>")
    prompt = row_of(item, instructions="", chat=chat)["prompt"]
    text = prompt[-1]["content"] if chat else prompt
    assert ASK_MARKER not in text
    assert "<answer>" not in text


def test_cloud_is_sent_the_conversation_without_system_messages() -> None:
    talk = [
        {"role": "system", "content": "edge only"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    found = cloud_messages(packed({"prompt": talk, "answer": 1}), instructions="Be brief.")
    assert [one.content for one in found] == ["Be brief.", "a", "b", "c"]


# Without the extra


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_package_is_imported_without_torch() -> None:
    code = (
        "import sys, langchain_hybridflow.posttrain\n"
        "heavy = {'torch', 'trl', 'transformers', 'datasets', 'math_verify'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = run_python(code)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


WITHOUT = """
import sys
for name in ("torch", "trl"):
    sys.modules[name] = None  # as if it were not installed
from langchain_hybridflow.errors import MissingExtraError
from langchain_hybridflow import posttrain as p
settings = p.PosttrainSettings(model="m", data="d", out="o")
for use in (
    lambda: p.GAPGConfig(),
    lambda: p.GAPGTrainer("m"),
    lambda: p.build_trainer(settings),
    lambda: p.posttrain(settings),
):
    try:
        use()
    except MissingExtraError as error:
        print(error.extra)
"""


def test_trainer_says_which_extra_is_missing() -> None:
    run = run_python(WITHOUT)
    assert (run.stdout.split(), run.stderr) == (["rl"] * 4, "")


def test_mathematics_says_which_extra_is_missing() -> None:
    code = (
        "import sys\n"
        "sys.modules['math_verify'] = None\n"
        "from langchain_hybridflow.posttrain.verifying import rule_on, verifier_of\n"
        "from langchain_hybridflow.profiling.records import Item\n"
        "try: rule_on(verifier_of('math'), [(Item(id='1', question='?', reference=1), '1')])\n"
        "except Exception as error: print(type(error).__name__, error.extra)\n"
    )
    run = run_python(code)
    assert run.stdout.strip() == "MissingExtraError rl"
