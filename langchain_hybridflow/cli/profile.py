"""`hybridflow profile`: what both tiers make of a user's own questions."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from langchain_hybridflow.cli.models import FORMS, ModelSpec, read_prices
from langchain_hybridflow.cli.planprofile import credit_design, profile_subtasks
from langchain_hybridflow.cli.profilerun import in_words_of_the_command, next_command
from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_hybridflow.profiling import JudgeScorer, Profile

__all__ = ["profile"]


@reports_errors
def profile(
    *,
    edge: Annotated[str, typer.Option(metavar="MODEL", help=f"The cheap model: {FORMS}.")],
    cloud: Annotated[str, typer.Option(metavar="MODEL", help="The expensive model, likewise.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The profile; one begun there is continued.")
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Questions with their answers: .jsonl, .csv or .parquet, see docs/profile.md; "
            "sandbox:200 takes so many of the sandbox's.",
        ),
    ] = None,
    as_: Annotated[
        Literal["query", "subtasks"],
        typer.Option(
            "--as", help="Ask each question as it is, or plan it and profile its subtasks."
        ),
    ] = "query",
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Saved runs of a graph, or of ask --json: their plans and answers are used. "
            "Implies --as subtasks.",
        ),
    ] = None,
    planner: Annotated[
        Literal["auto", "always"],
        typer.Option(help="auto: trivial questions go without a plan. For subtasks."),
    ] = "auto",
    credit: Annotated[
        bool,
        typer.Option(
            "--credit/--no-credit",
            help="Whether to find out what each subtask's tier changes in the final answer.",
        ),
    ] = True,
    credit_samples: Annotated[
        int | None, typer.Option(min=1, help="Contexts in which that is tried; 8 by default.")
    ] = None,
    credit_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the other subtasks on the cloud then; by default anything from none "
            "to all (Shapley value).",
        ),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="exact, numeric[:tolerance], choice, json[:schema.json], judge, or "
            "module:function for your own. By default choice where choices are offered, else "
            "exact.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Who judges with --scorer judge: not the cloud model."),
    ] = None,
    limit_usd: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Hard limit of what the profile may cost, in all runs."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=IN,OUT", help="USD per million tokens; may be repeated."),
    ] = None,
    parallel_edge: Annotated[int, typer.Option(min=1, help="Edge calls at once.")] = 1,
    parallel_cloud: Annotated[int, typer.Option(min=1, help="Cloud calls at once.")] = 8,
    samples: Annotated[int, typer.Option(min=1, help="Answers of each tier to each question.")] = 1,
    seed: Annotated[
        int, typer.Option(help="Of the order of the questions, and of the sandbox.")
    ] = 0,
    instructions: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What the models are told first; by default how to end an answer so that it can "
            "be scored. Empty for nothing.",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 2048,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of both models; by default their own.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds for each model call.")] = 120.0,
    time_scale: Annotated[
        float, typer.Option(min=0, help="Speed of sandbox models: 1 is real time, 0 no waiting.")
    ] = 1.0,
    answers: Annotated[
        bool,
        typer.Option(
            "--answers/--no-answers", help="Whether the text of answers is kept on this disk."
        ),
    ] = True,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Score the answers that are there by this scorer.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew; the old profile is kept in before-N.")
    ] = False,
    max_failures: Annotated[
        int, typer.Option(min=1, help="Stop after so many failures in a row.")
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Ask both tiers your questions and score their answers: the data to train a router on.

    Whatever was answered is kept: repeat the command after Ctrl-C, a crash or an exhausted budget,
    and it goes on where it stopped. API keys come from the environment only.

    Exit codes: 0 everything is there, 1 something is missing, 2 it cannot work as it was given,
    130 interrupted.
    """
    specs = {"edge": ModelSpec.parse(edge), "cloud": ModelSpec.parse(cloud)}
    made: dict[str, Any] = {"timeout_s": timeout_s, "time_scale": time_scale, "seed": seed}
    only_sandbox = all(spec.provider == "sandbox" for spec in specs.values())
    if as_ == "subtasks" or runs is not None:
        _check_applies(samples=samples, instructions=instructions, answers=answers, rescore=rescore)
        profile_subtasks(
            data,
            runs=runs,
            as_json=as_json,
            edge=specs["edge"].build("edge", **made),
            cloud=specs["cloud"].build("cloud", **made),
            out=out,
            scorer=scorer if judge is None else _judge(judge, scorer, made),
            planner=planner,
            credit=credit_design(
                wanted=credit, samples=credit_samples, share=credit_share, seed=seed
            ),
            limit_usd=limit_usd,
            prices=read_prices(price or ()),
            parallel_edge=parallel_edge,
            parallel_cloud=parallel_cloud,
            seed=seed,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout_s=timeout_s,
            restart=restart,
            max_failures=max_failures,
        )
        return
    if data is None:
        raise ConfigurationError("Say with --data what to ask, or with --runs what was asked.")
    found = _run(
        data,
        edge=specs["edge"].build("edge", **made),
        cloud=specs["cloud"].build("cloud", **made),
        out=out,
        scorer=scorer if judge is None else _judge(judge, scorer, made),
        limit_usd=limit_usd,
        prices=read_prices(price or ()),
        parallel_edge=parallel_edge,
        parallel_cloud=parallel_cloud,
        samples=samples,
        seed=seed,
        instructions=instructions,
        max_tokens=max_tokens,
        temperature=temperature,
        timeout_s=timeout_s,
        keep_answers=answers,
        restart=restart,
        rescore=rescore,
        max_failures=max_failures,
        clock=_clock(time_scale if only_sandbox else 1.0),
    )
    from langchain_hybridflow.cli.profileview import how_to_go_on, show_profile

    following = next_command(found.outcomes)
    if as_json:
        print_json(found.to_json() | {"next": following})
    else:
        show_profile(found, following)
    if not found.is_complete:
        say_error(how_to_go_on(found))
        stopped = found.stop is not None and found.stop.kind == "asked"
        raise typer.Exit(INTERRUPTED if stopped else FAILED)


def _run(data: str, **options: Any) -> Profile:
    from langchain_hybridflow.cli.profileview import ProfileView
    from langchain_hybridflow.profiling import profile_questions

    with ProfileView() as view, in_words_of_the_command():
        return profile_questions(data, **options, on_start=view.begin, on_progress=view.follow)


def _check_applies(*, samples: int, instructions: str | None, answers: bool, rescore: bool) -> None:
    """Refuse what means nothing for subtasks."""
    given = {
        "--samples": samples != 1,
        "--instructions": instructions is not None,
        "--no-answers": not answers,
        "--rescore": rescore,
    }
    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise ConfigurationError(
            f"{', '.join(wrong)} is for whole questions (--as query). Subtasks are asked as a "
            f"graph asks them, and their answers are kept, since others build on them."
        )


def _judge(model: str, scorer: str | None, made: dict[str, Any]) -> JudgeScorer:
    from langchain_hybridflow.profiling import JudgeScorer

    if scorer not in (None, "judge"):
        raise ConfigurationError(f"--judge names who judges, and --scorer {scorer} asks nobody.")
    return JudgeScorer.by(ModelSpec.parse(model).build("cloud", **made))


def _clock(time_scale: float) -> Callable[[], float]:
    """Return a clock that shows the sandbox's seconds, however fast it runs."""
    if time_scale in (0.0, 1.0):
        return time.monotonic
    return lambda: time.monotonic() / time_scale
