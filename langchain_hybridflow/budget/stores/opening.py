"""Open the ledger that a URL names."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any, cast
from urllib.parse import unquote

from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["open_ledger"]

_HERE = "langchain_hybridflow.budget"

# Where the ledger of a scheme is. Imported when it is wanted: most of them need an extra.
_HOME_OF = {
    "memory": (f"{_HERE}.memory", "MemoryLedger"),
    "sqlite": (f"{_HERE}.stores.sqlite", "SQLiteLedger"),
    "redis": (f"{_HERE}.stores.redis", "RedisLedger"),
    "rediss": (f"{_HERE}.stores.redis", "RedisLedger"),
    "unix": (f"{_HERE}.stores.redis", "RedisLedger"),
    "postgresql": (f"{_HERE}.stores.postgres", "PostgresLedger"),
    "postgres": (f"{_HERE}.stores.postgres", "PostgresLedger"),
}

_FORMS = (
    "memory://, sqlite:///relative/path, sqlite:////absolute/path, "
    "redis://[user:password@]host[:port][/number] (rediss:// with TLS, unix:///path for a socket), "
    "postgresql://[user:password@]host[:port]/database"
)


def open_ledger(url: str, **options: Any) -> Ledger:
    """Open the ledger at a URL; a server is not asked for anything before the first call.

    The forms of a URL:

    - `memory://`: a new ledger in this process, which nobody else can open.
    - `sqlite:///budget.db`, `sqlite:////var/lib/budget.db`: a file, by a relative or an absolute
      path.
    - `redis://[user:password@]host[:port][/number]`, `rediss://` with TLS, `unix:///run/redis.sock`
      for a socket: a Redis or Valkey server (extra `redis`).
    - `postgresql://[user:password@]host[:port]/database`, also `postgres://`: a PostgreSQL server
      (extra `postgres`).

    Args:
        url: Where the ledger is.
        options: What the ledger takes besides, such as `namespace`, `timeout_s`, `on_expiry`.

    Raises:
        ConfigurationError: If no ledger has such a URL, or the one that has takes no such option.
            The message tells nothing of the URL but its scheme: the rest may be secret.
        MissingExtraError: If the store needs a package that is not installed.

    Example:
        >>> ledger = open_ledger("memory://", on_expiry="refund")
        >>> type(ledger).__name__
        'MemoryLedger'
    """
    scheme, found, rest = str(url).partition("://")
    if not found:
        raise ConfigurationError(f"The URL of a ledger has one of these forms: {_FORMS}.")
    scheme = scheme.lower()
    home = _HOME_OF.get(scheme)
    if home is None:
        raise ConfigurationError(
            f"No ledger has a URL that begins with {scheme[:40]!r}. The forms are: {_FORMS}."
        )
    module, name = home
    kind = getattr(import_module(module), name)
    _check_options(name, kind, options)
    return cast(Ledger, kind(*_place(scheme, rest), **options))


def _place(scheme: str, rest: str) -> tuple[str, ...]:
    """What the ledger of a scheme takes before its options."""
    if scheme == "memory":
        if rest:
            raise ConfigurationError(
                "A ledger in memory has no name: write memory:// and nothing after it."
            )
        return ()
    if scheme == "sqlite":
        path = unquote(rest.removeprefix("/"))
        if not rest.startswith("/") or not path or path == ":memory:" or "\0" in path:
            raise ConfigurationError(
                "A SQLite ledger wants three slashes and a path, as in sqlite:///budget.db, or "
                "four if the path is absolute; memory:// is the ledger in memory."
            )
        return (path,)
    return (f"{scheme}://{rest}",)


def _check_options(name: str, kind: type[Any], options: dict[str, Any]) -> None:
    known = [parameter for parameter in signature(kind).parameters if parameter not in _PLACES]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{name} takes no option {', '.join(map(repr, unknown))}; it takes {', '.join(known)}."
        )


_PLACES = ("url", "path")
