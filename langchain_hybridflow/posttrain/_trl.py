"""The classes of TRL that the trainer stands on, or what says so when TRL is not installed.

Imported by the trainer's own modules alone, which nothing imports before they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import MissingExtraError

__all__ = ["GRPOConfig", "GRPOTrainer", "check_installed"]


class _Absent:
    """Stands in for a class that is not installed."""

    def __init__(self, *_: Any, **__: Any) -> None:
        check_installed()

    def __post_init__(self) -> None:
        check_installed()


def check_installed() -> None:
    """Make sure that there is something to train with.

    Raises:
        MissingExtraError: TRL, or torch, is not installed.
    """
    try:
        import torch  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Post-training", "rl") from error


if TYPE_CHECKING:
    GRPOConfig: Any = _Absent
    GRPOTrainer: Any = _Absent
else:
    try:
        from trl import GRPOConfig, GRPOTrainer
    except ImportError:
        GRPOConfig = GRPOTrainer = _Absent
