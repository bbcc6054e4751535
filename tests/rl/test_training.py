"""Trainings of small models: all methods, accumulation, adapters, resume, cloud and budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.budget import Budget
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain import METHODS, CloudAnswers, GAPGTrainer
from langchain_hybridflow.testing import ScriptedChatModel
from tests.rl.analytic_model import (
    NUMBER,
    RIGHT,
    UNKNOWN,
    WRONG,
    Dictated,
    ruling,
    settings,
    small_model,
    small_tokenizer,
    trainer_for,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SOLVED = [[NUMBER[one]] for one in (RIGHT, WRONG, ASK_MARKER, WRONG)]
LOST = [[NUMBER[one]] for one in (WRONG, WRONG, ASK_MARKER, WRONG)]


def weights_of(trainer: Any) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in trainer.model.parameters()]).double()


def metric(trainer: Any, name: str) -> list[float]:
    return [one[name] for one in trainer.state.log_history if name in one]


@pytest.mark.parametrize("method", METHODS)
def test_training_moves_the_model_by_every_method(tmp_path: Path, method: str) -> None:
    trainer = trainer_for(tmp_path, method=method, learning_rate=1e-2, rho=1.0)
    before = weights_of(trainer)
    trainer.dictation = [list(one) for one in (SOLVED + LOST) * 2]
    trainer.train()
    after = weights_of(trainer)
    assert torch.isfinite(after).all()
    assert (after - before).norm() > 1e-3


def test_policy_learns_to_answer_when_it_is_trained(tmp_path: Path) -> None:
    """No dictation: the model samples for itself."""
    trainer = trainer_for(
        tmp_path,
        learning_rate=2e-2,
        max_steps=20,
        max_completion_length=1,
        per_device_train_batch_size=64,
        num_generations=8,
    )
    trainer.train()
    accuracy = metric(trainer, "local_accuracy")
    assert accuracy[0] < 0.4
    assert sum(accuracy[-5:]) / 5 > 0.8


def test_group_normalisation_of_grpo_is_that_of_trl(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, method="grpo")
    trainer.model.train()
    trainer.dictation = [list(one) for one in SOLVED]
    rows = [{"prompt": "Q1", "answer": "right"}] * 4
    advantages = trainer._generate_and_score_completions(rows)["advantages"]
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.0])
    torch.testing.assert_close(advantages, (rewards - rewards.mean()) / (rewards.std() + 1e-4))


def one_step(place: Path, **options: Any) -> torch.Tensor:
    model = small_model(hidden=16, layers=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = trainer_for(place, model=model, optimizers=(optimizer, None), max_steps=2, **options)
    trainer.train()
    return weights_of(trainer)


@pytest.mark.parametrize("method", ["gapg", "rloo", "da_grpo"])
def test_accumulated_small_batches_equal_a_big_one(tmp_path: Path, method: str) -> None:
    start = torch.cat([one.flatten() for one in small_model(hidden=16, layers=2).parameters()])
    big = one_step(tmp_path / "big", method=method, per_device_train_batch_size=16)
    small = one_step(
        tmp_path / "small",
        method=method,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
    )
    assert (big - start).norm() > 1e-3
    torch.testing.assert_close(small, big, rtol=1e-4, atol=1e-6)


def test_adapters_are_trained_and_nothing_else(tmp_path: Path) -> None:
    from peft import LoraConfig

    adapters = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = trainer_for(tmp_path, peft_config=adapters, learning_rate=1e-2)
    before = {name: one.detach().clone() for name, one in trainer.model.named_parameters()}
    trainer.dictation = [list(one) for one in (SOLVED + SOLVED) * 2]
    trainer.train()
    changed = {
        name for name, one in trainer.model.named_parameters() if not torch.equal(one, before[name])
    }
    assert changed
    assert all("lora" in name for name in changed)


@pytest.mark.parametrize("method", ["gapg", "da_grpo"])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, method: str) -> None:
    options = {"method": method, "learning_rate": 1e-2, "save_strategy": "steps", "save_steps": 3}
    whole = trainer_for(tmp_path / "whole", max_steps=6, **options)
    whole.train()
    # It is killed after its checkpoint: whatever came later is lost.
    killed = trainer_for(tmp_path / "killed", max_steps=6, **options)
    killed.add_callback(_StopAt(4))
    killed.train()
    resumed = trainer_for(tmp_path / "killed", max_steps=6, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-3"))
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=0, atol=0)
    assert resumed.teacher.state() == whole.teacher.state()
    assert metric(resumed, "cloud/asked")[-1] == metric(whole, "cloud/asked")[-1]


class _StopAt:
    def __new__(cls, step: int) -> Any:
        from transformers import TrainerCallback

        class Stopping(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                control.should_training_stop = state.global_step >= step

        return Stopping()


def test_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    first = trainer_for(tmp_path, method="rloo", save_strategy="steps", save_steps=1)
    first.train()
    other = trainer_for(tmp_path, method="gapg", max_steps=4)
    with pytest.raises(ConfigurationError, match="made by the method rloo"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_cloud_is_asked_once_for_a_prompt_of_several_responses(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, rho=1.0, max_steps=1)
    trainer.dictation = [list(one) for one in SOLVED + LOST]
    trainer.train()
    assert trainer.cloud is not None
    assert trainer.cloud.counts.asked == 2
    assert metric(trainer, "filter/local") == [1.0]
    assert metric(trainer, "filter/help") == [1.0]
    assert metric(trainer, "overall_accuracy") == [pytest.approx(3 / 8)]


def test_cloud_is_sent_the_question_and_not_what_the_model_reads(tmp_path: Path) -> None:
    cloud = ScriptedChatModel(responses=["right"] * 4)
    trainer = Dictated(
        small_model(),
        settings(tmp_path, per_device_train_batch_size=4, max_steps=1),
        [{"prompt": "Q1", "question": "What is it?", "answer": "right"}] * 2,
        processing_class=small_tokenizer(),
        verifier=ruling,
        cloud=CloudAnswers(model=cloud, cache=tmp_path / "answers.sqlite"),
        cloud_instructions="Be brief.",
    )
    trainer.dictation = [list(one) for one in SOLVED]
    trainer.train()
    assert [one.content for one in cloud.calls[0]] == ["Be brief.", "What is it?"]


def budgeted(place: Path, on_exhausted: Any) -> Dictated:
    trainer = trainer_for(place, rho=1.0, max_steps=3, learning_rate=1e-2)
    trainer.cloud = CloudAnswers(
        model=ScriptedChatModel(responses=["right"] * 9),
        cache=place / "other.sqlite",
        budget=Budget(max_cloud_calls=1),
        on_exhausted=on_exhausted,
        parallel=1,
    )
    trainer.dictation = [list(one) for one in (SOLVED + SOLVED) * 3]
    return trainer


def test_training_goes_on_with_the_answers_that_are_there_when_the_budget_is_spent(
    tmp_path: Path,
) -> None:
    trainer = budgeted(tmp_path, "go_on")
    trainer.train()
    assert trainer.state.global_step == 3
    assert trainer.cloud is not None
    assert (trainer.cloud.counts.bought, trainer.cloud.counts.refused) == (1, 1)
    # Asking where no answer could be had is not wrong: it carries no signal.
    assert metric(trainer, "unverified_rate")[0] == pytest.approx(1 / 8)


def test_training_ends_after_the_step_when_the_budget_is_spent_and_that_is_wanted(
    tmp_path: Path,
) -> None:
    trainer = budgeted(tmp_path, "stop")
    trainer.train()
    assert trainer.state.global_step == 1
    assert (tmp_path / "checkpoint-1").is_dir()


def test_chat_model_is_a_cloud_with_the_budget_beside_it(tmp_path: Path) -> None:
    budget = Budget(max_cloud_calls=1)
    trainer = Dictated(
        small_model(),
        settings(tmp_path, max_steps=1),
        [{"prompt": one, "answer": "right"} for one in ("Q1", "Q2")],
        processing_class=small_tokenizer(),
        verifier=ruling,
        cloud=ScriptedChatModel(responses=["right"] * 9),
        budget=budget,
    )
    trainer.dictation = [list(one) for one in SOLVED + LOST]
    trainer.train()
    assert budget.snapshot()["cloud_calls"]["spent"] == 1
    assert (tmp_path / "answers.sqlite").is_file()


def test_budget_is_refused_beside_a_cloud_that_has_its_own(tmp_path: Path) -> None:
    cloud = CloudAnswers(model=ScriptedChatModel(responses=["x"]), cache=tmp_path / "a.sqlite")
    with pytest.raises(ConfigurationError, match="CloudAnswers has its own"):
        GAPGTrainer(small_model(), settings(tmp_path), [], cloud=cloud, budget=Budget())


def test_response_that_cannot_be_verified_has_no_weight(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, method="rloo")
    trainer.model.train()
    trainer.dictation = [[NUMBER[one]] for one in (RIGHT, UNKNOWN, WRONG, UNKNOWN)]
    rows = [{"prompt": "Q1", "answer": "right"}] * 4
    found = trainer._generate_and_score_completions(rows)["advantages"]
    torch.testing.assert_close(found, torch.tensor([0.5, 0.0, -0.5, 0.0]))


def test_truncated_response_has_no_weight_when_such_are_masked(tmp_path: Path) -> None:
    end = NUMBER["</s>"]
    trainer = trainer_for(tmp_path, method="rloo", mask_truncated_completions=True)
    trainer.model.train()
    trainer.dictation = [[NUMBER[RIGHT], end], [NUMBER[WRONG]], [NUMBER[WRONG], end], [end]]
    rows = [{"prompt": "Q1", "answer": "right"}] * 4
    found = trainer._generate_and_score_completions(rows)["advantages"]
    torch.testing.assert_close(found, torch.tensor([1 / 3, 0.0, -1 / 6, -1 / 6]))


def test_step_without_a_kept_prompt_has_a_gradient_of_zero(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, learning_rate=1e-2, cloud="wrong", max_steps=1)
    before = weights_of(trainer)
    trainer.dictation = [list(one) for one in LOST + LOST]
    trainer.train()
    assert metric(trainer, "grad_norm") == [0.0]
    torch.testing.assert_close(weights_of(trainer), before)


def test_evaluation_tells_the_accuracy_and_teaches_nothing(tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path, method="da_grpo", per_device_eval_batch_size=8, num_generations_eval=4
    )
    before = trainer.teacher.state()
    trainer.dictation = [list(one) for one in SOLVED + LOST]
    from datasets import Dataset

    rows = Dataset.from_list([{"prompt": one, "answer": "right"} for one in ("Q1", "Q2")])
    found = trainer.evaluate(rows)
    assert found["eval_local_accuracy"] == pytest.approx(1 / 8)
    assert found["eval_overall_accuracy"] == pytest.approx(3 / 8)
    assert trainer.teacher.state() == before


def test_chat_messages_are_prompts_too(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.chat_template = "{% for one in messages %}{{ one['content'] }} {% endfor %}"
    cloud = ScriptedChatModel(responses=["right"] * 9)
    messages = [{"role": "system", "content": "Q2"}, {"role": "user", "content": "Q1"}]
    trainer = Dictated(
        small_model(),
        settings(tmp_path, per_device_train_batch_size=4, max_steps=1),
        [{"prompt": messages, "answer": "right"}] * 2,
        processing_class=tokenizer,
        verifier=ruling,
        cloud=CloudAnswers(model=cloud, cache=tmp_path / "answers.sqlite"),
    )
    trainer.dictation = [list(one) for one in SOLVED]
    trainer.train()
    assert [one.content for one in cloud.calls[0]] == ["Q1"]
    assert metric(trainer, "ask_rate") == [0.25]


def test_method_that_asks_is_refused_without_a_cloud(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="asks the cloud, and there is none"):
        GAPGTrainer(small_model(), settings(tmp_path), [{"prompt": "Q1", "answer": "right"}])


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0.1},
        {"top_p": 0.9},
        {"top_k": 20},
        {"num_iterations": 2},
        {"steps_per_generation": 2},
        {"repetition_penalty": 1.1},
        {"loss_type": "dapo"},
    ],
)
def test_settings_under_which_the_estimator_is_not_exact_are_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=f"not with {next(iter(options))}"):
        settings(tmp_path, **options)


def test_settings_of_trl_stay_free_when_the_loss_is_trls(tmp_path: Path) -> None:
    assert settings(tmp_path, method="grpo", beta=0.1, loss_type="dapo").loss_type == "dapo"
