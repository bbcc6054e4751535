"""Where a training goes on: from its last whole checkpoint, and as the training that it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.settings import STATE_FILE, PosttrainSettings

__all__ = ["checkpoint_of", "last_checkpoint", "remember"]

_FILE: Final = "settings.json"
# With another value of one of these it would be another training.
_SAME: Final = (
    "model",
    "method",
    "reward",
    "reward_answer",
    "reward_help",
    "reward_format",
    "verifier",
    "instructions",
    "lora",
    "prompts_per_step",
    "group",
    "learning_rate",  # that of the checkpoint would be taken, in silence
    "seed",
)


def last_checkpoint(out: str | Path) -> Path | None:
    """Return the last checkpoint that is whole; one that was being written counts for nothing.

    Args:
        out: The directory of the run, which need not be there.
    """
    found = (
        (int(number), place)
        for place in Path(out).glob("checkpoint-*")
        if (number := place.name.removeprefix("checkpoint-")).isdecimal()
        and (place / STATE_FILE).is_file()
    )
    return max(found, default=(0, None))[1]


def checkpoint_of(settings: PosttrainSettings, *, resume: bool | str | Path) -> str | None:
    """Return where a training goes on; `None` if it begins.

    Args:
        settings: The settings.
        resume: `True` for the last checkpoint, if there is one; a directory for another one;
            `False` if it is to begin.

    Raises:
        ConfigurationError: It is to begin where there is one, or to go on as another one.
    """
    place = Path(settings.out)
    if isinstance(resume, bool):
        last = last_checkpoint(place)
        if last is None:
            return None
        if not resume:
            raise ConfigurationError(
                f"{place} holds a training already, as far as {last.name}. Go on with it by "
                f"--resume (resume=True), or choose another --out."
            )
    else:
        last = Path(resume)
    _check_same(settings, place / _FILE)
    return str(last)


def remember(settings: PosttrainSettings) -> None:
    """Write down what is trained, so that it is not resumed as something else."""
    text = json.dumps(_identity(settings), indent=2)
    (Path(settings.out) / _FILE).write_text(text + "\n", encoding="utf-8")


def _identity(settings: PosttrainSettings) -> dict[str, Any]:
    values = settings.to_mapping()
    found: dict[str, Any] = json.loads(json.dumps({name: values[name] for name in _SAME}))
    return found | {"rho": settings.ratio}


def _check_same(settings: PosttrainSettings, file: Path) -> None:
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of a trainer that was started without this module
        return
    now = _identity(settings)
    other = [
        f"{name} was {before[name]!r} and is {now[name]!r}"
        for name in now
        if name in before and before[name] != now[name]
    ]
    if other:
        raise ConfigurationError(
            f"The training in {settings.out} cannot go on as another one: {'; '.join(other)}. Give "
            f"what it had, or choose another --out. Steps, limits and times may change."
        )
