"""The card of a post-trained model: what it is, what it reached, what it cost, how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from langchain_hybridflow.posttrain.filtering import share_of_rho
from langchain_hybridflow.posttrain.running import POINTS, PosttrainResult
from langchain_hybridflow.posttrain.settings import PosttrainSettings

__all__ = ["model_card"]

_MEASURED: Final = {
    "local_accuracy": "responses that answer, and are right",
    "ask_rate": "responses that ask",
    "overall_accuracy": "right, with the cloud's answer to those that ask",
    "format_rate": "exactly in the format",
    "truncated_rate": "cut off at the longest length",
}
_LIBRARIES: Final = ("langchain-hybridflow", "torch", "transformers", "trl", "peft")


def model_card(
    settings: PosttrainSettings,
    result: PosttrainResult,
    *,
    cloud: str | None,
    instructions: str,
) -> str:
    """Write the card, as the Hub reads it.

    No path of this machine is in it: of a directory or a file only the name is told.

    Args:
        settings: How it was trained.
        result: What came of it.
        cloud: The name of the cloud model; `None` if none was asked.
        instructions: The system message of the training; empty for none.
    """
    return "\n".join(_lines(settings, result, cloud, instructions)) + "\n"


def _lines(
    settings: PosttrainSettings,
    result: PosttrainResult,
    cloud: str | None,
    instructions: str,
) -> Iterator[str]:
    base = _name_of(settings.model)
    yield from (
        "---",
        f"base_model: {json.dumps(base)}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [hybridflow, self-routing, trl]",
        "---",
        f"# {base}, post-trained to answer or ask",
        "",
        "At the end of its own thinking this model answers, or asks for a stronger model by a",
        "marker. It was trained with the method below; its license is that of the base model.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _training(settings, result, cloud)),
        "",
        "## Measured",
        "",
    )
    yield from _measured(result)
    yield from ("", "## Use", "")
    yield from _use(instructions)


def _training(
    settings: PosttrainSettings, result: PosttrainResult, cloud: str | None
) -> Iterator[tuple[str, str]]:
    counts, scheme = result.cloud, settings.scheme
    yield "method", f"{settings.method}, seed {settings.seed}"
    yield (
        "cloud share",
        f"at most {share_of_rho(settings.ratio):.1%} of the prompts (rho {settings.ratio:.4g})",
    )
    yield (
        "reward",
        f"{settings.reward}: {scheme.answer:g} for a right answer, {scheme.help:g} for help",
    )
    yield "data", f"{Path(settings.data).name}, verifier {settings.verifier}"
    yield (
        "steps",
        f"{result.steps:,} of {settings.prompts_per_step} prompts with {settings.group} responses",
    )
    yield "weights", "all" if settings.lora is None else "adapters (LoRA), merged"
    yield "cloud model", _name_of(cloud) if cloud else "none"
    yield "cloud calls", f"{counts.bought:,} bought, {counts.failed:,} failed"
    yield "cost of the cloud", "unknown" if counts.usd is None else f"{counts.usd} USD"
    yield "made with", ", ".join(_versions())


def _measured(result: PosttrainResult) -> Iterator[str]:
    measured = result.metrics
    known = [(words, measured[name]) for name, words in _MEASURED.items() if name in measured]
    if not known:
        yield "Nothing: no step was logged."
        return
    yield f"Means over the last logged steps (at most {POINTS}), on prompts of the training, with"
    yield "sampled responses. Measure it on questions of your own before you rely on it."
    yield from ("", "| | |", "|---|---|")
    yield from (f"| {words} | {value:.1%} |" for words, value in known)


def _use(instructions: str) -> Iterator[str]:
    if instructions:
        yield "The instructions of the training are part of the chat template: send the question"
        yield "alone. Programs that do not use the template need them as the system message:"
        yield from ("", *(f"    {line}" for line in instructions.splitlines()), "")
    yield from (
        "Serve it, for example with vLLM, and let the router read its marker:",
        "",
        "```python",
        "from langchain_hybridflow import RoutedChatModel",
        "from langchain_hybridflow.routing import SelfRouter",
        "",
        'model = RoutedChatModel(edge=..., cloud=..., router=SelfRouter(contract="trained"))',
        "```",
    )


def _name_of(model: str) -> str:
    """A directory's own name; a name on the Hub as it is."""
    path = Path(model)
    return path.resolve().name if path.exists() or path.is_absolute() else model


def _versions() -> Iterator[str]:
    for name in _LIBRARIES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
