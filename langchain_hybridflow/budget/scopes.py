"""Whose limits they are: a scope says for whom a limit is, and where a call says who that is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from unicodedata import category
from uuid import UUID

from langchain_hybridflow.budget.accounts import BookEntry, account_entry, share_entry
from langchain_hybridflow.budget.share import SHARE_BURST, ShareCap, share_cap
from langchain_hybridflow.budget.types import Limits, Number
from langchain_hybridflow.budget.windows import Window
from langchain_hybridflow.errors import ConfigurationError

__all__ = [
    "MAX_VALUE_CHARS",
    "RUN_KEEP_S",
    "Scope",
    "ScopeSource",
    "ScopeValues",
    "checked_scopes",
    "checked_value",
    "scope_entries",
]

ScopeSource: TypeAlias = Callable[[Mapping[str, Any], Any], object]
"""Says who a call is for, from its LangChain config and LangGraph's runtime context (or `None`)."""

MAX_VALUE_CHARS: Final = 1_024
"""Longest value of a scope, such as a user id, in characters."""

RUN_KEEP_S: Final = 7 * 86_400.0
"""Seconds after which a ledger may forget a run that spends nothing any more."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED: Final = frozenset({"budget", "allowance"})
_NO_VALUE: Final = frozenset({"global", "run"})
_FORBIDDEN: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Scope:
    """Limits for each of something: each user, each tenant, each thread.

    Who a call is for is read from its LangChain config or LangGraph's runtime context, never from
    its messages or a graph's state; the first that is there counts:

    - "run": the run's own id.
    - "thread": `thread_id` of the context, then of `config["configurable"]`.
    - "user": the identity of the user that LangGraph Server has authenticated
      (`langgraph_auth_user`, or `langgraph_auth_user_id` beside it), then `user_id` of the
      context, then of `config["configurable"]`.
    - "tenant": `tenant_id` of the context, then of `config["configurable"]`.
    - "global": nobody; all calls together.
    - any other name: `<name>_id` of the context, then of `config["configurable"]`.

    Whatever can set a call's config can choose its user. On a server that takes configs from its
    clients, authenticate them, or take the value from where only you can write: `value=`.

    Args:
        name: What people call it; lower case letters, digits and underscores.
        limits: What each of them may spend.
        window: For how long: a `Window`, or a text for `Window.parse`; `None` is for ever, and its
            counters are kept as long (but those of runs).
        value: Where to read it instead: a function from config and context to a text.
        required: Whether a call that does not say who it is for is refused, with an error before
            anything is asked. If not, this scope does not count for it.
        max_cloud_share: Share of the answered prompts of each of them, in 0..1, that may make a
            cloud call; as `Budget(max_cloud_share=...)`, whatever the window.
        share_burst: Cloud calls in a row that this allows after a quiet time.

    Raises:
        ConfigurationError: A parameter cannot work.

    Example:
        >>> daily = Scope("user", Limits(usd=0.5), window="day")
        >>> daily.read({"configurable": {"user_id": "ada"}}, None)
        'ada'
    """

    name: str
    limits: Limits
    window: Window | None
    value: ScopeSource | None
    required: bool
    share: ShareCap | None

    def __init__(
        self,
        name: str,
        limits: Limits | None = None,
        *,
        window: Window | str | None = None,
        value: ScopeSource | None = None,
        required: bool = True,
        max_cloud_share: Number | None = None,
        share_burst: int = SHARE_BURST,
    ) -> None:
        if not _NAME.fullmatch(str(name)) or name in _RESERVED:
            raise ConfigurationError(
                f"A scope is named by lower case letters, digits and underscores, such as 'user', "
                f"and not 'budget' or 'allowance'; got {name!r}."
            )
        if limits is not None and not isinstance(limits, Limits):
            raise ConfigurationError(
                f"The limits of a scope are Limits, such as Limits(usd=1), not {limits!r}."
            )
        if value is not None:
            _check_source(name, value)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "limits", limits or Limits())
        object.__setattr__(self, "window", None if window is None else Window.parse(window))
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "required", required)
        object.__setattr__(self, "share", share_cap(max_cloud_share, share_burst))

    @property
    def id(self) -> str:
        """The name and the window; no two scopes of one budget have the same."""
        return self.name if self.window is None else f"{self.name}/{self.window}"

    def read(self, config: Mapping[str, Any], context: Any) -> str | None:
        """Return whom a call is for; `None` if it does not say, or need not.

        Args:
            config: The LangChain config of the call.
            context: LangGraph's runtime context: a mapping, or an object with attributes.

        Raises:
            ConfigurationError: The call does not say and has to, or what it says is no id.
        """
        if self.name in _NO_VALUE and self.value is None:
            return None
        found = self._found(config, context)
        if found is None or found == "":
            if not self.required:
                return None
            raise ConfigurationError(self._nobody())
        return checked_value(found, what=f"The {self.name} of a call")

    def _found(self, config: Mapping[str, Any], context: Any) -> object:
        if self.value is not None:
            try:
                return self.value(config, context)
            except Exception as error:
                raise ConfigurationError(
                    f"The function that says the {self.name} of a call failed with "
                    f"{type(error).__name__}."
                ) from error
        configurable = config.get("configurable") or {}
        key = f"{self.name}_id"
        places: list[object] = []
        if self.name == "user":
            user = configurable.get("langgraph_auth_user")
            places.append(_member(user, "identity"))
            if user is not None:  # the server sets both
                places.append(configurable.get("langgraph_auth_user_id"))
        places += [_member(context, key), configurable.get(key)]
        return next((place for place in places if place is not None and place != ""), None)

    def _nobody(self) -> str:
        where = (
            "the function given as value= must return it, not None"
            if self.value is not None
            else f"call with config={{'configurable': {{'{self.name}_id': ...}}}}, or with a "
            f"LangGraph context that has {self.name}_id"
        )
        return (
            f"The budget has limits for each {self.name}, and this call does not say for which: "
            f"{where}. Scope({self.name!r}, ..., required=False) lets such calls pass without."
        )


def _check_source(name: str, value: object) -> None:
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise ConfigurationError(
            f"value= of scope {name!r} is a function, not an async one, from config and context "
            f"to a text; got {value!r}."
        )
    if name in ("run", "global"):
        raise ConfigurationError(f"Scope {name!r} takes no value=. Give the scope another name.")


def _member(holder: object, name: str) -> object:
    if isinstance(holder, Mapping):
        return holder.get(name)
    return getattr(holder, name, None)


def checked_value(value: object, *, what: str) -> str:
    """Return an id as text.

    Args:
        value: A text, an integer or a UUID.
        what: What it is, as the start of a sentence.

    Raises:
        ConfigurationError: It is none of these, longer than `MAX_VALUE_CHARS`, or has control
            characters, line separators or half characters in it. The error does not repeat it.

    Example:
        >>> checked_value(42, what="The user of a call")
        '42'
    """
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        raise ConfigurationError(
            f"{what} must be a text, an integer or a UUID, not a {type(value).__name__}."
        )
    text = str(value)
    if len(text) > MAX_VALUE_CHARS:
        raise ConfigurationError(
            f"{what} has {len(text):,} characters, and at most {MAX_VALUE_CHARS:,} are taken."
        )
    for place, char in enumerate(text):
        if category(char) in _FORBIDDEN:
            raise ConfigurationError(
                f"{what} has a character that is no part of a name: U+{ord(char):04X} at {place}."
            )
    return text


@dataclass(frozen=True, slots=True)
class ScopeValues:
    """Whom a call is for, scope by scope; made by `Budget.scope_values`."""

    values: tuple[str | None, ...] = field(default=(), repr=False)
    names: tuple[str, ...] = ()


def checked_scopes(scopes: object) -> tuple[Scope, ...]:
    """Return the scopes of a budget.

    Raises:
        ConfigurationError: One is no scope, or two count the same.
    """
    if isinstance(scopes, Scope):
        return (scopes,)
    given = tuple(scopes) if isinstance(scopes, Sequence) else (scopes,)
    for scope in given:
        if not isinstance(scope, Scope):
            raise ConfigurationError(
                f"scopes are Scope values, such as Scope('user', Limits(usd=1)), not {scope!r}."
            )
    ids = [scope.id for scope in given]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise ConfigurationError(
            f"Two scopes of one budget have the same name and window: {', '.join(twice)}."
        )
    shares = [scope.name for scope in given if scope.share is not None]
    if len(set(shares)) < len(shares):
        raise ConfigurationError(
            "Two scopes of one name have a max_cloud_share. It knows no window: give it to one."
        )
    return given


def scope_entries(
    budget: str,
    scopes: Sequence[Scope],
    values: ScopeValues,
    *,
    run_id: str | None,
    per_run: Limits,
) -> tuple[BookEntry, ...]:
    """Say what a call is held in besides the budget's own account, in order.

    A scope that a call need not, and does not, have a value for is left out; so is that of a run
    where there is no run.

    Args:
        budget: Name of the budget.
        scopes: Its scopes.
        values: Whom the call is for, scope by scope.
        run_id: Identity of its run, if it has one.
        per_run: Limits of the run; without any, it has no account: there can be very many runs.

    Raises:
        ConfigurationError: The values were read for the scopes of another budget.
    """
    names = tuple(scope.name for scope in scopes)
    if values.names != names:
        raise ConfigurationError(f"Values of scopes {values.names!r} are not for {names!r}.")
    entries: list[BookEntry] = []
    buckets: list[BookEntry] = []
    counted = list(zip(scopes, values.values, strict=True))
    if per_run:
        counted.append((Scope("run", per_run), None))
    for scope, value in counted:
        of_run = scope.name == "run"
        whose = run_id if of_run else value
        if whose is not None or scope.name == "global":
            keep_s = RUN_KEEP_S if of_run else None
            entry = account_entry(
                budget, scope.name, scope.limits, value=whose, window=scope.window, keep_s=keep_s
            )
            entries.append(entry)
            if scope.share is not None:
                cap = scope.share
                buckets.append(share_entry(budget, scope.name, cap, value=whose, keep_s=keep_s))
    return (*entries, *buckets)
