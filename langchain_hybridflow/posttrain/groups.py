"""What a batch of responses teaches: rewards, weights in the gradient, and the numbers to look at.

Nothing here knows of tensors: the trainer hands in what was said and verified, and gets a weight
for each response.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from math import nan
from typing import Any, Final, Literal, TypeAlias, get_args

from langchain_hybridflow.answer_or_ask import Reply
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.advantages import DualVariable, centred, group_weights, priced
from langchain_hybridflow.posttrain.filtering import Kept, PromptFilter
from langchain_hybridflow.posttrain.rewards import RewardScheme, Status

__all__ = ["METHODS", "Group", "Lesson", "Method", "Response", "Teacher"]

Method: TypeAlias = Literal["gapg", "task", "grpo", "dr_grpo", "rloo", "da_grpo"]

METHODS: Final[tuple[Method, ...]] = get_args(Method)
"""The ways of training that there are; "gapg" is the paper's, the others are what it is held to."""


@dataclass(frozen=True, slots=True)
class Response:
    """One response to a prompt, and what is known of it.

    Attributes:
        reply: What it says.
        own: What is known of its own answer; `None` if it asks.
        truncated: Whether it was cut off before its end.
        left_out: Whether it carries no signal whatever it says.
    """

    reply: Reply
    own: Status | None = None
    truncated: bool = False
    left_out: bool = False

    @property
    def is_right(self) -> bool:
        """Whether it answers, and is right."""
        return not self.reply.asks and self.own == "correct"


@dataclass(frozen=True, slots=True)
class Group:
    """All responses to one prompt, and what is known of the cloud's answer to it.

    Attributes:
        responses: The responses.
        cloud: What is known of the cloud's answer, which all share; `None` if there is none.
    """

    responses: tuple[Response, ...]
    cloud: Status | None = None

    @property
    def is_solved(self) -> bool:
        """Whether at least one response is right by itself: the prompt belongs to D1."""
        return any(one.is_right for one in self.responses)

    @property
    def is_asked(self) -> bool:
        """Whether at least one response asks."""
        return any(one.reply.asks for one in self.responses)

    @property
    def is_helped(self) -> bool:
        """Whether no response is right, and the cloud is: a candidate for D2."""
        return not self.is_solved and self.cloud == "correct"


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a batch teaches.

    Attributes:
        rewards: Of each response, in order; `None` for what carries no signal.
        weights: What grad log pi of each response is multiplied with, the mean over prompts
            included: the sum over the batch is the estimate of the gradient.
        kept: Places of the prompts that are learned from.
        metrics: Numbers to look at; not a number where there is nothing to count.
    """

    rewards: tuple[float | None, ...]
    weights: tuple[float, ...]
    kept: frozenset[int]
    metrics: dict[str, float]


@dataclass(slots=True)
class Teacher:
    """A way of training, and what it remembers from batch to batch.

    Args:
        method: Which; see `METHODS`.
        scheme: The reward.
        prompts: The filter, for "gapg" alone.
        price: The dual variable, for "da_grpo" alone.
        probe: Whether the cloud is also asked about prompts that no response solved or asked
            about. Only then D2 is exactly the paper's; else it saves these calls, and such
            prompts, which teach nothing about asking, take no place in D2.

    Raises:
        ConfigurationError: There is no such method, or what it needs is missing.
    """

    method: Method
    scheme: RewardScheme
    prompts: PromptFilter | None = None
    price: DualVariable | None = None
    probe: bool = True
    _scheme: RewardScheme = field(init=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError(
                f"There is no method {self.method!r}; choose {', '.join(METHODS)}."
            )
        if self.method == "gapg" and self.prompts is None:
            raise ConfigurationError("The method gapg needs a filter of prompts.")
        if self.method == "da_grpo" and self.price is None:
            raise ConfigurationError("The method da_grpo needs a dual variable.")
        is_task = self.method == "task"
        self._scheme = self.scheme.without_help() if is_task else self.scheme

    @property
    def wants_help(self) -> bool:
        """Whether the cloud is asked at all."""
        return self.method != "task"

    def needs_cloud(self, group: Group) -> bool:
        """Whether the cloud's answer to a prompt matters.

        It is asked once for a prompt, for all its responses: if one of them asks, as its reward
        depends on the answer; and by "gapg" also if none is right, as D2 depends on it.
        """
        if not self.wants_help:
            return False
        unsolved = self.method == "gapg" and self.probe and not group.is_solved
        return group.is_asked or unsolved

    def teach(self, groups: Sequence[Group], *, seed: str, learns: bool = True) -> Lesson:
        """Say what a batch teaches.

        Args:
            groups: The batch.
            seed: Of what is left to chance.
            learns: Whether what is remembered goes on; not so in an evaluation.
        """
        rewards = [[self._reward(one, group.cloud) for one in group.responses] for group in groups]
        kept, by_filter = self._kept(groups, rewards, seed=seed, learns=learns)
        metrics = _metrics(groups, rewards) | by_filter
        weights = [
            [weight / max(len(kept), 1) for weight in group_weights(self._advantages(group, own))]
            if place in kept
            else [0.0] * len(own)
            for place, (group, own) in enumerate(zip(groups, rewards, strict=True))
        ]
        if self.price is not None:
            metrics["lambda"] = self.price.value
            if learns:
                self.price.update(metrics["ask_rate"])
        return Lesson(
            rewards=tuple(value for own in rewards for value in own),
            weights=tuple(value for own in weights for value in own),
            kept=kept,
            metrics=metrics,
        )

    def state(self) -> dict[str, Any]:
        """Return what has to be remembered, in plain JSON types."""
        return {
            "method": self.method,
            "prompts": self.prompts and self.prompts.state(),
            "price": self.price and self.price.value,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ConfigurationError: It is that of another method.
        """
        if state["method"] != self.method:
            raise ConfigurationError(
                f"The checkpoint was made by the method {state['method']}, and this run's is "
                f"{self.method}. Go on with the same one, or begin anew in another directory."
            )
        if self.prompts is not None:
            self.prompts.restore(state["prompts"])
        if self.price is not None:
            self.price.value = state["price"]

    def _reward(self, response: Response, cloud: Status | None) -> float | None:
        if response.left_out:
            return None
        return self._scheme.reward(response.reply, own=response.own, cloud=cloud)

    def _advantages(self, group: Group, rewards: Sequence[float | None]) -> list[float | None]:
        if self.method == "da_grpo" and self.price is not None:
            asks = [one.reply.asks for one in group.responses]
            return priced(rewards, asks, price=self.price.value)
        return centred(rewards)

    def _kept(
        self,
        groups: Sequence[Group],
        rewards: Sequence[Sequence[float | None]],
        *,
        seed: str,
        learns: bool,
    ) -> tuple[frozenset[int], dict[str, float]]:
        """Choose the prompts to learn from: those with a baseline that the filter lets through."""
        usable = [
            place for place, own in enumerate(rewards) if sum(one is not None for one in own) > 1
        ]
        if self.prompts is None or not learns:
            return frozenset(usable), {}
        kept = self.prompts.keep(
            local=[place for place in usable if groups[place].is_solved],
            help=[place for place in usable if self._is_candidate(groups[place])],
            seed=seed,
        )
        return kept.all, _filter_metrics(kept, n=len(groups))

    def _is_candidate(self, group: Group) -> bool:
        return group.is_helped and (self.probe or group.is_asked)


def _filter_metrics(kept: Kept, *, n: int) -> dict[str, float]:
    return {
        "filter/local": float(len(kept.local)),
        "filter/help": float(len(kept.help)),
        "filter/candidates": float(kept.candidates),
        "filter/kept": (len(kept.local) + len(kept.help)) / max(n, 1),
    }


def _metrics(
    groups: Sequence[Group], rewards: Sequence[Sequence[float | None]]
) -> dict[str, float]:
    pairs = [(group, one) for group in groups for one in group.responses]
    asks = [one.reply.asks for _, one in pairs]
    answers = [one for _, one in pairs if not one.reply.asks and one.own != "unverified"]
    outcomes = [group.cloud if one.reply.asks else one.own for group, one in pairs]
    known = [outcome == "correct" for outcome in outcomes if outcome in ("correct", "wrong")]
    solved = [group.is_solved for group, _ in pairs]
    cloud = [group.cloud == "correct" for group in groups if group.cloud in ("correct", "wrong")]
    given = [value for own in rewards for value in own]
    return {
        "reward_mean": _mean(value for value in given if value is not None),
        "local_accuracy": _mean(one.is_right for _, one in pairs),
        "answer_accuracy": _mean(one.is_right for one in answers),
        "overall_accuracy": _mean(known),
        "ask_rate": _mean(asks),
        "ask_rate_solved": _mean(compress(asks, solved)),
        "ask_rate_unsolved": _mean(compress(asks, (not one for one in solved))),
        "solved_rate": _mean(group.is_solved for group in groups),
        "format_rate": _mean(one.reply.well_formed for _, one in pairs),
        "truncated_rate": _mean(one.truncated for _, one in pairs),
        "unverified_rate": _mean(value is None for value in given),
        "cloud/accuracy": _mean(cloud),
    }


def _mean(values: Iterable[float]) -> float:
    """Return the mean; not a number if there is nothing."""
    found = list(values)
    return sum(found) / len(found) if found else nan
