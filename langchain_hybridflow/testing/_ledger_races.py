"""The rules of threads, tasks and cancellation; a part of `LedgerConformance`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Generator

from langchain_hybridflow.budget import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Ledger,
    Limits,
)
from langchain_hybridflow.testing._ledger_kit import (
    LIMITED,
    LedgerCase,
    assert_within_limits,
    reserve,
    run_threads,
    window,
)
from langchain_hybridflow.testing.clock import ManualClock

__all__ = ["RaceRules"]

_ONE = Amounts(cloud_calls=1)
# How often the event loop turns before a task is cancelled: at once, and up to some ten
# milliseconds later, so that the cancellation meets a network store in every state.
_TURNS = (0, 1, 2, 3, 4, 5, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024)


class _InterruptedClock(ManualClock):
    """A clock in which, once, a generator is closed: what the garbage collector may do anywhere."""

    stream: Generator[int] | None = None

    def __call__(self) -> float:
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()
        return super().__call__()


class RaceRules(LedgerCase):
    """Exact at the limit, whoever races, and whoever is cut off."""

    def test_limit_holds_exactly_when_threads_race(self, ledger: Ledger) -> None:
        """Every unit is granted once, none twice, none is lost."""
        account = Account("race", "race", Limits(cloud_tokens=10_000, cloud_calls=100))
        granted: list[str] = []

        def work(worker: int) -> None:
            for turn in range(256 // self.threads + 1):
                lease_id = f"{worker}-{turn}"
                amounts = Amounts(cloud_tokens=100, cloud_calls=1)
                if isinstance(reserve(ledger, lease_id, amounts, account), Lease):
                    assert_within_limits(ledger.snapshot([account]))
                    granted.append(lease_id)

        run_threads(self.threads, work)
        assert len(granted) == 100
        assert ledger.snapshot([account])[0].remaining("cloud_tokens") == 0

    def test_window_holds_exactly_when_threads_race_in_all_buckets(
        self, ledger: Ledger, other: Ledger
    ) -> None:
        """Also when some workers see the next bucket earlier than others, through two handles."""
        granted: list[str] = []

        def work(worker: int) -> None:
            for turn in range(4):
                handle, account = (ledger, other)[turn % 2], window(4 + worker % 2)
                lease_id = f"{worker}-{turn}"
                if isinstance(reserve(handle, lease_id, _ONE, account), Lease):
                    granted.append(lease_id)
                    handle.commit(lease_id, _ONE)

        # Bucket 5 counts what is in bucket 4, but not the other way round.
        run_threads(self.threads, work)
        fourth, fifth = (ledger.snapshot([window(number)])[0].used for number in (4, 5))
        assert fourth.cloud_calls <= 10
        assert fifth.cloud_calls == len(granted) <= 20
        assert ledger.reconcile().differences == ()

    def test_counters_balance_when_threads_settle_in_all_ways(self, ledger: Ledger) -> None:
        """Whatever happens in parallel at the limit, it adds up, and nothing stays held."""
        account = Account("mix", "mix", Limits(cloud_calls=3))
        spent: list[int] = []

        def work(worker: int) -> None:
            for turn in range(self.turns):
                lease_id, tokens = f"{worker}-{turn}", (worker * 7 + turn) % 100
                worst = Amounts(cloud_tokens=100, cloud_calls=1)
                if isinstance(reserve(ledger, lease_id, worst, account), Denial):
                    continue
                assert_within_limits(ledger.snapshot([account]))
                if turn % 3 == 0:
                    ledger.release(lease_id)
                else:
                    ledger.commit(lease_id, Amounts(cloud_tokens=tokens))
                    spent.append(tokens)

        run_threads(self.threads, work)
        expected = AccountState(account, used=Amounts(cloud_tokens=sum(spent)))
        assert ledger.snapshot([account]) == (expected,)
        assert ledger.reconcile().differences == ()

    def test_lease_is_held_once_when_threads_ask_for_it_together(self, ledger: Ledger) -> None:
        """A request that is sent many times at once counts once."""
        leases: list[Lease | Denial] = []
        run_threads(16, lambda _: leases.append(reserve(ledger, "a", _ONE, LIMITED)))
        assert {type(lease) for lease in leases} == {Lease}
        assert ledger.snapshot([LIMITED])[0].held == _ONE

    def test_lease_is_settled_once_when_threads_commit_it_together(
        self, ledger: Ledger, other: Ledger
    ) -> None:
        """Exactly one of them settles it."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED)
        settled: list[bool] = []
        handles = (ledger, other)
        run_threads(16, lambda n: settled.append(handles[n % 2].commit("a", _ONE)))
        assert settled.count(True) == 1
        assert ledger.snapshot([LIMITED])[0] == AccountState(LIMITED, used=_ONE)

    def test_lease_expires_once_when_threads_find_it_together(
        self, ledger: Ledger, other: Ledger, clock: ManualClock
    ) -> None:
        """It is charged once, and one of them is told."""
        reserve(ledger, "a", _ONE, LIMITED, ttl_s=self.ttl_s)
        self.pass_time(clock, self.ttl_s)
        found: list[Lease] = []
        handles = (ledger, other)
        run_threads(16, lambda n: found.extend(handles[n % 2].expire()))
        assert [lease.id for lease in found] == ["a"]
        assert ledger.snapshot([LIMITED])[0].used == _ONE

    def test_note_loses_nothing_when_threads_swap_it(self, ledger: Ledger, other: Ledger) -> None:
        """Of those that saw the same version, one writes: a counter in a note counts right."""

        def work(worker: int) -> None:
            handle, mine = (ledger, other)[worker % 2], f"worker {worker}: "
            written = 0
            while written < 3:
                note = handle.snapshot([LIMITED])[0].note
                version, count = (note.version, int(note.text.split()[-1])) if note else (0, 0)
                text = f"{mine}{count + 1}"
                now = handle.swap_note("team", expected_version=version, text=text)
                written += (now.version, now.text) == (version + 1, text)

        run_threads(8, work)
        note = ledger.snapshot([LIMITED])[0].note
        assert note is not None
        assert (note.version, note.text.split()[-1]) == (24, "24")

    def test_limit_holds_exactly_when_200_coroutines_race(self, ledger: Ledger) -> None:
        """The same with tasks that yield between reserving and settling."""
        account = Account("tasks", "tasks", Limits(cloud_calls=50))

        async def work(worker: int) -> bool:
            answer = await ledger.areserve(f"{worker}", _ONE, accounts=[account], ttl_s=600.0)
            await asyncio.sleep(0)
            assert_within_limits(await ledger.asnapshot([account]))
            if isinstance(answer, Denial):
                return False
            return await ledger.acommit(answer.id, _ONE)

        async def race() -> list[bool]:
            try:
                return await asyncio.gather(*(work(worker) for worker in range(200)))
            finally:
                await ledger.aclose()

        assert asyncio.run(race()).count(True) == 50
        assert ledger.snapshot([account])[0] == AccountState(account, used=Amounts(cloud_calls=50))

    def test_reserve_leaves_nothing_held_when_it_is_cancelled(self, ledger: Ledger) -> None:
        """At whatever point: the caller has no lease that it could release."""

        async def cut_all() -> None:
            for turns in _TURNS:
                call = ledger.areserve(f"cut-{turns}", _ONE, accounts=[LIMITED], ttl_s=600.0)
                if await _cut(call, turns):
                    assert (await ledger.asnapshot([LIMITED]))[0].held == NOTHING, turns
                else:
                    assert await ledger.arelease(f"cut-{turns}")
            await ledger.aclose()

        asyncio.run(cut_all())
        assert ledger.snapshot([LIMITED])[0] == AccountState(LIMITED)
        assert ledger.reconcile().differences == ()

    def test_open_lease_stays_when_its_replay_is_cancelled(self, ledger: Ledger) -> None:
        """What the cancelled call did not open, it does not free."""
        reserve(ledger, "a", _ONE, LIMITED)

        async def cut_all() -> None:
            for turns in _TURNS:
                await _cut(ledger.areserve("a", _ONE, accounts=[LIMITED], ttl_s=600.0), turns)
            await ledger.aclose()

        asyncio.run(cut_all())
        assert ledger.snapshot([LIMITED])[0].held == _ONE

    def test_settlement_is_whole_when_it_is_cancelled_and_sent_again(self, ledger: Ledger) -> None:
        """A commit that was cut off is booked once, and a release frees all, after a second try."""
        account = Account("cuts", "cuts")

        async def cut_all() -> None:
            for turns in _TURNS:
                for lease_id in (f"spent-{turns}", f"free-{turns}"):
                    reserve(ledger, lease_id, _ONE + _ONE, account)
                await _cut(ledger.acommit(f"spent-{turns}", _ONE), turns)
                await ledger.acommit(f"spent-{turns}", _ONE)
                await _cut(ledger.arelease(f"free-{turns}"), turns)
                await ledger.arelease(f"free-{turns}")
            await ledger.aclose()

        asyncio.run(cut_all())
        expected = AccountState(account, used=Amounts(cloud_calls=len(_TURNS)))
        assert ledger.snapshot([account]) == (expected,)
        assert ledger.reconcile().differences == ()

    def test_lease_can_be_settled_in_the_middle_of_another_call(self) -> None:
        """The garbage collector closes an abandoned stream, whose `finally` commits, anywhere."""
        clock = _InterruptedClock(start_s=1_000.0)
        ledger = self.make_ledger(clock)

        def read() -> Generator[int]:
            try:
                yield 1
            finally:
                ledger.commit("stream", _ONE)

        def interrupt() -> None:
            reserve(ledger, "stream", _ONE, LIMITED)
            clock.stream = stream = read()
            next(stream)
            reserve(ledger, "next", _ONE, LIMITED)
            stream.close()  # if the ledger did not look at the clock

        # In a thread of its own: a ledger that cannot do this hangs for ever.
        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        thread.join(timeout=self.patience_s)
        assert not thread.is_alive(), "the ledger waits for itself"
        assert ledger.snapshot([LIMITED]) == (AccountState(LIMITED, used=_ONE, held=_ONE),)
        assert ledger.reconcile().differences == ()
        ledger.close()


async def _cut(call: Awaitable[object], turns: int) -> bool:
    """Cancel a call after some turns of the event loop; whether it was cut off."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False
