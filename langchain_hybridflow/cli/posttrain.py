"""`hybridflow posttrain`: teach an edge model of one's own when to ask."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from langchain_hybridflow.cli.display import (
    FAILED,
    INTERRUPTED,
    print_json,
    reports_errors,
    say_error,
)
from langchain_hybridflow.cli.models import FORMS, ModelSpec
from langchain_hybridflow.cli.profilerun import in_words_of_the_command
from langchain_hybridflow.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from langchain_hybridflow.cli.posttrainfile import CommandSettings
    from langchain_hybridflow.posttrain import PosttrainSettings
    from langchain_hybridflow.posttrain.foreseeing import Foresight

__all__ = ["posttrain"]


@reports_errors
def posttrain(
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings as TOML, by the names of these options with _ for -; the command line "
            "wins. --print-config writes one.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The edge model: a name on the Hub, or a directory."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Prompts with their answers: .jsonl, .csv or .parquet, see docs/posttrain.md.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Checkpoints, cloud answers, logs; the model at the end."),
    ] = None,
    cloud: Annotated[
        str | None, typer.Option(metavar="MODEL", help=f"The expensive model: {FORMS}.")
    ] = None,
    rho: Annotated[
        float | None,
        typer.Option(
            help="Prompts that the cloud solves for each one that the model solves itself, at "
            "most; 3/7 by default, which is 30 % of all."
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            "--share",
            "--cloud-share",
            help="The same as a share of all prompts, 0 to 1: rho / (1 + rho).",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="gapg (default); to compare: task, grpo, dr_grpo, rloo, da_grpo."),
    ] = None,
    reward: Annotated[
        Literal["v1", "v4"] | None, typer.Option(help="Form of the reward; v4 by default.")
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What is right: exact (default), numeric, math, choice, json[:schema.json], "
            "tests, or module:function for your own.",
        ),
    ] = None,
    limit_usd: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Hard limit of what the cloud may cost, in all runs."),
    ] = None,
    max_cloud_calls: Annotated[
        int | None, typer.Option(min=0, help="Hard limit of cloud calls, in all runs.")
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=IN,OUT", help="USD per million tokens; may be repeated."),
    ] = None,
    on_exhausted: Annotated[
        Literal["go_on", "stop"] | None,
        typer.Option(help="At the limit: go on without new answers (default), or end."),
    ] = None,
    lora: Annotated[
        bool | None,
        typer.Option("--lora/--no-lora", help="Train low-rank adapters, or all weights (default)."),
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Their rank; implies --lora. 16 by default.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps; 200 by default.")] = None,
    prompts_per_step: Annotated[
        int | None, typer.Option(min=1, help="Prompts of a step; 16 by default.")
    ] = None,
    group: Annotated[
        int | None, typer.Option(min=2, help="Responses to each prompt; 8 by default.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest response; 1024 by default.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="1e-6 by default.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random; 0.")] = None,
    save_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints; 50 by default.")
    ] = None,
    trainer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other option of TRL's GRPOConfig, such as bf16=true; may be repeated.",
        ),
    ] = None,
    logdir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where TensorBoard finds the curves; OUT/logs."),
    ] = None,
    time_scale: Annotated[
        float | None, typer.Option(min=0, help="Speed of a sandbox cloud: 0 does not wait.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, say what it can cost, train nothing."),
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Write all settings as TOML, and end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
) -> None:
    """Post-train an edge model with your own prompts: it learns to solve, and when to ask.

    Each prompt is answered several times; right answers are rewarded most, asking for help
    where only the cloud is right less, and the share of help never passes what was allowed. A cloud
    answer is bought once and kept: whatever ends the run, --resume goes on from the last
    checkpoint and buys nothing again. API keys come from the environment only.

    Exit codes: 0 it is trained, 1 it ended early, 2 it cannot work as it was given, 130
    interrupted.
    """
    from langchain_hybridflow.cli.posttrainfile import CommandSettings, read_file, read_options

    given = {
        "model": model,
        "data": data,
        "out": out,
        "cloud": cloud,
        "price": price or None,
        "time_scale": time_scale,
        "rho": rho,
        "share": share,
        "method": method,
        "reward": reward,
        "verifier": verifier,
        "limit_usd": limit_usd,
        "max_cloud_calls": max_cloud_calls,
        "on_exhausted": on_exhausted,
        "steps": steps,
        "prompts_per_step": prompts_per_step,
        "group": group,
        "max_new_tokens": max_new_tokens,
        "learning_rate": learning_rate,
        "seed": seed,
        "save_every": save_every,
        "trainer": read_options(trainer) if trainer else None,
        "logdir": logdir,
    }
    said = {name: value for name, value in given.items() if value is not None}
    settings = CommandSettings.of(read_file(config), said | _adapters(lora, lora_rank))
    if print_config:
        typer.echo(settings.to_toml(), nl=False)
    elif dry_run:
        _foresee(settings, as_json=as_json)
    else:
        _train(settings, resume=resume, as_json=as_json)


def _adapters(wanted: bool | None, rank: int | None) -> dict[str, Any]:
    """Return what the options say of adapters: nothing, none, or these."""
    if wanted is False:
        if rank is not None:
            raise ConfigurationError("--lora-rank is the rank of adapters, and --no-lora has none.")
        return {"lora": None}
    if rank is None and not wanted:
        return {}
    # Twice the rank is the usual weight; r alone would leave that of another rank.
    return {"lora": {} if rank is None else {"r": rank, "lora_alpha": 2 * rank}}


def _foresee(settings: CommandSettings, *, as_json: bool) -> None:
    """Say what it would do and cost, and what is in the way."""
    from langchain_hybridflow.cli.posttrainview import show_foresight

    training, cloud = settings.training(), _cloud_of(settings)
    found = _checked(settings, training, cloud)
    if as_json:
        print_json(found.to_json())
    else:
        show_foresight(found, training, cloud=_name_of(cloud))
    _say_notes(found, training, cloud)


def _train(settings: CommandSettings, *, resume: bool, as_json: bool) -> None:
    from langchain_hybridflow.cli.posttrainview import TrainingView, quiet, show_result
    from langchain_hybridflow.posttrain import posttrain as train

    training, cloud = settings.training(), _cloud_of(settings)
    found = _checked(settings, training, cloud)
    options: dict[str, Any] = {
        "timeout_s": training.cloud_timeout_s,
        "time_scale": settings.values["time_scale"],
        "seed": training.seed,
    }
    asked = None if cloud is None else cloud.build("cloud", **options)
    _check_installed()
    _say_notes(found, training, cloud)
    try:
        with quiet(), TrainingView() as view, in_words_of_the_command():
            result = train(
                training,
                cloud=asked,
                prices=settings.prices(),
                callbacks=[view.callback()],
                resume=resume,
            )
    except KeyboardInterrupt:
        say_error(
            "Interrupted. With --resume it goes on from its last checkpoint, and buys nothing "
            "twice."
        )
        raise typer.Exit(INTERRUPTED) from None
    if int(os.environ.get("RANK", "0")):  # one of several processes, and not the first
        return
    if as_json:
        print_json(result.to_json())
    else:
        show_result(result, base=training.model)
    if result.stopped:
        say_error(
            "Ended early: the budget has nothing left for another cloud call. Go on with --resume "
            "and a higher --limit-usd or --max-cloud-calls: nothing is bought twice."
        )
        raise typer.Exit(FAILED)


def _checked(
    settings: CommandSettings, training: PosttrainSettings, cloud: ModelSpec | None
) -> Foresight:
    """Read the data and the prices: what is wrong with them is said before anything is loaded."""
    from langchain_hybridflow.posttrain.foreseeing import foresee

    with in_words_of_the_command():
        return foresee(training, cloud=_name_of(cloud), prices=settings.prices())


def _cloud_of(settings: CommandSettings) -> ModelSpec | None:
    """Return whom to ask; `None` if the method asks nobody."""
    if settings.values["method"] == "task":
        return None
    if not settings.values["cloud"]:
        raise ConfigurationError(
            f"Say with --cloud whom to ask: {FORMS}. Only --method task goes without."
        )
    return ModelSpec.parse(settings.values["cloud"])


def _name_of(cloud: ModelSpec | None) -> str | None:
    """Return the name by which prices and answers of the cloud model go."""
    if cloud is None or cloud.provider != "sandbox":
        return None if cloud is None else cloud.name
    from langchain_hybridflow.calls import model_name

    return model_name(cloud.build("cloud"))


def _check_installed() -> None:
    if find_spec("trl") is None or find_spec("torch") is None:
        raise MissingExtraError("Post-training", "rl")


def _say_notes(found: Foresight, training: PosttrainSettings, cloud: ModelSpec | None) -> None:
    """Say what is no error, and probably not what was meant."""
    if found.without_answer:
        say_error(
            f"Note: {found.without_answer:,} of {found.prompts:,} rows say nothing of what is "
            f"right; nothing is learnt from them."
        )
    if cloud is not None and cloud.provider == "openai" and not cloud.key(os.environ):
        say_error("Note: OPENAI_API_KEY is not set.")
    if find_spec("trl") is None:
        say_error("Note: to train, install the extra: pip install 'langchain-hybridflow[rl]'")
        return
    import torch

    if not torch.accelerator.is_available():
        say_error(
            f"Note: torch sees no GPU here. On a CPU only tiny models are trained in a useful "
            f"time; {training.model} is probably none."
        )
