"""The conformance suite of ledgers: run it on your own store.

```python
class TestMyLedger(LedgerConformance):
    threads, turns = 16, 5  # over a network, a race of 64 threads takes long

    def make_ledger(self, clock):
        self.url = a_fresh_store()
        return MyLedger(self.url, clock=clock)

    def another_handle(self, ledger, clock):
        return MyLedger(self.url, clock=clock)


TestMyLedgerMachine = ledger_state_machine(
    lambda clock: MyLedger(a_fresh_store(), clock=clock)
).TestCase
```

It needs pytest. `langchain_hybridflow.testing.ledger_state_machine`, which needs hypothesis, is the
other half.
"""

from __future__ import annotations

from langchain_hybridflow.budget import Ledger
from langchain_hybridflow.testing._ledger_accounts import AccountRules
from langchain_hybridflow.testing._ledger_kit import assert_within_limits
from langchain_hybridflow.testing._ledger_leases import LeaseRules
from langchain_hybridflow.testing._ledger_races import RaceRules

__all__ = ["LedgerConformance", "assert_within_limits"]


class LedgerConformance(LeaseRules, AccountRules, RaceRules):
    """What every ledger must do, one behaviour a test; subclass it in a test module.

    Subclasses define `make_ledger(clock)`, which builds an empty ledger for each test. What else a
    store may need:

    - `another_handle(ledger, clock)` opens the same store a second time, as another process would;
      by default it is the same object.
    - `clock` is a function that returns epoch seconds, and stands still until a test moves it: the
      store should tell time by it instead of its own clock. One that cannot sets `ttl_s` to a
      second or so and overrides `pass_time(clock, seconds)` with a real sleep, a little longer.
    - `threads` and `turns` say how many threads race, and how often each; `patience_s`, after how
      long a call that does not come back is taken to hang.

    The tests use sync methods and, under `asyncio.run`, their async twins on the same object, each
    time in a new event loop; a ledger is closed by `aclose` there, used again, and closed by
    `close` in the end. So after a close the next call connects anew.

    Example:
        >>> from langchain_hybridflow.budget import MemoryLedger
        >>> class TestMemory(LedgerConformance):
        ...     def make_ledger(self, clock):
        ...         return MemoryLedger(clock=clock)
        >>> TestMemory().test_ledger_satisfies_the_protocol(MemoryLedger())
    """

    def test_ledger_satisfies_the_protocol(self, ledger: Ledger) -> None:
        """It has all methods, sync and async."""
        assert isinstance(ledger, Ledger)
