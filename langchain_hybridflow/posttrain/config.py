"""The settings of a post-training: TRL's own, and what the methods of this package need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain._trl import GRPOConfig
from langchain_hybridflow.posttrain.advantages import DualVariable
from langchain_hybridflow.posttrain.filtering import PromptFilter, share_of_rho
from langchain_hybridflow.posttrain.groups import Teacher
from langchain_hybridflow.posttrain.rewards import RewardScheme

__all__ = ["GAPGConfig"]

_BY_TRL: Final = ("grpo", "dr_grpo")
"""Methods whose loss is TRL's own, with the loss type of the same name."""

# What the group-level estimator is exact with: samples of the very distribution whose gradient is
# taken, one step for each, and nothing added to the objective.
_EXACT: Final[dict[str, tuple[Any, ...]]] = {
    "num_iterations": (1,),
    "beta": (0.0,),
    "top_p": (1.0,),
    "top_k": (0, None),
    "min_p": (None, 0.0),
    "repetition_penalty": (1.0,),
    "entropy_coef": (0.0,),
    "use_adaptive_entropy": (False,),
    "top_entropy_quantile": (1.0,),
    "off_policy_mask_threshold": (None,),
}


@dataclass
class GAPGConfig(GRPOConfig):
    """All of TRL's `GRPOConfig`, with other defaults where the method wants them, and more.

    `per_device_train_batch_size` counts responses, as in TRL: 64 are 8 prompts of 8 responses.
    A batch of responses is used for one step and then forgotten. There is no reference model.

    Args:
        method: How it is trained: "gapg", or what that is held to: "task" (asking is rewarded
            with 0), "grpo" (TRL's, with the division by the standard deviation), "dr_grpo" (TRL's),
            "rloo" (the estimator of "gapg" without its filter), "da_grpo" (the same, with a price
            for asking that a dual variable moves).
        rho: How many prompts that only the cloud solves are kept for one that the model solves:
            3/7 is a share of 30 % of all traffic.
        carry: What the filter takes over from batch to batch; see `filtering.PromptFilter`.
        probe: Whether the cloud is asked about prompts that nobody solved or asked about; see
            `groups.Teacher`.
        reward_form: "v1" or "v4"; see `rewards`.
        reward_answer: a_a; `None` for the form's own.
        reward_help: a_c; `None` for the form's own.
        reward_format: a_f; `None` for the form's own.
        target_share: tau of "da_grpo"; `None` for rho / (1 + rho).
        dual_step: eta of "da_grpo".
        dual_start: lambda_0 of "da_grpo".
        verify_threads: Answers that are verified at once; for slow verifiers such as `tests`.
        loss_type: For "grpo" and "dr_grpo" only, another loss of TRL than that of their name.

    Raises:
        ConfigurationError: A setting would make the estimator another one than it says.
        MissingExtraError: The extra `rl` is not installed.
    """

    method: str = "gapg"
    rho: float = 3 / 7
    carry: str = "fraction"
    probe: bool = True
    reward_form: str = "v4"
    reward_answer: float | None = None
    reward_help: float | None = None
    reward_format: float | None = None
    target_share: float | None = None
    dual_step: float = 1e-2
    dual_start: float = 0.5
    verify_threads: int = 1
    loss_type: str | None = None
    # Dropout would make the gradient that of another distribution than was sampled from.
    disable_dropout: bool = True
    scale_rewards: str = field(default="")

    def __post_init__(self) -> None:
        given = self.loss_type
        self.scale_rewards = self.scale_rewards or ("group" if self.method == "grpo" else "none")
        self.loss_type = given or (self.method if self.method in _BY_TRL else "dr_grpo")
        super().__post_init__()
        self.teacher()  # says what cannot be
        if type(self.verify_threads) is not int or self.verify_threads < 1:
            raise ConfigurationError(
                f"verify_threads must be an integer >= 1, not {self.verify_threads!r}."
            )
        if self.is_exact:
            self._check_exact(given)

    @property
    def is_exact(self) -> bool:
        """Whether the loss is the group-level estimator, and not one of TRL's."""
        return self.method not in _BY_TRL

    def teacher(self) -> Teacher:
        """Return the method, at its beginning.

        Raises:
            ConfigurationError: Its settings cannot be.
        """
        scheme = RewardScheme.of(
            self.reward_form,  # type: ignore[arg-type]  # checked there
            answer=self.reward_answer,
            help=self.reward_help,
            format=self.reward_format,
        )
        share = share_of_rho(self.rho) if self.target_share is None else self.target_share
        return Teacher(
            method=self.method,  # type: ignore[arg-type]  # checked there
            scheme=scheme,
            prompts=PromptFilter(self.rho, self.carry) if self.method == "gapg" else None,  # type: ignore[arg-type]  # checked there
            price=DualVariable(share, self.dual_step, self.dual_start)
            if self.method == "da_grpo"
            else None,
            probe=self.probe,
        )

    def _check_exact(self, loss_type: str | None) -> None:
        wrong = [
            f"{name}={getattr(self, name)!r} (it must be {allowed[0]!r})"
            for name, allowed in _EXACT.items()
            if getattr(self, name) not in allowed
        ]
        if self.steps_per_generation != self.gradient_accumulation_steps:
            wrong.append(
                f"steps_per_generation={self.steps_per_generation!r} (it must be "
                f"gradient_accumulation_steps, {self.gradient_accumulation_steps})"
            )
        if loss_type is not None:
            wrong.append(f"loss_type={loss_type!r} (it has a loss of its own)")
        if wrong:
            raise ConfigurationError(
                f"The estimator of {self.method} is exact for one step on samples of the policy "
                f"itself, and not with {', '.join(wrong)}. Leave these out, or choose the method "
                f"{' or '.join(_BY_TRL)}."
            )
