"""Post-train a model from settings: what `hybridflow posttrain` does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from langchain_core.language_models import BaseChatModel

from langchain_hybridflow.budget import Budget, Price
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from langchain_hybridflow.calls import model_name
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain._trl import check_installed
from langchain_hybridflow.posttrain.cloud import CloudAnswers, CloudCounts
from langchain_hybridflow.posttrain.prompts import row_of
from langchain_hybridflow.posttrain.resuming import checkpoint_of, remember
from langchain_hybridflow.posttrain.ruling import AnswerVerifier
from langchain_hybridflow.posttrain.settings import NOTE_FILE, PosttrainSettings
from langchain_hybridflow.posttrain.verifying import ScorerVerifier, verifier_of
from langchain_hybridflow.profiling.inquiry import instructions_for
from langchain_hybridflow.profiling.items import read_items
from langchain_hybridflow.sandbox import SANDBOX_PRICES

if TYPE_CHECKING:
    from langchain_hybridflow.posttrain.trainer import GAPGTrainer

__all__ = [
    "POINTS",
    "PosttrainResult",
    "build_trainer",
    "posttrain",
    "told_to_cloud",
]

POINTS: Final = 10
"""Of how many points of the curves a result is the mean: one step has few prompts."""

_COUNTERS: Final = frozenset({"epoch", "learning_rate", "num_tokens", "step"})
_CLOUD_TOLD: Final = {
    "math": "Think step by step. Put the final answer into \\boxed{}.",
    "tests": "Answer with one Python code block and nothing else.",
    "json-schema": "Answer with one JSON value and nothing else.",
}


@dataclass(frozen=True, slots=True)
class PosttrainResult:
    """What came of a post-training.

    Attributes:
        model_dir: The model as others load it; adapters are merged into it, and kept beside it.
        steps: Steps of the whole training, those before a resume included.
        metrics: Means over the last points of the curves, at most `POINTS`.
        cloud: How often the cloud was asked.
        stopped: "budget" if it ended early for that; else `None`.
    """

    model_dir: Path
    steps: int
    metrics: Mapping[str, float]
    cloud: CloudCounts
    stopped: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types, USD as text."""
        return {
            "model": str(self.model_dir),
            "steps": self.steps,
            "metrics": dict(self.metrics),
            "cloud": self.cloud.to_json(),
            "stopped": self.stopped,
        }


def build_trainer(
    settings: PosttrainSettings,
    *,
    cloud: BaseChatModel | None = None,
    prices: Mapping[str, Price] | None = None,
    callbacks: Sequence[Any] = (),
) -> GAPGTrainer:
    """Make the trainer of a run, ready to `train()`.

    Args:
        settings: The settings.
        cloud: The cloud model; only the method "task" goes without.
        prices: Prices by model name, before the built-in list.
        callbacks: Callbacks of transformers' trainer.

    Raises:
        ConfigurationError: Something cannot work as it was given.
        MissingExtraError: The extra `rl` is not installed.
        UnknownPriceError: USD are limited, and nobody has said what the cloud model costs.
    """
    check_installed()
    from transformers import AutoTokenizer, PrinterCallback

    from langchain_hybridflow.posttrain.trainer import GAPGTrainer

    if cloud is None and settings.method != "task":
        raise ConfigurationError(
            f"The method {settings.method} asks the cloud, and there is none. Say which model it "
            f"is, or choose the method task."
        )
    items = read_items(settings.data, seed=settings.seed)
    if len(items) < settings.prompts_per_step:
        raise ConfigurationError(
            f"{settings.data} has {len(items)} prompts, and a step takes "
            f"{settings.prompts_per_step}: not one step could be made. Set prompts_per_step "
            f"(--prompts-per-step) to {len(items)} or less, or give more data."
        )
    verifier = verifier_of(settings.verifier)
    Path(settings.out).mkdir(parents=True, exist_ok=True)
    tokenizer = _read_model(AutoTokenizer.from_pretrained, settings.model, padding_side="left")
    chat = bool(getattr(tokenizer, "chat_template", None))
    rows = [row_of(item, instructions=settings.instructions, chat=chat) for item in items]
    answers = None if cloud is None else _cloud(settings, cloud, prices)
    try:
        trainer: GAPGTrainer = _read_model(
            GAPGTrainer,
            settings.model,
            args=_config(settings),
            train_dataset=rows,
            processing_class=tokenizer,
            verifier=verifier,
            cloud=answers,
            cloud_instructions=told_to_cloud(settings, verifier),
            peft_config=_lora(settings),
            callbacks=list(callbacks),
        )
    except BaseException:
        if answers is not None:
            answers.close()
        raise
    # It prints; who wants to see progress gives a callback. There is no bar: see `disable_tqdm`.
    trainer.remove_callback(PrinterCallback)
    return trainer


def posttrain(
    settings: PosttrainSettings,
    *,
    cloud: BaseChatModel | None = None,
    prices: Mapping[str, Price] | None = None,
    callbacks: Sequence[Any] = (),
    resume: bool | str | Path = False,
) -> PosttrainResult:
    """Post-train a model, and write it down.

    Ended at any moment, it is resumed from its last checkpoint, and buys no answer twice.

    Args:
        settings: The settings.
        cloud: The cloud model; only the method "task" goes without.
        prices: Prices by model name, before the built-in list.
        callbacks: Callbacks of transformers' trainer, to follow it.
        resume: `True` goes on from the last checkpoint in `out`, if there is one; a directory is
            the checkpoint to go on from; `False` refuses to begin where there is one already.

    Raises:
        ConfigurationError: Something cannot work as it was given.
        MissingExtraError: The extra `rl` is not installed.
        ModelCallError: The cloud kept failing.
        UnknownPriceError: USD are limited, and nobody has said what the cloud model costs.
    """
    check_installed()
    checkpoint = checkpoint_of(settings, resume=resume)
    trainer = build_trainer(settings, cloud=cloud, prices=prices, callbacks=callbacks)
    answers = trainer.cloud
    try:
        remember(settings)
        trainer.train(resume_from_checkpoint=checkpoint)
        result = _result(settings, trainer)
        _write_model(settings, trainer, result)
    finally:
        if answers is not None:
            answers.close()
            if answers.budget is not None:
                answers.budget.close()
    return result


def _result(settings: PosttrainSettings, trainer: GAPGTrainer) -> PosttrainResult:
    answers = trainer.cloud
    is_out = answers is not None and answers.exhausted is not None
    return PosttrainResult(
        model_dir=Path(settings.out) / "model",
        steps=int(trainer.state.global_step),
        metrics=_last_points(trainer.state.log_history),
        cloud=CloudCounts() if answers is None else answers.counts,
        stopped="budget" if is_out and settings.on_exhausted == "stop" else None,
    )


def _write_model(
    settings: PosttrainSettings, trainer: GAPGTrainer, result: PosttrainResult
) -> None:
    """Write the model as others use it; of several processes, the first one writes."""
    from langchain_hybridflow.posttrain.card import model_card
    from langchain_hybridflow.posttrain.finishing import finish_model

    raw = Path(settings.out) / ".trained"
    if trainer.accelerator.is_main_process:
        shutil.rmtree(raw, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()  # nobody writes into what is being removed
    trainer.save_model(str(raw))
    trainer.accelerator.wait_for_everyone()
    if not trainer.accelerator.is_main_process:
        return
    told = _system_message(trainer.train_dataset["prompt"])
    _note(raw, settings, told)
    card = model_card(
        settings,
        result,
        cloud=None if trainer.cloud is None else model_name(trainer.cloud.model),
        instructions=told or "",
    )
    finish_model(raw, result.model_dir, instructions=told or "", card=card)


def _read_model(read: Any, name: str, **options: Any) -> Any:
    """Read a model or its tokenizer; what cannot be read is the user's to mend."""
    try:
        return read(name, **options)
    except OSError as error:
        raise ConfigurationError(
            f"The model {name!r} cannot be read: {error}. Give a directory with its weights and "
            f"its tokenizer, or a name on the Hugging Face Hub that this machine can reach."
        ) from error


def _cloud(
    settings: PosttrainSettings, model: BaseChatModel, prices: Mapping[str, Price] | None
) -> CloudAnswers:
    place = Path(settings.out)
    budget = Budget(
        limit_usd=settings.limit_usd,
        max_cloud_calls=settings.max_cloud_calls,
        prices={**SANDBOX_PRICES, **(prices or {})},
        on_exhausted="raise",
        name="posttrain",
        ledger=SQLiteLedger(place / "budget.db"),
        lease_ttl_s=2 * settings.cloud_timeout_s,
    )
    return CloudAnswers(
        model=model,
        budget=budget,
        cache=place / "answers.sqlite",
        options={"max_tokens": settings.cloud_max_tokens},
        parallel=settings.cloud_parallel,
        timeout_s=settings.cloud_timeout_s,
        on_exhausted=settings.on_exhausted,  # type: ignore[arg-type]  # checked by the settings
    )


def told_to_cloud(settings: PosttrainSettings, verifier: AnswerVerifier) -> str:
    """Return the system message of the cloud; empty for none."""
    if settings.cloud_instructions is not None:
        return settings.cloud_instructions
    if isinstance(verifier, ScorerVerifier):
        return instructions_for(verifier.scorer)
    return _CLOUD_TOLD.get(verifier.name, "")


def _lora(settings: PosttrainSettings) -> Any:
    if settings.lora is None:
        return None
    from peft import LoraConfig

    options = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", **settings.lora}
    try:
        return LoraConfig(**options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The settings of lora are none of peft.LoraConfig: {error}."
        ) from error


def _config(settings: PosttrainSettings) -> Any:
    import torch

    from langchain_hybridflow.posttrain.config import GAPGConfig

    given = dict(settings.trainer)
    responses = settings.prompts_per_step * settings.group
    here = int(os.environ.get("WORLD_SIZE", "1"))
    at_once = given.pop("per_device_train_batch_size", min(settings.group, responses // here or 1))
    if type(at_once) is not int or at_once < 1 or responses % (at_once * here):
        raise ConfigurationError(
            f"A step has {responses} responses ({settings.prompts_per_step} prompts of "
            f"{settings.group}), which cannot be cut into parts of {at_once!r} on {here} "
            f"processes. Choose a per_device_train_batch_size that divides it."
        )
    options: dict[str, Any] = {
        "output_dir": settings.out,
        "method": settings.method,
        "rho": settings.ratio,
        "reward_form": settings.reward,
        "reward_answer": settings.reward_answer,
        "reward_help": settings.reward_help,
        "reward_format": settings.reward_format,
        "num_generations": settings.group,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": responses // (at_once * here),
        "max_completion_length": settings.max_new_tokens,
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
        "save_steps": settings.save_every,
        "logging_steps": settings.log_every,
        "report_to": _reports(settings),
        "disable_tqdm": True,
    }
    if not torch.accelerator.is_available():
        options |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False}
    try:
        return GAPGConfig(**options | given)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"The trainer cannot work with these settings: {error}") from error


def _reports(settings: PosttrainSettings) -> list[str]:
    """Write curves for TensorBoard, where it is installed."""
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        return []
    place = settings.logdir or str(Path(settings.out) / "logs")
    os.environ["TENSORBOARD_LOGGING_DIR"] = place  # transformers has no other way to be told
    return ["tensorboard"]


def _system_message(prompts: Sequence[Any]) -> str | None:
    """Return what the model is told first, `None` if it is not a chat model, or nothing."""
    first = prompts[0] if len(prompts) else None
    system = (
        [one["content"] for one in first if one["role"] == "system"]
        if isinstance(first, list)
        else []
    )
    return system[0] if system else None


def _note(place: Path, settings: PosttrainSettings, told: str | None) -> None:
    """Write down beside the model how it wants to be asked."""
    facts = {
        "method": settings.method,
        "rho": settings.ratio,
        "reward": settings.reward,
        "system_message": told,
    }
    (place / NOTE_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _last_points(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the means of the last points of the curves; of what only adds up, the last value."""
    points = [one for one in history if "reward_mean" in one][-POINTS:]
    found: dict[str, list[float]] = {}
    for point in points:
        for name, value in point.items():
            if isinstance(value, int | float) and isfinite(value):
                found.setdefault(name, []).append(float(value))
    return {
        name: values[-1] if name.startswith("cloud/") or name in _COUNTERS else fmean(values)
        for name, values in found.items()
    }
