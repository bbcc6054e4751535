"""What both kinds of `hybridflow profile` share: bars, how a run ends early, what to type next."""

from __future__ import annotations

import asyncio
import shlex
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from langchain_hybridflow.cli.display import say_error, screen
from langchain_hybridflow.errors import ConfigurationError, UnknownPriceError

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

__all__ = ["RunView", "in_words_of_the_command", "next_command"]


class RunView(ABC):
    """Bars on standard error while somebody watches, and Ctrl-C that loses nothing.

    Attributes:
        bars: `None` where nobody watches.
    """

    def __init__(self) -> None:
        self.bars: Progress | None = None

    @abstractmethod
    def columns(self) -> tuple[ProgressColumn, ...]:
        """What each bar shows."""

    def __enter__(self) -> Self:
        console = screen(stderr=True)
        if console.is_terminal and not console.is_dumb_terminal:
            from rich.progress import Progress

            self.bars = Progress(*self.columns(), console=console, transient=True)
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def take_ctrl_c(self, *, is_stopping: Callable[[], bool], stop: Callable[[], str]) -> None:
        """Let the first Ctrl-C stop the run in good order, and the second one leave it.

        To be called from within the event loop of the run.

        Args:
            is_stopping: Whether it is ending already.
            stop: Asks it to end, and returns what is waited for, to be said.
        """
        task = asyncio.current_task()

        def interrupt() -> None:
            if is_stopping():
                if task is not None:
                    task.cancel()
                return
            say_error(f"Stopping. {stop()} waited for; Ctrl-C again leaves them.")

        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)


@contextmanager
def in_words_of_the_command() -> Iterator[None]:
    """Let a run end as the command line knows it: by its options, and by Ctrl-C.

    Raises:
        ConfigurationError: A price is unknown; it says by which option to give it.
        KeyboardInterrupt: Ctrl-C came for the second time.
    """
    try:
        yield
    except UnknownPriceError as error:
        raise ConfigurationError(
            f"--limit-usd is set and the price of model {error.model!r} is unknown. Give it "
            f"with --price {error.model}=IN,OUT (USD per million tokens)."
        ) from error
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def next_command(outcomes: Path) -> str:
    """Return what to type next.

    Example:
        >>> next_command(Path("my profile/outcomes.parquet"))
        "hybridflow train --data 'my profile/outcomes.parquet' --out router/"
    """
    return f"hybridflow train --data {shlex.quote(str(outcomes))} --out router/"
