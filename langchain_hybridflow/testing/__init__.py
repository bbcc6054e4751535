"""Public fakes and conformance suites, for this package's tests and for yours.

`LedgerConformance`, `LedgerAdminConformance`, `LedgerShareConformance`, `OnlineStoreConformance`
and `RouterConformance` need pytest, and `ledger_state_machine` hypothesis; they are imported when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.testing.clock import ManualClock
from langchain_hybridflow.testing.filling import PromptWords
from langchain_hybridflow.testing.obedient import ObedientChatModel
from langchain_hybridflow.testing.outage import OutageLedger
from langchain_hybridflow.testing.scripted import ScriptedChatModel, ScriptEnded, count_words

if TYPE_CHECKING:
    from langchain_hybridflow.testing.ledger import LedgerConformance
    from langchain_hybridflow.testing.ledger_admin import LedgerAdminConformance
    from langchain_hybridflow.testing.ledger_machine import ledger_state_machine
    from langchain_hybridflow.testing.ledger_share import LedgerShareConformance
    from langchain_hybridflow.testing.online_store import OnlineStoreConformance, logged_decision
    from langchain_hybridflow.testing.router import RouterConformance

__all__ = [
    "LedgerAdminConformance",
    "LedgerConformance",
    "LedgerShareConformance",
    "ManualClock",
    "ObedientChatModel",
    "OnlineStoreConformance",
    "OutageLedger",
    "PromptWords",
    "RouterConformance",
    "ScriptEnded",
    "ScriptedChatModel",
    "count_words",
    "ledger_state_machine",
    "logged_decision",
]

_NEED_TEST_PACKAGES = {
    "LedgerAdminConformance": "langchain_hybridflow.testing.ledger_admin",
    "LedgerConformance": "langchain_hybridflow.testing.ledger",
    "LedgerShareConformance": "langchain_hybridflow.testing.ledger_share",
    "OnlineStoreConformance": "langchain_hybridflow.testing.online_store",
    "RouterConformance": "langchain_hybridflow.testing.router",
    "ledger_state_machine": "langchain_hybridflow.testing.ledger_machine",
    "logged_decision": "langchain_hybridflow.testing.online_store",
}


def __getattr__(name: str) -> Any:
    if name in _NEED_TEST_PACKAGES:
        return getattr(importlib.import_module(_NEED_TEST_PACKAGES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
