"""The conformance suite of stores for online learning: run it on your own.

```python
class TestMyStore(OnlineStoreConformance):
    def make_store(self, *, discount=1.0, keep=1_000):
        return MyStore(context_size=2, discount=discount, keep=keep)
```

It needs pytest.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.decision_log import LoggedDecision
from langchain_hybridflow.learning.online_store import OnlineStore
from langchain_hybridflow.learning.residual import ResidualState

__all__ = ["OnlineStoreConformance", "logged_decision"]

_CONTEXT = (1.0, 0.5)
_THREADS = 8


def logged_decision(number: int) -> LoggedDecision:
    """Return a decision with that number as its id; odd ones went to the cloud.

    All its numbers are binary fractions, so that sums of them are exact in any order.

    Example:
        >>> logged_decision(3).tier, logged_decision(4).tier
        ('cloud', 'edge')
    """
    return LoggedDecision(
        decision_id=str(number),
        tier="cloud" if number % 2 else "edge",
        propensity=0.75,
        edge_quality=0.5,
        cloud_quality=0.75,
        context=_CONTEXT,
    )


class OnlineStoreConformance:
    """What every store must do, one behaviour a test; subclass it in a test module.

    Subclasses define `make_store`, which makes a new, empty store for contexts of two numbers.
    """

    def make_store(self, *, discount: float = 1.0, keep: int = 1_000) -> OnlineStore:
        """Make the store that is tested."""
        raise NotImplementedError(f"{type(self).__name__} defines no make_store().")

    def test_store_satisfies_the_protocol(self) -> None:
        """It has all methods."""
        assert isinstance(self.make_store(), OnlineStore)

    def test_reward_is_learnt_from_when_the_decision_is_there(self) -> None:
        """The residual is that of the tier that was asked."""
        store = self.make_store()
        store.note([logged_decision(1)])
        assert store.reward({"1": 1.0}) == 1
        assert store.state() == ResidualState.empty(2).after("cloud", _CONTEXT, 0.25)
        assert [one.reward for one in store.decisions()] == [1.0]

    def test_reward_waits_when_the_decision_comes_later(self) -> None:
        """The process that decided may be slower than the one that rewards."""
        store = self.make_store()
        assert store.reward({"1": 1.0}) == 0
        store.note([logged_decision(1)])
        assert store.state().updates == 1

    def test_decision_is_learnt_from_once(self) -> None:
        """However often it and its reward come."""
        store = self.make_store()
        store.note([logged_decision(1), logged_decision(1)])
        assert [store.reward({"1": 1.0}), store.reward({"1": 0.0})] == [1, 0]
        store.note([logged_decision(1)])
        assert (store.state().updates, len(store.decisions())) == (1, 1)

    def test_each_reward_discounts_what_was_before(self) -> None:
        """That of both tiers."""
        store = self.make_store(discount=0.5)
        store.note([logged_decision(1), logged_decision(2)])
        store.reward({"1": 1.0})
        store.reward({"2": 1.0})
        arms = store.state().arms
        assert (arms["cloud"].gram[0], arms["edge"].gram[0]) == (0.5, 1.0)

    def test_oldest_decisions_go_first_when_there_are_too_many(self) -> None:
        """A store stays bounded."""
        store = self.make_store(keep=3)
        for number in range(5):
            store.note([logged_decision(number)])
        assert [one.decision_id for one in store.decisions()] == ["2", "3", "4"]

    def test_rewards_without_a_decision_do_not_pile_up(self) -> None:
        """Of those, too, only the newest are kept."""
        store = self.make_store(keep=3)
        for number in range(5):
            store.reward({str(number): 1.0})
        store.note([logged_decision(0), logged_decision(1), logged_decision(4)])
        assert store.state().updates == 1

    def test_reward_is_refused_when_it_is_no_quality(self) -> None:
        """It is in 0..1, and then nothing is learnt."""
        store = self.make_store()
        store.note([logged_decision(1)])
        for reward in (-0.1, 1.1, float("nan")):
            with pytest.raises(ConfigurationError):
                store.reward({"1": reward})
        assert store.state().updates == 0

    def test_nothing_is_noted_or_learnt_from_nothing(self) -> None:
        """Empty batches are harmless."""
        store = self.make_store()
        store.note([])
        assert (store.reward({}), store.state(), store.decisions()) == (
            0,
            ResidualState.empty(2),
            [],
        )

    def test_no_update_is_lost_when_threads_share_a_store(self) -> None:
        """Each reward is learnt from once, and none is forgotten."""
        store, count = self.make_store(), 20 * _THREADS
        store.note([logged_decision(number) for number in range(count)])

        def reward(thread: int) -> int:
            return sum(store.reward({str(one): 1.0}) for one in range(thread, count, _THREADS))

        with ThreadPoolExecutor(_THREADS) as pool:
            learnt = sum(pool.map(reward, range(_THREADS)))
        expected = ResidualState.empty(2)
        for one in map(logged_decision, range(count)):
            expected = expected.after(one.tier, one.context, 1.0 - one.quality(one.tier))
        assert learnt == count
        assert store.state() == expected
