"""Where online learning keeps what it has learnt, so that several processes learn as one."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.decision_log import LoggedDecision
from langchain_hybridflow.learning.residual import ResidualState

__all__ = ["MemoryOnlineStore", "OnlineStore", "SQLiteOnlineStore"]

_KEPT = 100_000


@runtime_checkable
class OnlineStore(Protocol):
    """Keeps decisions until their reward is known, and what was learnt from those that have one.

    A decision and its reward may come in any order, from any process; each decision is learnt
    from once, when both are there.
    """

    def note(self, decisions: Sequence[LoggedDecision]) -> None:
        """Take in decisions, and learn from those whose reward was there before them."""
        ...

    def reward(self, rewards: Mapping[str, float]) -> int:
        """Take in rewards in 0..1 by decision id; return how many were learnt from at once."""
        ...

    def state(self) -> ResidualState:
        """Return what was learnt."""
        ...

    def decisions(self) -> list[LoggedDecision]:
        """Return the decisions that are kept, the oldest first: the log for `ope` and `drift`."""
        ...


class MemoryOnlineStore:
    """Keeps all in this process; the reference.

    Args:
        context_size: Length of a context.
        discount: By how much each reward discounts those before it; 1 forgets nothing. 0.995
            remembers about the last 200 rewards.
        keep: How many decisions, and rewards without a decision, are kept; the oldest go first.

    Raises:
        ConfigurationError: The discount is not in (0, 1].

    Example:
        >>> store = MemoryOnlineStore(context_size=1)
        >>> store.note(
        ...     [
        ...         LoggedDecision(
        ...             decision_id="7",
        ...             tier="cloud",
        ...             propensity=0.9,
        ...             edge_quality=0.4,
        ...             cloud_quality=0.5,
        ...             context=(1.0,),
        ...         )
        ...     ]
        ... )
        >>> store.reward({"7": 1.0}), store.state().arms["cloud"].moment
        (1, (0.5,))
    """

    def __init__(self, *, context_size: int, discount: float = 1.0, keep: int = _KEPT) -> None:
        _check(context_size, discount, keep)
        self.discount = discount
        self.keep = keep
        self._state = ResidualState.empty(context_size)
        self._decisions: dict[str, LoggedDecision] = {}
        self._early: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, decisions: Sequence[LoggedDecision]) -> None:
        """Take in decisions."""
        with self._lock:
            for decision in decisions:
                if decision.decision_id not in self._decisions:
                    self._decisions[decision.decision_id] = decision
                    self._join(decision.decision_id)
            _trim(self._decisions, self.keep)

    def reward(self, rewards: Mapping[str, float]) -> int:
        """Take in rewards."""
        _check_rewards(rewards)
        with self._lock:
            before = self._state.updates
            for decision_id, reward in rewards.items():
                self._early.setdefault(decision_id, reward)
                self._join(decision_id)
            _trim(self._early, self.keep)
            return self._state.updates - before

    def _join(self, decision_id: str) -> None:
        decision, reward = self._decisions.get(decision_id), self._early.get(decision_id)
        if decision is None or reward is None:
            return
        del self._early[decision_id]
        if decision.reward is None:
            rewarded = _rewarded(decision, reward)
            self._decisions[decision_id] = rewarded
            self._state = _learnt(self._state, rewarded, self.discount)

    def state(self) -> ResidualState:
        """Return what was learnt."""
        return self._state

    def decisions(self) -> list[LoggedDecision]:
        """Return the decisions that are kept."""
        with self._lock:
            return list(self._decisions.values())


_TABLES = """
CREATE TABLE IF NOT EXISTS hybridflow_online (
    id INTEGER PRIMARY KEY CHECK (id = 1), settings TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS hybridflow_decisions (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, line TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS hybridflow_rewards (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, reward REAL NOT NULL);
"""


class SQLiteOnlineStore:
    """Keeps all in one SQLite file, which any number of processes of one machine share.

    What is learnt from a reward is added in the transaction that takes the reward in, under
    SQLite's own write lock (BEGIN IMMEDIATE): no update is lost, and none is made twice. Calls
    block for a millisecond or so; from a coroutine use `asyncio.to_thread`. The file holds
    numbers and ids, no text of questions or answers.

    Args:
        path: The file; it is made if it does not exist.
        context_size: Length of a context.
        discount: As of `MemoryOnlineStore`; the same for all processes.
        keep: As of `MemoryOnlineStore`.
        timeout_s: How long to wait for other processes.

    Raises:
        ConfigurationError: The discount is not in (0, 1], or the file was made with another
            context or discount, or is no SQLite file.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        context_size: int,
        discount: float = 1.0,
        keep: int = _KEPT,
        timeout_s: float = 10.0,
    ) -> None:
        _check(context_size, discount, keep)
        self.path = Path(path)
        self.discount = discount
        self.keep = keep
        self.timeout_s = timeout_s
        self._lock = threading.RLock()
        self._connections: list[tuple[int, sqlite3.Connection]] = []
        settings = json.dumps({"format": 1, "context_size": context_size, "discount": discount})
        empty = json.dumps(ResidualState.empty(context_size).to_json())
        try:
            with self._writing() as connection:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(
                    "INSERT OR IGNORE INTO hybridflow_online VALUES (1, ?, ?)", (settings, empty)
                )
                (there,) = connection.execute("SELECT settings FROM hybridflow_online").fetchone()
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"{self.path.name} cannot be used to learn into: {error}. Give a path of its own, "
                f"in a directory that may be written to."
            ) from error
        if there != settings:
            raise ConfigurationError(
                f"{self.path.name} was made with {there}, and this router wants {settings}. Learn "
                f"into another file, or go back to those settings."
            )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def _connected(self) -> sqlite3.Connection:
        """The connection of this process: SQLite's must not be used, nor closed, across a fork."""
        if self._connections and self._connections[-1][0] == os.getpid():
            return self._connections[-1][1]
        connection = sqlite3.connect(
            self.path, self.timeout_s, isolation_level=None, check_same_thread=False
        )
        self._connections.append((os.getpid(), connection))
        # The disk is not waited for: a machine that loses power may forget the last few rewards.
        with suppress(sqlite3.OperationalError):  # busy: another process is just doing the same
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connections and self._connections[-1][0] == os.getpid():
                self._connections.pop()[1].close()

    def __del__(self) -> None:
        if getattr(self, "_connections", None):
            self.close()

    def note(self, decisions: Sequence[LoggedDecision]) -> None:
        """Take in decisions."""
        if not decisions:
            return
        lines = [(one.decision_id, json.dumps(one.to_json())) for one in decisions]
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO hybridflow_decisions (id, line) VALUES (?, ?)", lines
            )
            self._join(connection, [one for one, _ in lines])
            connection.execute(
                "DELETE FROM hybridflow_decisions WHERE place <= "
                "(SELECT max(place) FROM hybridflow_decisions) - ?",
                (self.keep,),
            )

    def reward(self, rewards: Mapping[str, float]) -> int:
        """Take in rewards."""
        _check_rewards(rewards)
        if not rewards:
            return 0
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO hybridflow_rewards (id, reward) VALUES (?, ?)",
                rewards.items(),
            )
            learnt = self._join(connection, list(rewards))
            connection.execute(
                "DELETE FROM hybridflow_rewards WHERE place <= "
                "(SELECT max(place) FROM hybridflow_rewards) - ?",
                (self.keep,),
            )
            return learnt

    def _join(self, connection: sqlite3.Connection, ids: Sequence[str]) -> int:
        """Learn from the decisions among these that have a reward; runs within a transaction."""
        state = before = self._read(connection)
        for decision_id in ids:
            row = connection.execute(
                "SELECT line, reward FROM hybridflow_decisions JOIN hybridflow_rewards "
                "USING (id) WHERE id = ?",
                (decision_id,),
            ).fetchone()
            if row is None:
                continue
            connection.execute("DELETE FROM hybridflow_rewards WHERE id = ?", (decision_id,))
            decision = LoggedDecision.from_json(json.loads(row[0]))
            if decision.reward is not None:
                continue
            rewarded = _rewarded(decision, row[1])
            state = _learnt(state, rewarded, self.discount)
            connection.execute(
                "UPDATE hybridflow_decisions SET line = ? WHERE id = ?",
                (json.dumps(rewarded.to_json()), decision_id),
            )
        if state is not before:
            connection.execute(
                "UPDATE hybridflow_online SET state = ?", (json.dumps(state.to_json()),)
            )
        return state.updates - before.updates

    def state(self) -> ResidualState:
        """Return what was learnt."""
        with self._lock:
            return self._read(self._connected())

    def decisions(self) -> list[LoggedDecision]:
        """Return the decisions that are kept."""
        with self._lock:
            rows = self._connected().execute("SELECT line FROM hybridflow_decisions ORDER BY place")
            return [LoggedDecision.from_json(json.loads(line)) for (line,) in rows]

    @staticmethod
    def _read(connection: sqlite3.Connection) -> ResidualState:
        (text,) = connection.execute("SELECT state FROM hybridflow_online").fetchone()
        return ResidualState.from_json(json.loads(text))


def _check(context_size: int, discount: float, keep: int) -> None:
    if not 0.0 < discount <= 1.0:
        raise ConfigurationError(f"discount must be in 0..1 and not 0, got {discount!r}.")
    if context_size < 1 or keep < 1:
        raise ConfigurationError(
            f"context_size and keep must be at least 1, got {context_size!r} and {keep!r}."
        )


def _check_rewards(rewards: Mapping[str, float]) -> None:
    for decision_id, reward in rewards.items():
        if not 0.0 <= reward <= 1.0:
            raise ConfigurationError(
                f"A reward is the quality of an answer in 0..1, got {reward!r} for decision "
                f"{decision_id!r}."
            )


def _rewarded(decision: LoggedDecision, reward: float) -> LoggedDecision:
    return LoggedDecision.from_json(decision.to_json() | {"reward": float(reward)})


def _learnt(state: ResidualState, decision: LoggedDecision, discount: float) -> ResidualState:
    residual = decision.residual
    if residual is None:
        return state
    return state.after(decision.tier, decision.context, residual, discount=discount)


def _trim(kept: dict[str, LoggedDecision] | dict[str, float], most: int) -> None:
    for key in list(kept)[: max(0, len(kept) - most)]:
        del kept[key]
