"""`hybridflow posttrain` as it is typed, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from langchain_hybridflow.answer_or_ask import NO_HELP
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain import INSTRUCTIONS, PosttrainSettings, build_trainer
from langchain_hybridflow.posttrain.prompts import row_of
from langchain_hybridflow.profiling.records import Item
from tests.rl.command_world import PROMPTS, World, logits, made_world
from tests.rl.small_models import save_small_model

pytestmark = [pytest.mark.allow_hosts(["127.0.0.1"]), pytest.mark.timeout(560)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


def curves(place: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(place))
    events.Reload()
    return {
        name: [(point.step, point.value) for point in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_command_trains_and_leaves_what_others_can_load(world: World) -> None:
    foreseen = json.loads(world.run("--steps", "3", "--dry-run", "--json").stdout)
    assert (foreseen["prompts"], foreseen["most_cloud_calls"]) == (PROMPTS, 6)
    assert world.calls == 0
    assert not (world.place / "run").exists()

    done = world.run("--steps", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steps"] == 3
    assert result["cloud"]["bought"] == world.calls == 6
    assert 0 < float(result["cloud"]["usd"]) <= float(foreseen["most_usd"])
    assert "step 3 of 3: right by itself" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr

    folder = world.place / result["model"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1?"}], add_generation_prompt=True, return_tensors="pt"
    )
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generate(**ids, max_new_tokens=4).shape[1] > ids["input_ids"].shape[1]
    assert not (folder / "training_args.bin").exists()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| cloud calls | 6 bought, 0 failed |" in card
    assert "at most 30.0% of the prompts" in card
    assert str(world.place) not in card

    points = curves(world.place / "run" / "logs")
    assert [step for step, _ in points["train/cloud/bought"]] == [1, 2, 3]
    assert [value for _, value in points["train/cloud/bought"]] == [2, 4, 6]
    assert {"train/local_accuracy", "train/ask_rate", "train/reward_mean"} <= points.keys()


def test_data_are_refused_when_they_are_too_few_for_a_step(tmp_path: Path) -> None:
    settings = PosttrainSettings(
        model="none", data="sandbox:3", out=str(tmp_path / "run"), method="task"
    )
    with pytest.raises(ConfigurationError, match="has 3 prompts, and a step takes 16"):
        build_trainer(settings)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers by an old name
def test_adapters_are_merged_and_kept_when_they_are_trained(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.place)  # an adapter names its model as the command did
    # Random responses are all wrong: what is learnt from is that some of them ask.
    options = ("--method", "rloo", "--group", "8", "--learning-rate", "0.05", "--lora-rank", "4")
    done = world.run(*options, "--steps", "2", "--logdir", "curves")
    assert done.returncode == 0, done.stderr
    run = world.place / "run"
    assert curves(world.place / "curves")
    from peft import AutoPeftModelForCausalLM

    merged = logits(AutoModelForCausalLM.from_pretrained(run / "model"))
    adapted = logits(AutoPeftModelForCausalLM.from_pretrained(run / "adapter"))
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    before = logits(AutoModelForCausalLM.from_pretrained(world.place / "small"))
    assert not torch.allclose(before, merged, atol=1e-2)
    assert json.loads((run / "adapter" / "adapter_config.json").read_text())["r"] == 4
    assert not (run / "model" / "adapter_config.json").exists()


def prompt_ids(tokenizer: Any, messages: list[dict[str, Any]]) -> list[int]:
    found: list[int] = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return found


def test_finished_model_reads_a_bare_question_as_it_did_in_training(tmp_path: Path) -> None:
    from langchain_hybridflow.posttrain.finishing import finish_model

    before = AutoTokenizer.from_pretrained(save_small_model(tmp_path / "trained"))
    finish_model(
        tmp_path / "trained", tmp_path / "model", instructions=INSTRUCTIONS, card="# A model"
    )
    after = AutoTokenizer.from_pretrained(tmp_path / "model")
    question = 'What is "6 * 7"?'
    trained_on = row_of(Item(id="1", question=question), instructions=None, chat=True)["prompt"]
    user = {"role": "user", "content": question}
    assert prompt_ids(after, [user]) == prompt_ids(before, trained_on)
    # Whoever says the instructions himself does not say them twice.
    assert prompt_ids(after, trained_on) == prompt_ids(before, trained_on)


@pytest.mark.parametrize("content", [NO_HELP, [{"type": "text", "text": NO_HELP}]])
def test_finished_model_hears_the_users_system_message_last(tmp_path: Path, content: Any) -> None:
    from langchain_hybridflow.posttrain.finishing import finish_model

    save_small_model(tmp_path / "trained")
    finish_model(tmp_path / "trained", tmp_path / "model", instructions="Answer or ask.", card="")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    messages = [{"role": "system", "content": content}, {"role": "user", "content": "6 * 7?"}]
    text = tokenizer.decode(prompt_ids(tokenizer, messages))
    assert text == f"<s>system: Answer or ask.\n\n{NO_HELP}\nuser: 6 * 7?\nassistant: "


def test_finished_model_replaces_one_that_is_there(tmp_path: Path) -> None:
    from langchain_hybridflow.posttrain.finishing import finish_model

    for seed in (0, 1):
        save_small_model(tmp_path / "trained", seed=seed)
        finish_model(tmp_path / "trained", tmp_path / "model", instructions="", card=f"# {seed}")
    assert (tmp_path / "model" / "README.md").read_text(encoding="utf-8") == "# 1"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template.startswith("{{ bos")
