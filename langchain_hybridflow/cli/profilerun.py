"""What both kinds of `hybridflow profile` share: how a run ends early, and what to type next."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langchain_hybridflow.errors import ConfigurationError, UnknownPriceError

__all__ = ["in_words_of_the_command", "next_command"]


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
