"""What tests of ledgers' faults share: workers in processes of their own, and threads that buy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from langchain_hybridflow.budget import Account, Amounts, Ledger, Limits
from langchain_hybridflow.errors import LedgerUnavailable

WORKER = Path(__file__).with_name("ledger_worker.py")
NUMBERS = count()
ONE = Amounts(usd_micros=700, cloud_tokens=100, cloud_calls=1)
ALL = Account("team", "team")


def fresh() -> str:
    """A namespace that no other test of this process has."""
    return f"faults_{next(NUMBERS)}"


def limited(calls: int) -> Account:
    return Account("team", "team", Limits(cloud_calls=calls))


def start(job: dict[str, Any], url: str, **options: Any) -> subprocess.Popen[str]:
    """Let a process of its own do a job of `ledger_worker.py` with the ledger at a URL."""
    command = [sys.executable, str(WORKER), json.dumps(job), url, json.dumps(options)]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def said(process: subprocess.Popen[str], *, timeout_s: float = 110) -> list[Any]:
    """What a worker printed, when it has ended well."""
    out, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


class Shoppers:
    """Threads that buy until they are stopped, and repeat each call until it is answered."""

    def __init__(self, ledger: Ledger, *, threads: int, patience_s: float) -> None:
        self.committed: list[str] = []
        self.refused_after_s: list[float] = []
        self._ledger = ledger
        self._patience_s = patience_s
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._shop, args=(n,), daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)
            assert not thread.is_alive()

    def wait_for_more(self, done: list[Any], number: int) -> None:
        wanted, end = len(done) + number, time.monotonic() + self._patience_s
        while len(done) < wanted:
            assert time.monotonic() < end
            time.sleep(0.005)

    def _shop(self, worker: int) -> None:
        for turn in count():
            if self._stop.is_set():
                return
            lease_id = f"{worker}/{turn}"
            self._insist(self._ledger.reserve, lease_id, ONE, accounts=[ALL], ttl_s=600)
            self._insist(self._ledger.commit, lease_id, ONE)
            self.committed.append(lease_id)

    def _insist(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        while True:
            begin = time.monotonic()
            try:
                call(*args, **kwargs)
            except LedgerUnavailable:
                self.refused_after_s.append(time.monotonic() - begin)
            else:
                return
