"""GAPG on TRL's GRPO trainer: its generation, accelerate, PEFT and vLLM; our reward and loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_hybridflow.answer_or_ask import read_reply
from langchain_hybridflow.budget import Budget
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain._trl import GRPOTrainer, check_installed
from langchain_hybridflow.posttrain.cloud import CloudAnswers
from langchain_hybridflow.posttrain.config import GAPGConfig
from langchain_hybridflow.posttrain.groups import Group, Lesson, Response
from langchain_hybridflow.posttrain.prompts import cloud_messages, item_of, packed
from langchain_hybridflow.posttrain.rewards import Status
from langchain_hybridflow.posttrain.ruling import AnswerVerifier
from langchain_hybridflow.posttrain.settings import STATE_FILE
from langchain_hybridflow.posttrain.verifying import rule_on, verifier_of, whole_answer
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.scoring import Scorer

if TYPE_CHECKING:
    import torch

__all__ = ["GAPGTrainer"]

_TEXT_ONLY: Final = frozenset(
    {
        "advantages",
        "completion_ids",
        "completion_mask",
        "importance_sampling_ratio",
        "num_items_in_batch",
        "old_per_token_logps",
        "prompt_ids",
        "prompt_mask",
        "sampling_per_token_logps",
        "tool_mask",
    }
)


def answer_or_ask(**_: Any) -> list[float]:
    """Give the reward its name in TRL's logs; the trainer works it out itself."""
    raise AssertionError("rewards come from the trainer")


class GAPGTrainer(GRPOTrainer):
    """Train a model to answer, or to ask the cloud: GAPG, and the methods that it is held to.

    It is TRL's `GRPOTrainer` in all but two things. What a response is worth is found out here: it
    is read (`answer_or_ask`), its answer is verified, and the cloud is asked where that matters,
    once for a prompt. And the loss is the group-level estimator, 1/(G-1) sum_i grad log pi(y_i|x)
    (r_i - mean r), averaged over the prompts that are kept: whole sequences, no division by the
    standard deviation or by lengths, no clipping. For the methods "grpo" and "dr_grpo" the loss is
    TRL's.

    A row of the data has a `prompt` (text, or chat messages) and an `answer`, which the verifier
    compares with; `question` is what the cloud is asked, by default the prompt without its system
    messages; all other columns are there for the verifier. Texts of strangers go through
    `answer_or_ask.strip_markers` before they become prompts; `posttrain` sees to that.

    Args:
        model: A model, or its name or directory, as for TRL.
        args: The settings.
        train_dataset: A `datasets.Dataset`, or a list of rows.
        eval_dataset: Likewise; `None` for no evaluation.
        verifier: How answers are verified, see `verifying.verifier_of`.
        cloud: The cloud: a chat model, or `CloudAnswers` for all settings of it. Only the method
            "task" goes without.
        budget: What the calls of a chat model are held against.
        cloud_instructions: System message of the cloud.
        **options: Whatever else `GRPOTrainer` takes: `processing_class`, `peft_config`,
            `callbacks`, `optimizers`, ...

    Attributes:
        teacher: The method, and what it remembers.
        cloud: The cloud; `None` without one.

    Raises:
        ConfigurationError: Something cannot work as it was given.
        MissingExtraError: The extra `rl` is not installed.
    """

    _name = "GAPG"
    _tag_names = ("trl", "gapg")
    _paper: Final[dict[str, str]] = {}  # TRL's model card would name GRPO's

    def __init__(
        self,
        model: Any,
        args: GAPGConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        verifier: str | AnswerVerifier | Scorer | Callable[[Item, str], Any] = "exact",
        cloud: BaseChatModel | CloudAnswers | None = None,
        budget: Budget | None = None,
        cloud_instructions: str | None = None,
        **options: Any,
    ) -> None:
        check_installed()
        settings = GAPGConfig() if args is None else args
        self.teacher = settings.teacher()
        self.verifier = verifier_of(verifier)
        self.cloud = _cloud_of(cloud, budget, settings)
        if self.cloud is None and self.teacher.wants_help:
            raise ConfigurationError(
                f"The method {settings.method} asks the cloud, and there is none: give a chat "
                f"model as `cloud`, or choose the method task."
            )
        self._cloud_instructions = cloud_instructions
        self._lesson: Lesson | None = None
        super().__init__(
            model=model,
            reward_funcs=[answer_or_ask],
            args=settings,
            train_dataset=_dataset(train_dataset),
            eval_dataset=_dataset(eval_dataset),
            **options,
        )

    # What a response is worth

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        """Read and verify the responses, ask the cloud, and return the rewards of all processes."""
        import torch
        from accelerate.utils import gather_object

        is_training = bool(self.model.training)
        items = [item_of(row, prompt) for row, prompt in zip(inputs, prompts, strict=True)]
        mine = list(zip(items, inputs, self._responses(items, completion_ids_list), strict=True))
        everyone = gather_object(mine)
        size = self.num_generations if is_training else self.num_generations_eval
        groups = [
            Group(tuple(response for _, _, response in everyone[start : start + size]))
            for start in range(0, len(everyone), size)
        ]
        firsts = [everyone[start] for start in range(0, len(everyone), size)]
        groups = self._with_cloud(groups, [(item, row) for item, row, _ in firsts])
        self._lesson = self.teacher.teach(
            groups, seed=f"{self.args.seed}/{self.state.global_step}", learns=is_training
        )
        self._log_lesson("train" if is_training else "eval")
        rewards = [float("nan") if one is None else one for one in self._lesson.rewards]
        return torch.tensor(rewards, dtype=torch.float32, device=self.accelerator.device)[:, None]

    def _responses(
        self, items: Sequence[Item], completion_ids: Sequence[list[int]]
    ) -> list[Response]:
        """Read and verify this process's responses."""
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        whole = [bool(ids) and ids[-1] in ends for ids in completion_ids]
        # With special tokens: the format's own tags may be such.
        replies = [
            read_reply(self._tokenizer.decode(_without_end(ids, ends), skip_special_tokens=False))
            for ids in completion_ids
        ]
        own = [
            (place, (item, reply.answer))
            for place, (item, reply) in enumerate(zip(items, replies, strict=True))
            if not reply.asks
        ]
        rulings = rule_on(
            self.verifier, [pair for _, pair in own], threads=self.args.verify_threads
        )
        status: dict[int, Status] = {
            place: ruling.status for (place, _), ruling in zip(own, rulings, strict=True)
        }
        masked = self.args.mask_truncated_completions
        return [
            Response(
                reply=reply,
                own=status.get(place),
                truncated=not is_whole,
                left_out=masked and not is_whole,
            )
            for place, (reply, is_whole) in enumerate(zip(replies, whole, strict=True))
        ]

    def _with_cloud(
        self, groups: Sequence[Group], asked: Sequence[tuple[Item, Mapping[str, Any]]]
    ) -> list[Group]:
        """Ask the cloud about the prompts where that matters; the main process asks for all."""
        from accelerate.utils import broadcast_object_list

        wanted = [place for place, group in enumerate(groups) if self.teacher.needs_cloud(group)]
        said: list[Any] = [[None] * len(wanted), False]
        cloud = self.cloud
        if wanted and cloud is not None and self.accelerator.is_main_process:
            said[0] = self._statuses(cloud, [asked[place] for place in wanted])
            said[1] = cloud.exhausted is not None and cloud.on_exhausted == "stop"
        if self.accelerator.num_processes > 1:
            broadcast_object_list(said)
        known: dict[int, Status | None] = dict(zip(wanted, said[0], strict=True))
        if said[1]:
            self.control.should_training_stop = True
            self.control.should_save = True
        return [Group(group.responses, known.get(place)) for place, group in enumerate(groups)]

    def _statuses(
        self, cloud: CloudAnswers, asked: Sequence[tuple[Item, Mapping[str, Any]]]
    ) -> list[Status | None]:
        prompts: list[list[BaseMessage]] = [
            cloud_messages(row, instructions=self._cloud_instructions) for _, row in asked
        ]
        texts = cloud.answers(prompts)
        there = [place for place, text in enumerate(texts) if text is not None]
        pairs = [(asked[place][0], whole_answer(texts[place] or "")) for place in there]
        rulings = rule_on(self.verifier, pairs, threads=self.args.verify_threads)
        status = {place: one.status for place, one in zip(there, rulings, strict=True)}
        return [status.get(place) for place in range(len(texts))]

    def _log_lesson(self, mode: str) -> None:
        if self._lesson is None:
            return
        metrics = dict(self._lesson.metrics)
        if self.cloud is not None:
            counts = self.cloud.counts
            metrics |= {
                f"cloud/{name}": float(getattr(counts, name))
                for name in ("asked", "cached", "bought", "failed", "refused")
            }
        for name, value in metrics.items():
            if name.startswith("cloud/") and name != "cloud/accuracy":
                self._metrics[mode][name] = [value]  # a total, not a mean
            elif not isnan(value):  # the share of nothing is no point of a curve
                self._metrics[mode][name].append(value)

    def _send_telemetry(self) -> None:
        """Tell nobody: nothing of this package phones home."""

    # What is learned from it

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        lesson, self._lesson = self._lesson, None
        if self.args.is_exact and lesson is not None:
            import torch

            first = self.accelerator.process_index * len(inputs)
            mine = lesson.weights[first : first + len(inputs)]
            old = output["advantages"]
            output["advantages"] = torch.tensor(mine, dtype=old.dtype, device=old.device)
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Return - sum_i w_i log pi(y_i|x_i), over what is here of the batch.

        The weights hold everything else: the baseline, 1/(G-1), and the mean over prompts. So the
        sum over all micro-batches and processes is the estimate, however they are cut.
        """
        if not self.args.is_exact:
            return super()._compute_loss(model, inputs)
        inputs = _with_weight(inputs)
        mask = inputs["completion_mask"]
        logps, entropies, aux_loss = self._get_per_token_logps_and_entropies(
            model,
            _joined(inputs, "ids"),
            _joined(inputs, "mask"),
            mask.size(1),
            compute_entropy=True,
            compute_aux_loss=self.aux_loss_enabled,
            **{name: value for name, value in inputs.items() if name not in _TEXT_ONLY},
        )
        mask = mask if "tool_mask" not in inputs else mask * inputs["tool_mask"]
        counted = mask
        if "importance_sampling_ratio" in inputs:  # vLLM sampled from slightly other numbers
            counted = mask * inputs["importance_sampling_ratio"]
        sequence_logps = (logps * counted).sum(-1)
        # Processes average their gradients, and this is a sum over all of them.
        loss = -(inputs["advantages"] * sequence_logps).sum() * self.accelerator.num_processes
        mode = "train" if self.model.training else "eval"
        entropy = (entropies.detach() * mask).sum() / mask.sum().clamp(min=1)
        self._metrics[mode]["entropy"].append(self.accelerator.gather(entropy).mean().item())
        if self.aux_loss_enabled:
            steps = self.current_gradient_accumulation_steps if mode == "train" else 1
            loss = loss + self.router_aux_loss_coef * aux_loss / steps
        return loss

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if not self.args.should_save:
            return
        from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

        place = Path(self._get_output_dir(trial=trial))
        place = place / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        state = {
            "teacher": self.teacher.state(),
            "cloud": None if self.cloud is None else self.cloud.counts.to_json(),
        }
        written = place / f".{STATE_FILE}"
        written.write_text(json.dumps(state), encoding="utf-8")
        written.replace(place / STATE_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._remember(checkpoint)

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **options: Any) -> Any:
        """Train, as TRL does; of a training that is done already, only take what came of it.

        Without that, transformers makes a further step, and the cloud is asked for it.
        """
        done = self._done(resume_from_checkpoint)
        if done is None:
            return super().train(resume_from_checkpoint, *args, **options)
        from transformers.trainer_utils import TrainOutput

        self._load_from_checkpoint(resume_from_checkpoint)
        self._remember(resume_from_checkpoint)
        self.state = done
        return TrainOutput(done.global_step, 0.0, {})

    def _done(self, checkpoint: Any) -> Any:
        """Return the state of a checkpoint that has all steps already; else `None`."""
        from transformers.trainer_callback import TrainerState

        path = Path(checkpoint, "trainer_state.json") if isinstance(checkpoint, str) else None
        if path is None or self.args.max_steps < 1 or not path.is_file():
            return None
        state: Any = TrainerState.load_from_json(str(path))
        return state if state.global_step >= self.args.max_steps else None

    def _remember(self, checkpoint: str) -> None:
        path = Path(checkpoint) / STATE_FILE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{path} cannot be read ({error}): nobody knows how far this training was. Resume "
                f"from another checkpoint, or begin anew."
            ) from error
        self.teacher.restore(state["teacher"])
        if self.cloud is not None and state["cloud"] is not None:
            self.cloud.counts.restore(state["cloud"])


def _dataset(rows: Any) -> Any:
    """Return a list of rows as a dataset; anything else as it is."""
    if not isinstance(rows, list | tuple):
        return rows
    from datasets import Dataset

    return Dataset.from_list([row if "item" in row else packed(row) for row in rows])


def _cloud_of(
    cloud: BaseChatModel | CloudAnswers | None, budget: Budget | None, settings: GAPGConfig
) -> CloudAnswers | None:
    if isinstance(cloud, CloudAnswers) or cloud is None:
        if budget is not None:
            raise ConfigurationError("A budget goes with a chat model; CloudAnswers has its own.")
        return cloud
    place = Path(settings.output_dir or ".")
    place.mkdir(parents=True, exist_ok=True)
    return CloudAnswers(model=cloud, budget=budget, cache=place / "answers.sqlite")


def _without_end(ids: Sequence[int], ends: set[int]) -> list[int]:
    last = len(ids)
    while last and ids[last - 1] in ends:
        last -= 1
    return list(ids[:last])


def _with_weight(inputs: dict[str, Any]) -> dict[str, Any]:
    """Leave out the responses that weigh nothing, and the padding that only they needed.

    They add nothing to the gradient, and often are the most. One is kept in any case, so that
    every process has a loss to go back from.
    """
    if not inputs.keys() <= _TEXT_ONLY:  # images are not cut by rows
        return inputs
    rows = inputs["advantages"].nonzero().flatten()
    if not len(rows):
        rows = rows.new_zeros(1)
    kept = {
        name: value if name == "num_items_in_batch" else value[rows]
        for name, value in inputs.items()
    }
    width = int(kept["completion_mask"].sum(1).max().clamp(min=1))
    skipped = int((kept["prompt_mask"].sum(0) == 0).sum())
    cut = {"prompt_ids": slice(skipped, None), "prompt_mask": slice(skipped, None)}
    for name, value in kept.items():
        if name not in cut and value.dim() == 2 and value.size(1) > 1:
            cut[name] = slice(width)
    return kept | {name: kept[name][:, where] for name, where in cut.items()}


def _joined(inputs: Mapping[str, Any], what: str) -> Any:
    import torch

    return torch.cat([inputs[f"prompt_{what}"], inputs[f"completion_{what}"]], dim=1)
