"""A language model whose whole outputs are single tokens: every group of them can be listed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.posttrain import CloudAnswers, GAPGConfig, GAPGTrainer
from langchain_hybridflow.testing import ScriptedChatModel

RIGHT = "<think>.</think><answer>right</answer>"
WRONG = "<think>.</think><answer>wrong</answer>"
UNKNOWN = "<think>.</think><answer>unknown</answer>"
VOCABULARY = ("<pad>", "<s>", "</s>", "Q1", "Q2", RIGHT, WRONG, UNKNOWN, ASK_MARKER)
NUMBER = {token: number for number, token in enumerate(VOCABULARY)}


def ruling(_: Any, answer: str) -> bool | None:
    """What is right, what is wrong, and what nobody can say."""
    return {"right": True, "unknown": None}.get(answer, False)


def small_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(NUMBER, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", ASK_MARKER])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
    )


def small_model(*, seed: int = 0, hidden: int = 8, layers: int = 1) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.5,  # far from uniform, so that nothing cancels out by chance
    )
    return LlamaForCausalLM(config)


class Dictated(GAPGTrainer):
    """The trainer, whose model says what it is told; everything after that is the trainer's own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.dictation: list[list[int]] = []

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        if not self.dictation:
            return super()._generate_single_turn(prompt_ids, *_, **__)
        said, self.dictation = self.dictation[: len(prompt_ids)], self.dictation[len(prompt_ids) :]
        return said, None


def settings(place: Path, **options: Any) -> GAPGConfig:
    """Return settings for a small run on the CPU that says and writes nothing."""
    given = {
        "output_dir": str(place),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "max_steps": 2,
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant",
    }
    return GAPGConfig(**given | options)


def trainer_for(
    place: Path,
    *,
    model: Any = None,
    rows: Sequence[Any] = (),
    cloud: str = "right",
    **options: Any,
) -> Dictated:
    """Return a trainer of a small model; its cloud answers always the same."""
    own = {name: options.pop(name) for name in ("peft_config", "optimizers") if name in options}
    place.mkdir(exist_ok=True)
    return Dictated(
        small_model() if model is None else model,
        settings(place, **options),
        list(rows) or [{"prompt": one, "answer": "right"} for one in ("Q1", "Q2") * 8],
        processing_class=small_tokenizer(),
        verifier=ruling,
        cloud=CloudAnswers(
            model=ScriptedChatModel(responses=[cloud] * 100), cache=place / "answers.sqlite"
        ),
        **own,
    )
