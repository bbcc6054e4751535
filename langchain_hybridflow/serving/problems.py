"""Errors as a client sees them: a status, a reason, and nothing of a prompt or a stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import singledispatch
from math import ceil
from typing import Final

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from langchain_hybridflow.budget import Budget
from langchain_hybridflow.budget.share import share_scope
from langchain_hybridflow.calls.failures import answered, status_of
from langchain_hybridflow.errors import (
    BudgetExceeded,
    CapabilityError,
    CircuitOpen,
    CloudDeclined,
    CloudShareExceeded,
    DeadlineExceeded,
    InputError,
    LedgerUnavailable,
    ModelCallError,
    PolicyViolation,
    SubtaskError,
)
from langchain_hybridflow.leaving import ClientGone
from langchain_hybridflow.openai_wire import error_body

__all__ = ["Problem", "Refused", "first_fault", "problem_of", "told_fault"]

STORE_RETRY_S: Final = 5.0
"""Seconds after which it is worth asking again when the ledger's store does not answer."""

UPSTREAM_RETRY_S: Final = 10.0
"""The same for models that do not answer."""

# What a caller may see of an account: that of others is nobody's business.
_OWN_SCOPES: Final = frozenset({"run", "thread", "user"})
# How pydantic's messages begin that repeat nothing of the input.
_QUOTES_NOTHING: Final = ("Field required", "Input should", "List should", "String should")
# Statuses of a model's server by which it says that the request itself cannot be answered.
_BAD_REQUEST: Final = frozenset({400, 413, 415, 422})
_OF_MODELS: Final = (ModelCallError, SubtaskError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request is not answered.

    Args:
        status: The HTTP status.
        code: The reason in one word, for programs.
        message: The reason in words. It repeats nothing that the client has sent.
        retry_after_s: Seconds after which the same request may be answered; `None` if never.

    Example:
        >>> Problem(status=404, code="model_not_found", message="No such model.").body()["detail"]
        'No such model.'
    """

    status: int
    code: str
    message: str
    retry_after_s: float | None = None

    @property
    def kind(self) -> str:
        """The reason as one of OpenAI's types."""
        if self.status in {402, 429}:
            return "insufficient_quota" if self.code == "budget_exhausted" else "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, object]:
        """Return the body of the response, which clients of OpenAI and of LangServe can read."""
        return error_body(self.message, kind=self.kind, code=self.code) | {"detail": self.message}

    def headers(self) -> dict[str, str]:
        """Return what the headers say: when to come back, or not to try again by oneself."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, ceil(self.retry_after_s)))
        if self.status == 408:
            headers["Connection"] = "close"  # the rest of the body is not waited for
        if self.code == "budget_exhausted":
            headers["x-should-retry"] = "false"  # OpenAI's clients would ask twice more at once
        if self.status == 401:
            # A browser asks for the token as a password, and so can open the playground.
            headers["WWW-Authenticate"] = 'Basic realm="hybridflow", charset="UTF-8"'
        return headers

    def response(self) -> Response:
        """Return the response."""
        return JSONResponse(self.body(), self.status, self.headers())


class Refused(Exception):
    """A request is not answered.

    Args:
        status: The HTTP status.
        code: The reason in one word.
        message: The reason in words.
        retry_after_s: Seconds after which the same request may be answered.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float | None = None
    ) -> None:
        self.problem = Problem(
            status=status, code=code, message=message, retry_after_s=retry_after_s
        )
        super().__init__(message)


def first_fault(error: ValidationError) -> str:
    """Say what is wrong with a body, without repeating it."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return told_fault(fault["loc"], fault["msg"])


def told_fault(place: Iterable[object], message: str) -> str:
    """Say where a fault is, and what pydantic says of it, unless that may quote what was sent.

    Example:
        >>> told_fault(["messages", 0], "Input tag 'a secret' found using ...")
        'messages.0: it is not what is expected there'
    """
    where = ".".join(str(step) for step in place)[:200] or "body"
    quotes = not message.startswith(_QUOTES_NOTHING)
    return f"{where}: {'it is not what is expected there' if quotes else message[:300]}"


def problem_of(
    error: BaseException, *, budget: Budget | None = None, now: Callable[[], float] = time.time
) -> Problem:
    """Say of an error what its client is to know.

    Args:
        error: What went wrong. What it was raised from counts, too.
        budget: Whose windows say when a limit begins anew.
        now: Seconds since the epoch.

    Returns:
        The problem; of an error that nobody has foreseen a 500 without any detail.

    Example:
        >>> problem_of(TimeoutError()).status
        504
        >>> problem_of(ZeroDivisionError("a secret")).message
        'The server failed. Its log says more.'
    """
    links = tuple(_links(error))
    for link in links:
        found = _exhausted(link, budget, now()) if isinstance(link, BudgetExceeded) else _say(link)
        if found is not None:
            return found
    # Where no other tier may answer, the error of the model's own client comes as it is.
    if any(isinstance(link, _OF_MODELS) for link in links) or answered(error) is not None:
        return _upstream(links)
    return Problem(status=500, code="server_error", message="The server failed. Its log says more.")


def _links(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, but not what was merely being handled then."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _exhausted(error: BudgetExceeded, budget: Budget | None, now: float) -> Problem:
    windows = {} if budget is None else {one.name: one.window for one in budget.scopes}
    if budget is not None:
        windows["budget"] = budget.window
    if isinstance(error, CloudShareExceeded):
        whose = error.scope.removesuffix(share_scope()).rstrip("-")
        message = f"The cloud has its share of the requests of this {whose or 'server'} just now"
        message += ". More is free when others have been answered."
        return Problem(status=429, code="budget_exhausted", message=message)
    window = windows.get(error.scope)
    of = {"budget": "server", "run": "request"}.get(error.scope, error.scope)
    message = f"The budget of this {of} is used up"
    if error.scope in _OWN_SCOPES:
        what = error.dimension.replace("_", " ")
        message += f": up to {error.requested} {what} are needed and {error.remaining} left"
    if window is None:
        return Problem(status=402, code="budget_exhausted", message=f"{message}.")
    wait_s = max(0.0, window.span(now)[1] - now)
    more = "More is free" if window.rolling else "It begins anew"
    return Problem(
        status=429,
        code="budget_exhausted",
        message=f"{message}. {more} in {ceil(wait_s):,} s.",
        retry_after_s=wait_s,
    )


def _upstream(links: tuple[BaseException, ...]) -> Problem:
    """What a failed call of a model is to the client: a fault of the request, or the models'."""
    names = {base.__name__ for link in links for base in type(link).__mro__}
    if "ContextOverflowError" in names:  # by name: older releases of langchain-core have none
        return _TOO_LONG
    status = status_of(links[0])
    if status in _BAD_REQUEST:
        return Problem(
            status=400,
            code="invalid_request",
            message=f"The model's server refused the request (status {status}). Look at its "
            f"messages, tools and options.",
        )
    if any("Timeout" in name for name in names):
        return _LATE
    return Problem(
        status=503,
        code="upstream_unavailable",
        message="No model could answer. Try again later.",
        retry_after_s=UPSTREAM_RETRY_S,
    )


_LATE: Final = Problem(status=504, code="timeout", message="The answer took too long.")
_TOO_LONG: Final = Problem(
    status=400,
    code="context_length_exceeded",
    message="The messages are longer than the model can read. Shorten them.",
)


@singledispatch
def _say(_error: BaseException) -> Problem | None:
    """Say of an error what its client is to know, if it is one of those that are foreseen."""
    return None


@_say.register
def _(error: Refused) -> Problem:
    return error.problem


@_say.register
def _(error: InputError) -> Problem:  # its texts quote nothing
    return Problem(status=400, code="invalid_input", message=str(error))


@_say.register
def _(error: CapabilityError) -> Problem:
    what = "; ".join(f"the {tier} lacks {', '.join(it)}" for tier, it in error.lacking.items())
    # Only if it is the length on each of them: else something else could be left out.
    too_long = all("room for a prompt" in " ".join(it) for it in error.lacking.values())
    return Problem(
        status=400,
        code="context_length_exceeded" if too_long else "unsupported",
        message=f"No model here can answer this request: {what}.",
    )


@_say.register
def _(error: PolicyViolation) -> Problem:  # its reasons quote nothing
    why = f": {error.reason}" if error.reason else ""
    return Problem(
        status=403, code="policy_violation", message=f"The server's policy forbids it{why}."
    )


@_say.register
def _(_error: CloudDeclined) -> Problem:
    return Problem(status=403, code="declined", message="A call to the cloud was not approved.")


@_say.register(DeadlineExceeded)
@_say.register(TimeoutError)
def _(_error: BaseException) -> Problem:
    return _LATE


@_say.register
def _(_error: LedgerUnavailable) -> Problem:
    return Problem(
        status=503,
        code="ledger_unavailable",
        message="The budget cannot be reached, so nothing can be spent. Try again later.",
        retry_after_s=STORE_RETRY_S,
    )


@_say.register
def _(error: CircuitOpen) -> Problem:
    return Problem(
        status=503,
        code="upstream_unavailable",
        message="The models that could answer are out of order, and left alone for a while.",
        retry_after_s=error.retry_in_s,
    )


@_say.register(ClientDisconnect)
@_say.register(ClientGone)
def _(_error: BaseException) -> Problem:
    return Problem(status=499, code="client_closed_request", message="The client has left.")


@_say.register
def _(error: HTTPException) -> Problem:
    codes = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
    code = codes.get(error.status_code, "invalid_request")
    return Problem(status=error.status_code, code=code, message=str(error.detail))
