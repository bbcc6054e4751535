"""What the tests of faults have found: how much was tried, lost, and spent too much.

Each test notes it with `record`, which logs it (`pytest --log-cli-level=INFO`);
`benchmarks/faults.py` runs them all and makes a table of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

__all__ = ["FOUND", "Found", "record"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one fault on one store.

    Args:
        fault: What was done.
        store: On which store.
        tried: How often.
        lost: Cloud calls that were made and are in no counter.
        overshoot: By how many calls the limit was passed, overdraft apart.
        charged: Calls that were charged without being made: nobody can know that they were not.
    """

    fault: str
    store: str
    tried: int
    lost: int
    overshoot: int
    charged: int = 0


FOUND: list[Found] = []


def record(found: Found) -> None:
    """Note it, and hold that nothing was lost or passed.

    Raises:
        AssertionError: Something was.
    """
    FOUND.append(found)
    logger.info("%s", found)
    assert (found.lost, found.overshoot) == (0, 0), found
