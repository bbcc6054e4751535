"""A URL opens the ledger that it names, or says what is wrong without telling secrets."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from langchain_hybridflow.budget import MemoryLedger
from langchain_hybridflow.budget.stores.opening import open_ledger
from langchain_hybridflow.errors import ConfigurationError, MissingExtraError

SECRET = "s3cret-CANARY"


def test_open_ledger_makes_a_new_ledger_when_it_is_in_memory() -> None:
    first, second = open_ledger("memory://"), open_ledger("memory://")
    assert isinstance(first, MemoryLedger)
    assert first is not second


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://h:1/0", "unix:///run/r.sock"])
def test_open_ledger_connects_to_nothing_when_it_opens_redis(url: str) -> None:
    ledger = open_ledger(url, namespace="shop", timeout_s=0.5)  # sockets are closed here
    assert type(ledger).__name__ == "RedisLedger"


@pytest.mark.parametrize("scheme", ["redis", "REDIS", "Redis"])
def test_open_ledger_reads_the_scheme_in_any_case(scheme: str) -> None:
    assert type(open_ledger(f"{scheme}://h:1/0")).__name__ == "RedisLedger"


def test_open_ledger_puts_the_file_where_a_relative_url_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = open_ledger("sqlite:///my%20budget.db")
    ledger.now()
    ledger.snapshot([])
    ledger.close()
    assert (tmp_path / "my budget.db").exists()


def test_open_ledger_puts_the_file_where_an_absolute_url_says(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/budget.db")
    ledger.snapshot([])
    ledger.close()
    assert (tmp_path / "budget.db").exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "budget.db",
        "mysql://user:s3cret-CANARY@host/db",
        "redis:/host",
        "sqlite://budget.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///s3cret-CANARY%00b",
        "memory://shared",
        "redis://user:s3cret-CANARY@host:port/0",
        f"redis://:{SECRET}@host:70000000/0",
        f"redis://:{SECRET}[@host:1/0",
        f"redis://:{SECRET}@host:1/0?socket_timeout={SECRET}",
        f"redis://:{SECRET}@host:1/0?decode_responses=true",
    ],
)
def test_open_ledger_says_what_is_wrong_and_no_secret_when_the_url_is_bad(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_ledger(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None  # a traceback shows it
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("value", [None, 7])
def test_open_ledger_raises_when_the_url_is_no_text(value: object) -> None:
    with pytest.raises(ConfigurationError, match="forms"):
        open_ledger(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["memory://", "redis://h:1/0"])
def test_open_ledger_names_the_options_there_are_when_one_is_unknown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'on_expire'.* on_expiry"):
        open_ledger(url, on_expire="refund")


@pytest.mark.parametrize(
    "options",
    [
        {"on_expiry": "forgive"},
        {"namespace": "a:b"},
        {"namespace": "a}{b"},
        {"namespace": ""},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"settled_keep_s": -1},
    ],
)
def test_open_ledger_raises_when_an_option_cannot_work(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        open_ledger("redis://h:1/0", **options)


def test_open_ledger_names_the_extra_when_redis_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert importlib.util.find_spec("redis") is not None
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(
        sys.modules, "langchain_hybridflow.budget.stores._redis_link", raising=False
    )
    with pytest.raises(MissingExtraError, match=r"langchain-hybridflow\[redis\]"):
        open_ledger("redis://h:1/0")
