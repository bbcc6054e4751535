"""Which prompts of a run were answered: each refills the buckets of the caps on shares once."""

from __future__ import annotations

from collections.abc import Iterable
from os import urandom

from langchain_hybridflow.budget.accounts import BookEntry
from langchain_hybridflow.budget.share import Refill
from langchain_hybridflow.budget.twins import Ask, Script
from langchain_hybridflow.budget.untold import Untold

__all__ = ["Prompts", "RefillTrial"]


class Prompts:
    """The prompts of one run that were answered.

    A prompt is whatever has an owner among the purchases of a run: a call of a chat model, a
    subtask, a plan. However many calls it takes, and though the run be resumed in another process,
    it counts once: its identity in the ledger is made of the run and the owner.

    Args:
        run_id: Identity of the run.
        entries: What the accounts of the run are made from; those with a share are the buckets.
        untold: What the store is still to be told.
    """

    def __init__(self, run_id: str, entries: Iterable[BookEntry], untold: Untold) -> None:
        buckets = [(entry.stem, entry.share, entry.keep_s) for entry in entries]
        self._refills = tuple(
            Refill(stem, share.micro_calls, keep_s)
            for stem, share, keep_s in buckets
            if share is not None
        )
        self._run_id = run_id
        self._untold = untold
        self._counted: set[str] = set()

    def answered(self, owner: str) -> Script[None]:
        """Count a prompt of a run that has buckets, unless it was counted before.

        That the store does not answer is no error: it is told later.
        """
        if owner in self._counted:
            return
        self._counted.add(owner)
        refill_id = f"{self._refills[0].key}/{self._run_id}/{owner}"
        yield from self._untold.telling(Ask("refill", (refill_id, self._refills)))


class RefillTrial:
    """Finds out, once in the life of a budget, whether its store can count prompts at all.

    Before anything is bought: a store that cannot would say so when the first answer, paid for,
    is to be counted, and that answer would be lost.
    """

    def __init__(self) -> None:
        self._passed = False

    def passing(self) -> Script[None]:
        """Refill no account, unless that was done before.

        Raises:
            ConfigurationError: The store cannot count prompts as it is.
            LedgerUnavailable: It does not answer.
        """
        if not self._passed:
            yield Ask("refill", (f"trial/{urandom(16).hex()}", ()))
            self._passed = True
