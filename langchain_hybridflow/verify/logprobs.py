"""Trust an edge answer as much as the model did while it wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from langchain_hybridflow.calls.verifying import Verdict, VerifyRequest
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.verify.signals import TokenProbability

__all__ = ["LogprobVerifier"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobVerifier:
    """Accept an edge answer if its tokens were likely: exp(mean ln p) >= threshold.

    That is the geometric mean of the probabilities that the model gave to its own tokens, the
    inverse of the answer's perplexity. It costs nothing. It says how sure the model was, not
    whether it is right: find the threshold on answers of your own model, or let `hybridflow
    calibrate` find one, for a `ConfidenceVerifier`.

    The edge model is asked with `logprobs=True` if it has that field, as the models of
    langchain-openai do; the server behind it may ignore that, or (as for some reasoning models)
    refuse the request.

    Args:
        threshold: Least mean probability of a token to accept, in 0..1.
        on_missing: What happens to an answer whose provider sent no log-probabilities.

    Raises:
        ConfigurationError: The threshold is not in 0..1.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> asked = {"question": "Capital of France?", "messages": (), "answer": AIMessage("Paris")}
        >>> LogprobVerifier(threshold=0.8)(VerifyRequest(**asked, logprobs=(-0.1, -0.7))).accept
        False
    """

    threshold: float = 0.8
    on_missing: Literal["accept", "escalate"] = "accept"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigurationError(f"threshold must be in 0..1, not {self.threshold!r}.")
        if self.on_missing not in ("accept", "escalate"):
            raise ConfigurationError(
                f"on_missing must be 'accept' or 'escalate', not {self.on_missing!r}."
            )

    @property
    def reads_logprobs(self) -> bool:
        """Whether the edge model is to be asked for log-probabilities."""
        return True

    def __call__(self, request: VerifyRequest) -> Verdict:
        """Look at an answer."""
        found = TokenProbability().of(request)
        if found.score is None:
            reason = f"{found.reason}: {self.on_missing}"
            return Verdict(self.on_missing == "accept", reason=reason)
        sign = ">=" if found.score >= self.threshold else "<"
        reason = f"{found.reason} {sign} {self.threshold:g}"
        return Verdict(found.score >= self.threshold, score=found.score, reason=reason)
