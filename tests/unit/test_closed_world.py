"""The rules of tests/conftest.py hold: no network, strict state, nothing skipped in CI."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest


def test_socket_cannot_be_opened_by_a_unit_test() -> None:
    with pytest.raises(Exception, match=r"tried to use socket\.socket"):
        socket.socket()


def test_state_is_strict_and_tracing_is_off() -> None:
    assert os.environ["LANGGRAPH_STRICT_MSGPACK"] == "true"
    assert os.environ["LANGSMITH_TRACING"] == "false"


def test_require_passes_when_a_module_or_program_is_there(require: Callable[[str], None]) -> None:
    require("json")
    require("python3")


def test_require_skips_when_something_is_missing(
    require: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(require.__globals__, "IN_CI", False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):  # noqa: TID251 - is the test
        require("no-such-program")


def test_require_fails_in_ci_when_something_is_missing(
    require: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(require.__globals__, "IN_CI", True)
    with pytest.raises(pytest.fail.Exception, match="nothing is skipped"):
        require("no_such_module")
