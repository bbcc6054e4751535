"""What a response is worth: the two forms of the paper's reward (arXiv 2509.24050).

| response | v1 | v4 |
|---|---|---|
| answers right, exactly in the format | a_a + a_f | a_a |
| answers right | a_a | a_a |
| asks, and the cloud is right | a_c | a_c |
| answers wrong, exactly in the format | a_f | 0 |
| anything else | 0 | 0 |

The format is that of an answer: whoever asks, and the cloud is wrong, gets nothing. What nobody
could verify has no reward, which is not the reward 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal, TypeAlias, get_args

from langchain_hybridflow.answer_or_ask import Reply
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["REWARD_FORMS", "STATUSES", "RewardForm", "RewardScheme", "Status"]

RewardForm: TypeAlias = Literal["v1", "v4"]
Status: TypeAlias = Literal["correct", "wrong", "unverified"]

REWARD_FORMS: Final[tuple[RewardForm, ...]] = get_args(RewardForm)
"""The forms of the reward that there are."""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
"""What can be known of an answer."""

# a_a, a_c, a_f. Those of v1 are the paper's for Countdown.
_DEFAULTS: Final[dict[RewardForm, tuple[float, float, float]]] = {
    "v1": (2.0, 0.5, 0.2),
    "v4": (1.0, 0.5, 0.0),
}


@dataclass(frozen=True, slots=True)
class RewardScheme:
    """The reward of a response, from what it says and who was right.

    Args:
        answer: For a right answer of its own (a_a).
        help: For asking where the cloud is right (a_c); 0 pays for no help at all.
        format: For the exact format of an answer (a_f).

    Raises:
        ConfigurationError: A value is negative or not finite, or asking pays as much as a right
            answer: then nothing would keep a model from asking always.

    Example:
        >>> from langchain_hybridflow.answer_or_ask import read_reply
        >>> scheme = RewardScheme.of("v1")
        >>> scheme.reward(read_reply("<think>6 * 7</think><answer>42</answer>"), own="correct")
        2.2
    """

    answer: float = 1.0
    help: float = 0.5
    format: float = 0.0

    def __post_init__(self) -> None:
        for name in ("answer", "help", "format"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ConfigurationError(f"reward {name} must be >= 0 and finite, not {value!r}.")
        if self.help >= self.answer:
            raise ConfigurationError(
                f"Asking is rewarded with {self.help:g} and a right answer with {self.answer:g}: a "
                f"model would learn to ask always. Make the reward of help the smaller one."
            )

    @classmethod
    def of(
        cls,
        form: RewardForm,
        *,
        answer: float | None = None,
        help: float | None = None,
        format: float | None = None,
    ) -> RewardScheme:
        """Return a form of the paper; `None` takes the form's own value.

        Args:
            form: "v1" rewards the format too, "v4" does not.
            answer: a_a; 2.0 in v1, 1.0 in v4.
            help: a_c; 0.5 in both.
            format: a_f; 0.2 in v1. In v4 there is none.

        Raises:
            ConfigurationError: There is no such form, or its values cannot be.
        """
        if form not in REWARD_FORMS:
            raise ConfigurationError(
                f"There is no reward form {form!r}; choose {' or '.join(REWARD_FORMS)}."
            )
        if form == "v4" and format:
            raise ConfigurationError(
                f"The reward form v4 knows no reward for the format, and {format!r} was given. "
                f"Leave it out, or choose v1."
            )
        own = _DEFAULTS[form]
        return cls(
            own[0] if answer is None else answer,
            own[1] if help is None else help,
            own[2] if format is None else format,
        )

    def without_help(self) -> RewardScheme:
        """Return the same scheme, but asking is worth nothing: task tuning."""
        return RewardScheme(self.answer, 0.0, self.format)

    def reward(
        self, reply: Reply, *, own: Status | None = None, cloud: Status | None = None
    ) -> float | None:
        """Return the reward of a response; `None` if it cannot be known.

        Args:
            reply: The response.
            own: What is known of its own answer; read only if it does not ask.
            cloud: What is known of the cloud's answer, `None` if there is none; read only if it
                asks.
        """
        if reply.asks:
            if not self.help:
                return 0.0
            return {"correct": self.help, "wrong": 0.0}.get(cloud or "unverified")
        bonus = self.format if reply.well_formed else 0.0
        return {"correct": self.answer + bonus, "wrong": bonus}.get(own or "unverified")
