"""Who a request is from: a token says which user of which tenant, and what they may do."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_hybridflow.budget import Limits, Scope, Window
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["LOCAL", "THREAD_HEADER", "Identity", "Tokens", "hashed"]

THREAD_HEADER: Final = "x-hybridflow-thread"
"""The header by which a client says which of its own conversations a request belongs to."""

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$"
_THREAD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_HASHED: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MIN_TOKEN_CHARS: Final = 16
_FORM: Final = '{"TOKEN or sha256:HASH": {"user": "ada", "tenant": "acme"}}'


class Identity(BaseModel):
    """Who a request is from.

    Args:
        user: Name of the user: letters, digits and `._@+-`.
        tenant: Name of the tenant.
        limit_usd: What the user may spend, if it is not what all users may.
        requests_per_minute: How often the user may ask, if it is not as often as all users may.

    Example:
        >>> Identity(user="ada").configurable(thread="1")
        {'user_id': 'default/ada', 'tenant_id': 'default', 'thread_id': 'default/ada/1'}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = Field(pattern=_NAME)
    tenant: str = Field(default="default", pattern=_NAME)
    limit_usd: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    requests_per_minute: int | None = Field(default=None, ge=1)

    @property
    def key(self) -> str:
        """Tenant and user: what no other user of any tenant has."""
        return f"{self.tenant}/{self.user}"

    def configurable(self, *, thread: str) -> dict[str, str]:
        """Return what goes into the config of a run.

        Args:
            thread: The client's own name for a conversation. Below the user's key, it cannot be
                somebody else's.

        Raises:
            ConfigurationError: It is no name.
        """
        if not _THREAD.fullmatch(thread):
            raise ConfigurationError(
                "A thread is named by letters, digits and ._@+-, at most 128 of them."
            )
        return {
            "user_id": self.key,
            "tenant_id": self.tenant,
            "thread_id": f"{self.key}/{thread}",
        }


LOCAL: Final = Identity(user="local", tenant="local")
"""Who everybody is, where there are no tokens and only this machine may ask."""


def hashed(token: str) -> str:
    """Return a token as it may be written down.

    Tokens are long and random, so that a plain hash of one tells nothing of it.

    Example:
        >>> hashed("an example token")[:18]
        'sha256:66b052ab9d1'
    """
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


class Tokens:
    """The tokens that a server takes; only their hashes are kept.

    Args:
        identities: A token of 16 characters or more, or what `hashed` makes of it, and whose it
            is: an `Identity` or the fields of one.

    Raises:
        ConfigurationError: There is none, one is too short, or it is not said whose it is. The
            error does not repeat it.

    Example:
        >>> tokens = Tokens({"0123456789abcdef": {"user": "ada"}})
        >>> tokens.find("0123456789abcdef").user, tokens.find("something else")
        ('ada', None)
    """

    def __init__(self, identities: Mapping[str, Identity | Mapping[str, Any]]) -> None:
        if not identities:
            raise ConfigurationError(f"There are no tokens in it. They are written as {_FORM}.")
        self._known = dict(
            _entry(number, token, whose)
            for number, (token, whose) in enumerate(identities.items(), start=1)
        )

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._known.values())

    def __repr__(self) -> str:
        return f"Tokens({len(self)})"

    @classmethod
    def read(cls, source: str) -> Tokens:
        """Read tokens from JSON, or from a file of it.

        Args:
            source: JSON that begins with a brace, or the path of a file.

        Raises:
            ConfigurationError: The file cannot be read, or it is not as it should be.
        """
        try:
            given = source if source.lstrip().startswith("{") else Path(source).read_text("utf-8")
            return cls(_mapping(json.loads(given, object_pairs_hook=_each_once)))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigurationError(
                f"The file of tokens cannot be read: {reason}. Tokens are JSON, {_FORM}, or the "
                f"path of a file that holds it."
            ) from None  # the path may be a token that stands in the wrong place
        except ValueError as error:
            raise ConfigurationError(f"The tokens are not JSON of the form {_FORM}.") from error

    def find(self, token: str) -> Identity | None:
        """Return whose token it is.

        How long it takes may tell of its hash, which nobody can aim at the hash of another token.
        """
        return self._known.get(hashed(token))

    def scopes(self, limit_usd: Decimal | float, *, window: Window | str | None) -> list[Scope]:
        """Return the budget's scopes for each user: one for each limit that some of them have.

        Args:
            limit_usd: What a user may spend who has no limit of their own.
            window: For how long.
        """
        own = {one.limit_usd for one in self if one.limit_usd is not None}
        usual = frozenset(one.key for one in self if one.limit_usd is not None)
        scopes = [_scope("user", limit_usd, window, excepting=usual)]
        for limit in sorted(own):
            members = frozenset(one.key for one in self if one.limit_usd == limit)
            name = f"user_{limit:f}".replace(".", "_").rstrip("_")
            scopes.append(_scope(name, limit, window, members=members))
        return scopes


def _scope(
    name: str,
    limit_usd: Decimal | float,
    window: Window | str | None,
    *,
    members: frozenset[str] | None = None,
    excepting: frozenset[str] = frozenset(),
) -> Scope:
    def whose(config: Mapping[str, Any], _context: Any) -> str | None:
        key = str(config["configurable"]["user_id"])  # without it nobody may spend anything
        belongs = key not in excepting if members is None else key in members
        return key if belongs else None

    return Scope(name, Limits(usd=limit_usd), window=window, value=whose, required=False)


def _entry(number: int, token: str, whose: Identity | Mapping[str, Any]) -> tuple[str, Identity]:
    if not _HASHED.fullmatch(token):
        if token.startswith("sha256:") or len(token) < _MIN_TOKEN_CHARS:
            raise ConfigurationError(
                f"Token {number} has fewer than {_MIN_TOKEN_CHARS} characters, or is no SHA-256 of "
                f"one. Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        token = hashed(token)
    try:
        return token, whose if isinstance(whose, Identity) else Identity.model_validate(whose)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise ConfigurationError(
            f"It is not said right whose token {number} is: {where}: {fault['msg']}. Tokens are "
            f"written as {_FORM}, with limit_usd and requests_per_minute if need be."
        ) from None  # it may hold the token


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("no object")  # noqa: TRY004 - a fault of the JSON, as the others
    return value
