"""All settings of a post-training in plain values, as a configuration file has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.cloud import ON_EXHAUSTED
from langchain_hybridflow.posttrain.filtering import rho_of_share
from langchain_hybridflow.posttrain.groups import METHODS
from langchain_hybridflow.posttrain.rewards import REWARD_FORMS, RewardScheme

__all__ = ["NOTE_FILE", "STATE_FILE", "PosttrainSettings"]

NOTE_FILE: Final = "answer_or_ask.json"
"""Beside a model: how it was trained to answer or ask, and how it wants to be told."""

STATE_FILE: Final = "hybridflow.json"
"""What is written last into a checkpoint: one that has it is whole."""

_COUNTS = (
    "cloud_max_tokens",
    "cloud_parallel",
    "steps",
    "prompts_per_step",
    "group",
    "max_new_tokens",
    "save_every",
    "log_every",
)
_DEFAULT_RHO = 3 / 7
_KINDS: Final[dict[str, tuple[str, tuple[type, ...]]]] = {
    name: kind
    for kind, names in (
        (("text", (str,)), "model data out verifier instructions cloud_instructions logdir"),
        (("an integer", (int,)), "max_cloud_calls seed"),
        (
            ("a number", (int, float)),
            "rho share reward_answer reward_help reward_format cloud_timeout_s learning_rate",
        ),
        (("a table of options", (Mapping,)), "lora trainer"),
    )
    for name in names.split()
}
"""What a setting has to be, in words and as types."""


def _check_usd(limit: float | str) -> None:
    try:
        is_money = not isinstance(limit, bool) and Decimal(str(limit)).is_finite()
    except InvalidOperation:
        is_money = False
    if not is_money or Decimal(str(limit)) < 0:
        raise ConfigurationError(f"limit_usd must be an amount in USD, >= 0, not {limit!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PosttrainSettings:
    """What is trained, on what, how, and where it goes.

    Args:
        model: A name on the Hugging Face Hub, or a directory.
        data: A file of questions with their answers, as `profiling.items` reads it.
        out: The directory of the run: checkpoints, the cloud's answers (`answers.sqlite`), the
            ledger (`budget.db`), the curves (`logs`), and at the end the model (`model`).
        method: One of `METHODS`.
        rho: Prompts that only the cloud solves, for one that the model solves, at most.
        share: The same as a share of all prompts, rho / (1 + rho); one of both, by default 3/7.
        reward: "v1" or "v4".
        reward_answer: a_a; `None` for the form's own.
        reward_help: a_c; `None` for the form's own.
        reward_format: a_f; `None` for the form's own.
        verifier: By name, see `verifying`.
        instructions: System message of the model; `None` for `prompts.INSTRUCTIONS` if it is a
            chat model, empty for none.
        cloud_instructions: System message of the cloud; `None` for what suits the verifier.
        limit_usd: What the cloud may cost, in USD, in all runs in `out` together.
        max_cloud_calls: How often it may be called, in all of them together.
        on_exhausted: "go_on" with the answers that are there, or "stop".
        cloud_max_tokens: Longest answer of the cloud, in tokens.
        cloud_parallel: Cloud calls at once.
        cloud_timeout_s: Longest wait for one, in seconds.
        lora: Options of `peft.LoraConfig` (empty for its defaults); `None` trains all weights.
        steps: Steps.
        prompts_per_step: Prompts of a step.
        group: Responses to each prompt (G).
        max_new_tokens: Longest response, in tokens.
        learning_rate: Of the optimizer.
        seed: Of all that is random.
        save_every: Steps between checkpoints.
        log_every: Steps between two points of the curves.
        logdir: Where TensorBoard finds the curves; `None` for `logs` in `out`.
        trainer: Any other options of `GAPGConfig`, which are TRL's.

    Raises:
        ConfigurationError: A value cannot be.

    Example:
        >>> settings = PosttrainSettings(model="m", data="train.jsonl", out="run", share=0.5)
        >>> settings.ratio
        1.0
    """

    model: str
    data: str
    out: str
    method: str = "gapg"
    rho: float | None = None
    share: float | None = None
    reward: str = "v4"
    reward_answer: float | None = None
    reward_help: float | None = None
    reward_format: float | None = None
    verifier: str = "exact"
    instructions: str | None = None
    cloud_instructions: str | None = None
    limit_usd: float | str | None = None
    max_cloud_calls: int | None = None
    on_exhausted: str = "go_on"
    cloud_max_tokens: int = 2048
    cloud_parallel: int = 8
    cloud_timeout_s: float = 120.0
    lora: Mapping[str, Any] | None = None
    steps: int = 200
    prompts_per_step: int = 16
    group: int = 8
    max_new_tokens: int = 1024
    learning_rate: float = 1e-6
    seed: int = 0
    save_every: int = 50
    log_every: int = 1
    logdir: str | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_kinds()
        for name, known in (
            ("method", METHODS),
            ("reward", REWARD_FORMS),
            ("on_exhausted", ON_EXHAUSTED),
        ):
            if getattr(self, name) not in known:
                raise ConfigurationError(
                    f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}."
                )
        for name in _COUNTS:
            count = getattr(self, name)
            if type(count) is not int or count < 1:
                raise ConfigurationError(f"{name} must be an integer >= 1, not {count!r}.")
        if self.group < 2:
            raise ConfigurationError("group must be 2 or more: one response has no baseline.")
        for name in ("learning_rate", "cloud_timeout_s"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and isfinite(value) and value > 0):
                raise ConfigurationError(f"{name} must be > 0 and finite, not {value!r}.")
        if self.rho is not None and self.share is not None:
            raise ConfigurationError("rho and share say the same: give one of them.")
        if self.rho is not None and not (isfinite(self.rho) and self.rho >= 0):
            raise ConfigurationError(f"rho must be >= 0 and finite, not {self.rho!r}.")
        _ = self.ratio, self.scheme

    def _check_kinds(self) -> None:
        """Whoever writes a file by hand puts a number in quotation marks now and then."""
        for name, (wanted, kinds) in _KINDS.items():
            value = getattr(self, name)
            optional = type(self).__dataclass_fields__[name].default is None
            is_right = isinstance(value, kinds) and not isinstance(value, bool)
            if not (is_right or (optional and value is None)):
                raise ConfigurationError(f"{name} must be {wanted}, not {value!r}.")
        if self.seed < 0 or (self.max_cloud_calls or 0) < 0:
            raise ConfigurationError("seed and max_cloud_calls must be 0 or more.")
        if self.limit_usd is not None:
            _check_usd(self.limit_usd)

    @property
    def ratio(self) -> float:
        """rho, however it was given."""
        if self.share is not None:
            return rho_of_share(self.share)
        return _DEFAULT_RHO if self.rho is None else self.rho

    @property
    def scheme(self) -> RewardScheme:
        """The reward."""
        return RewardScheme.of(
            self.reward,  # type: ignore[arg-type]  # checked above
            answer=self.reward_answer,
            help=self.reward_help,
            format=self.reward_format,
        )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> PosttrainSettings:
        """Make settings of a mapping, such as a configuration file.

        Raises:
            ConfigurationError: A name means nothing, one that is needed is missing, or a value
                cannot be.

        Example:
            >>> PosttrainSettings.from_mapping({"model": "m", "data": "d.csv", "out": "o"}).group
            8
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ConfigurationError(
                f"There is no setting {', '.join(map(repr, unknown))}. There are "
                f"{', '.join(known)}."
            )
        if missing := [name for name in ("model", "data", "out") if not values.get(name)]:
            raise ConfigurationError(f"Say what {' and '.join(missing)} should be.")
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)
