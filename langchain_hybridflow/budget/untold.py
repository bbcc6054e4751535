"""Settlements that a store has missed, until it can be told."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from typing import Final

from langchain_hybridflow.budget.twins import Ask, Script
from langchain_hybridflow.errors import LedgerError, LedgerUnavailable

__all__ = ["Untold"]

logger = logging.getLogger(__name__)

_MOST: Final = 10_000
"""How many are remembered; what is forgotten expires, and is charged in full."""

_AT_ONCE: Final = 100
"""How many a caller, who wants something else, tells the store at most."""


class Untold:
    """What a budget has still to tell its store; safe to share by threads and event loops.

    It outlives the runs: each call of a chat model is a run of its own, and a settlement that its
    last request to the store could not deliver would be lost with it.

    Example:
        >>> from langchain_hybridflow.budget.memory import MemoryLedger
        >>> from langchain_hybridflow.budget.twins import do
        >>> untold = Untold()
        >>> untold.add(Ask("release", ("a",)))
        >>> do(MemoryLedger(), untold.catching_up())
        >>> len(untold)
        0
    """

    def __init__(self) -> None:
        self._asks: deque[Ask] = deque(maxlen=_MOST)

    def __len__(self) -> int:
        return len(self._asks)

    def add(self, settlement: Ask) -> None:
        """Remember a settlement that the store may have missed."""
        self._asks.append(settlement)

    def telling(self, settlement: Ask) -> Script[None]:
        """Settle, or remember that it is still to be done if the store does not answer."""
        try:
            yield settlement
        except LedgerUnavailable as error:
            self.add(settlement)
            logger.warning("A call could not be settled; it will be, or expires: %s", error)
        except LedgerError:
            raise
        except BaseException:  # cancelled: perhaps before it was settled
            self.add(settlement)
            raise

    def catching_up(self) -> Script[None]:
        """Tell the store some of what it has missed; all of that is safe to be sent twice.

        Raises:
            LedgerUnavailable: It does not answer.
        """
        for _ in range(min(len(self._asks), _AT_ONCE)):
            with suppress(IndexError):  # another thread is at it, too
                settlement = self._asks.popleft()
                try:
                    yield settlement
                except LedgerUnavailable:
                    self._asks.appendleft(settlement)
                    raise
                except LedgerError as error:  # it would be in the way of all calls to come
                    logger.error("A call is not settled, %s: %s", settlement.args, error)  # noqa: TRY400 - the message says it all
                except BaseException:  # cancelled
                    self._asks.appendleft(settlement)
                    raise
