"""Ask the cloud while a policy is trained: each prompt once, within the budget.

Every call reserves what it can cost before it is made, as everywhere in this package. Answers are
kept on disk, and what is there costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args
from weakref import finalize

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_hybridflow.budget import Budget
from langchain_hybridflow.calls import model_name
from langchain_hybridflow.calls.helper import Helper, has_ended
from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.errors import BudgetExceeded, ConfigurationError, ModelCallError
from langchain_hybridflow.posttrain.answers import AnswerCache, answer_key
from langchain_hybridflow.profiling.asking import Asker, Bought

__all__ = ["ON_EXHAUSTED", "CloudAnswers", "CloudCounts", "OnNoMoney"]

logger = logging.getLogger(__name__)

OnNoMoney: TypeAlias = Literal["go_on", "stop"]
ON_EXHAUSTED: Final[tuple[OnNoMoney, ...]] = get_args(OnNoMoney)
"""What a training does when the budget refuses a call."""

_T = TypeVar("_T")


@dataclass(slots=True)
class CloudCounts:
    """How often the cloud was asked.

    Attributes:
        asked: Prompts whose answer was wanted.
        cached: Of them, those whose answer was there.
        bought: Calls that brought an answer.
        failed: Calls that brought none.
        refused: Calls that the budget refused; they were not made.
        usd: What all calls cost, in USD; `None` once the cost of one is unknown.
    """

    asked: int = 0
    cached: int = 0
    bought: int = 0
    failed: int = 0
    refused: int = 0
    usd: Decimal | None = Decimal(0)

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types, USD as text."""
        return asdict(self) | {"usd": None if self.usd is None else str(self.usd)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_json` returned."""
        for one in fields(self):
            if one.name != "usd":
                setattr(self, one.name, int(state[one.name]))
        self.usd = None if state["usd"] is None else Decimal(state["usd"])


class _Loop:
    """A thread with an event loop that stays: clients are bound to the one they began in."""

    def __init__(self) -> None:
        self._thread = Helper()
        self._runner = asyncio.Runner()
        self._is_open = True

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there to its end."""
        outcome = self._thread.submit(lambda: self._runner.run(work))
        has_ended(outcome)
        return outcome.result()

    def close(self) -> None:
        """End both; harmless when done twice."""
        if self._is_open:
            self._is_open = False
            self._thread.submit(self._runner.close)
            self._thread.dismiss_before_exit()


class _UnderWay:
    """The calls that are being made, and how many have ended; a refused one is none."""

    def __init__(self) -> None:
        self.calls = 0
        self.ended = 0
        self._bell = asyncio.Event()

    async def __aenter__(self) -> None:
        self.calls += 1

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.calls -= 1
        if kind is None:
            self.ended += 1
        # A refusal gives nothing back; only the last one tells those who wait that nothing will.
        if kind is None or not self.calls:
            self._bell.set()
            self._bell = asyncio.Event()

    async def another_has_ended(self) -> None:
        """Wait until a call ends, or none is left."""
        await self._bell.wait()


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class CloudAnswers:
    """The cloud model as a training sees it: prompts in, answers out, `None` where there is none.

    Args:
        model: Any chat model.
        budget: What its calls are held against; by default one without limits, that counts.
        cache: The file that keeps the answers; see `answers.AnswerCache`.
        options: Call options in neutral form, such as `max_tokens`.
        parallel: Calls at once.
        timeout_s: Longest wait for a whole answer, in seconds.
        on_exhausted: What happens once the budget refuses a call. "go_on": answers that are there
            are used, others are missing, and nothing is tried again. "stop": the training is to
            end; see `exhausted`.
        max_failures: Calls that fail in a row before the training is ended by an error.

    Attributes:
        counts: How often the cloud was asked.
        exhausted: The refusal of the budget; `None` while there was none.

    Raises:
        ConfigurationError: A value cannot be.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from langchain_core.messages import HumanMessage
        >>> from langchain_hybridflow.testing import ScriptedChatModel
        >>> with (
        ...     TemporaryDirectory() as place,
        ...     CloudAnswers(
        ...         model=ScriptedChatModel(responses=["42"]), cache=Path(place) / "answers.sqlite"
        ...     ) as cloud,
        ... ):
        ...     cloud.answers([[HumanMessage("6 * 7?")], [HumanMessage("6 * 7?")]])
        ...     cloud.counts.bought
        ['42', '42']
        1
    """

    model: BaseChatModel
    cache: str | Path
    budget: Budget | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    parallel: int = 8
    timeout_s: float = 120.0
    on_exhausted: OnNoMoney = "go_on"
    max_failures: int = 10
    counts: CloudCounts = field(init=False, default_factory=CloudCounts)
    exhausted: BudgetExceeded | None = field(init=False, default=None)
    _kept: AnswerCache = field(init=False, repr=False)
    _asker: Asker = field(init=False, repr=False)
    _name: str = field(init=False)
    _loop: _Loop | None = field(init=False, default=None, repr=False)
    _failures: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.on_exhausted not in ON_EXHAUSTED:
            raise ConfigurationError(
                f"on_exhausted is {' or '.join(ON_EXHAUSTED)}, not {self.on_exhausted!r}."
            )
        for name in ("parallel", "max_failures"):
            count = getattr(self, name)
            if type(count) is not int or count < 1:
                raise ConfigurationError(f"{name} must be an integer >= 1, not {count!r}.")
        budget = Budget(name="posttrain") if self.budget is None else self.budget
        routed = RoutedChatModel(
            edge=self.model,  # never asked: the edge is what is being trained
            cloud=self.model,
            budget=budget,
            breaker=None,  # failures in a row are counted here: none is to hide behind another
            cloud_timeout_s=self.timeout_s,
        )
        self.budget = budget
        self._kept = AnswerCache(self.cache)
        self._asker = Asker(core=routed.core, run=budget.start_run())
        self._name = model_name(self.model)

    def __enter__(self) -> CloudAnswers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the thread go in which the calls are made; it is made anew when it is needed."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def answers(self, prompts: Sequence[Sequence[BaseMessage]]) -> list[str | None]:
        """Return the answer to each prompt, asking for what is not there, several at once.

        It may be called within a running event loop, as in a notebook: calls have their own.

        Returns:
            The texts; `None` where the call failed, or the budget refused it.

        Raises:
            ModelCallError: Too many calls failed in a row.
            ConfigurationError: No call of this kind can work.
            LedgerError: The calls cannot be booked.
            UnknownPriceError: USD are limited, and nobody has said what the model costs.
        """
        keys = [answer_key(self._name, prompt, self.options) for prompt in prompts]
        known = self._kept.get(keys)
        self.counts.asked += len(keys)
        self.counts.cached += sum(key in known for key in keys)
        missing = {key: one for key, one in zip(keys, prompts, strict=True) if key not in known}
        if missing and self.exhausted is None:
            if self._loop is None:
                self._loop = _Loop()
                finalize(self, self._loop.close)
            known |= self._loop.run(self._buy(missing))
        return [known.get(key) for key in keys]

    async def _buy(self, missing: Mapping[str, Sequence[BaseMessage]]) -> dict[str, str]:
        free = asyncio.Semaphore(self.parallel)
        under_way = _UnderWay()
        found: dict[str, str] = {}

        async def one(key: str, messages: Sequence[BaseMessage]) -> None:
            async with free:
                text = await self._ask_when_there_is_room(key, messages, under_way)
            if text is not None:
                found[key] = text

        tasks = [asyncio.create_task(one(key, messages)) for key, messages in missing.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found

    async def _ask_when_there_is_room(
        self, key: str, messages: Sequence[BaseMessage], under_way: _UnderWay
    ) -> str | None:
        """Ask, and if the budget refuses, again when another call has given back what it held.

        A call holds what it can cost at worst. So a refusal beside other calls says nothing of
        what will be left; one that stands alone does.
        """
        while self.exhausted is None:
            seen = under_way.ended
            try:
                async with under_way:
                    return await self._ask(key, messages)
            except BudgetExceeded as refusal:
                if not under_way.calls and under_way.ended == seen:
                    self._refused(refusal)
                elif under_way.ended == seen:
                    await under_way.another_has_ended()
        return None

    async def _ask(self, key: str, messages: Sequence[BaseMessage]) -> str | None:
        bought = await self._asker.ask("cloud", messages, options=self.options)
        usd = bought.attempt.cost_usd
        self.counts.usd = None if usd is None or self.counts.usd is None else self.counts.usd + usd
        if bought.text is None:
            self._failed(bought)
            return None
        self._failures = 0
        self.counts.bought += 1
        await asyncio.to_thread(
            self._kept.put,
            key,
            bought.text,
            model=self._name,
            usd=usd,
            input_tokens=bought.attempt.input_tokens,
            output_tokens=bought.attempt.output_tokens,
        )
        return bought.text

    def _refused(self, refusal: BudgetExceeded) -> None:
        self.counts.refused += 1
        if self.exhausted is None:
            self.exhausted = refusal
            logger.warning(
                "The budget refuses further cloud calls: %s The training %s.",
                refusal,
                "goes on with the answers that are there"
                if self.on_exhausted == "go_on"
                else "ends after this step",
            )

    def _failed(self, bought: Bought) -> None:
        self.counts.failed += 1
        self._failures += 1
        error = bought.attempt.error or "no reason given"
        if self._failures >= self.max_failures:
            raise ModelCallError(
                f"{self._failures} cloud calls in a row failed, the last one with: {error}. Check "
                f"that the server is up and the key is right. What was bought is kept: the "
                f"training can be resumed from its last checkpoint.",
                tier="cloud",
            )
        logger.warning("A cloud call failed: %s", error)
