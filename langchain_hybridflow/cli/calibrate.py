"""`hybridflow calibrate`: find out what an edge model's confidence is worth, and where to ask."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from langchain_hybridflow.cli.display import (
    FAILED,
    INTERRUPTED,
    one_line,
    print_json,
    reports_errors,
    say_error,
    screen,
)
from langchain_hybridflow.cli.models import FORMS, ModelSpec, read_prices
from langchain_hybridflow.cli.profilerun import in_words_of_the_command
from langchain_hybridflow.cli.report import check_writable, save_page
from langchain_hybridflow.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from langchain_hybridflow.learning.confidence_fit import ConfidenceFit
    from langchain_hybridflow.learning.confidence_runs import LabelledRuns
    from langchain_hybridflow.profiling import Collected
    from langchain_hybridflow.verify import ConfidenceSignal

__all__ = ["calibrate"]

Signal = Literal["logprob", "consistency", "verbal", "marker"]

_TABLE: Final = "runs.jsonl"


@reports_errors
def calibrate(
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where the calibrator goes.")
    ],
    edge: Annotated[
        str | None, typer.Option(metavar="MODEL", help=f"The edge model to ask: {FORMS}.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Questions with their answers: .jsonl, .csv or .parquet, see docs/profile.md; "
            "sandbox:200 or puzzles:200 takes so many of the sandbox's.",
        ),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="With --edge the directory of its answers; one begun there is continued. Without, "
            "a table of labelled answers (columns score and correct), or such a directory.",
        ),
    ] = None,
    signal: Annotated[
        Signal | None,
        typer.Option(
            help="logprob: how likely its tokens were; consistency: how many more answers agree; "
            "verbal: what it says when asked how sure it is; marker: whether it asks for help."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Further answers that consistency compares with.")
    ] = 5,
    cloud_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of answers that may go to the cloud, 0 to 1."),
    ] = None,
    max_risk: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Or: share of the kept answers that may be wrong, 0 to 1."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Probability with which --max-risk is kept to.")
    ] = 0.9,
    method: Annotated[
        Literal["isotonic", "platt"],
        typer.Option(help="How scores become probabilities; platt for few answers."),
    ] = "isotonic",
    ties: Annotated[
        Literal["stay", "draw"],
        typer.Option(
            help="Equal scores that --cloud-share would tear apart: stay on the edge together, or "
            "go by lots drawn from the question."
        ),
    ] = "stay",
    on_missing: Annotated[
        Literal["accept", "escalate"],
        typer.Option(help="What happens to answers of which nobody knows how sure they are."),
    ] = "accept",
    contract: Annotated[
        Literal["none", "auto", "prompt", "trained"] | None,
        typer.Option(
            help="On what terms the model may ask for help, as in SelfRouter; auto for the "
            "marker, else none."
        ),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How answers are scored, as of hybridflow profile, but no judge."
        ),
    ] = None,
    limit_usd: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Hard limit of what asking may cost, in all runs."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=IN,OUT", help="USD per million tokens; may be repeated."),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Questions at once.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the order of the questions, the folds and the sandbox.")
    ] = 0,
    instructions: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What the model is told first; by default how to end an answer so that it can be "
            "scored. Empty for nothing.",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 2048,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of the answers; by default the model's own.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds for each model call.")] = 120.0,
    time_scale: Annotated[
        float, typer.Option(min=0, help="Speed of sandbox models: 1 is real time, 0 no waiting.")
    ] = 1.0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Ask anew; the old answers are kept in before-N.")
    ] = False,
    max_failures: Annotated[
        int, typer.Option(min=1, help="Stop after so many failures in a row.")
    ] = 10,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, as one HTML page.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Calibrate an edge model's confidence, and choose which of its answers go to the cloud.

    The model is asked questions whose answers are known. What its confidence is worth is learnt
    from that, and from which score on an answer is kept, so that the wanted share goes to the
    cloud. The file is for ConfidenceVerifier.load. No cloud model is asked.

    Whatever was answered is kept: repeat the command after Ctrl-C, a crash or an exhausted budget,
    and it goes on where it stopped. API keys come from the environment only.

    --json prints kind, method, rows, missing, accuracy, auroc, aurc, aurc_oracle, ece, ece_noise,
    brier, reliability, coverage, risk, oracle, min_score, min_probability, cloud_share, kept_risk
    (the last two with _low and _high) and notes; hybridflow report --evaluation draws several such
    files together. Their meaning is in docs/confidence.md.

    Exit codes: 0 it is done, 1 answers are missing, 2 it cannot work as it was given, 130
    interrupted.
    """
    if (cloud_share is None) == (max_risk is None):
        raise ConfigurationError("Give one of --cloud-share and --max-risk.")
    from langchain_hybridflow.learning.confidence_fit import fit_confidence
    from langchain_hybridflow.learning.confidence_points import check_target

    check_target(cloud_share, max_risk, confidence=confidence)
    if html is not None and find_spec("matplotlib") is None:
        raise MissingExtraError("Drawing a picture", "report")
    for path in (output, html):
        if path is not None:
            check_writable(path)
    if edge is None:
        labelled, named = _labelled(runs, data, signal, samples)
    else:
        chosen = _signal(signal, samples)
        collected = _collect(
            edge,
            data,
            signal=chosen,
            out=runs or output.with_suffix(".runs"),
            contract=_terms(contract, signal),
            scorer=scorer,
            limit_usd=limit_usd,
            prices=read_prices(price or ()),
            parallel=parallel,
            seed=seed,
            instructions=instructions,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout_s=timeout_s,
            time_scale=time_scale,
            restart=restart,
            max_failures=max_failures,
        )
        labelled, named = collected.runs, _settings(chosen)
    fit = fit_confidence(
        labelled,
        cloud_share=cloud_share,
        max_risk=max_risk,
        confidence=confidence,
        method=method,
        ties=ties,
        on_missing=on_missing,
        signal=named,
        seed=seed,
    )
    fit.calibrator.save(output)
    if html is not None:
        from langchain_hybridflow.report import evaluation_html

        name = signal or str(named.get("name") or output.stem)
        save_page(evaluation_html({name: fit.report.as_dict()}), html, what="1 evaluation")
    if as_json:
        print_json(fit.report.as_dict())
    else:
        _show(fit, output)


def _labelled(
    runs: Path | None, data: str | None, signal: Signal | None, samples: int
) -> tuple[LabelledRuns, dict[str, Any]]:
    """Read answers that are there, and which signal their scores are of, if that is known."""
    from langchain_hybridflow.learning.confidence_runs import read_labelled_runs
    from langchain_hybridflow.profiling.store import settings_of

    if runs is None or data is not None:
        raise ConfigurationError(
            "Give --edge and --data to ask a model, or --runs FILE with answers that have a score "
            "and a label."
        )
    table = runs / _TABLE if runs.is_dir() else runs
    known: dict[str, Any] = settings_of(table.parent).get("signal") or {}
    if signal is None:
        return read_labelled_runs(table), known
    named = _settings(_signal(signal, samples))
    if known and named != known:
        raise ConfigurationError(
            f"The scores of {table} are of {known}, and --signal {signal} is {named}. Leave "
            f"--signal out, or ask anew."
        )
    return read_labelled_runs(table), named


def _signal(name: Signal | None, samples: int) -> ConfidenceSignal:
    from langchain_hybridflow import verify

    if name is None:
        raise ConfigurationError("Say with --signal what tells how sure the model is.")
    if name == "consistency":
        return verify.SampleAgreement(samples=samples)
    if name == "verbal":
        return verify.StatedConfidence()
    return verify.TokenProbability() if name == "logprob" else verify.AskMarker()


def _settings(signal: ConfidenceSignal) -> dict[str, Any]:
    from langchain_hybridflow.verify import signal_settings

    return signal_settings(signal)


def _terms(
    contract: Literal["none", "auto", "prompt", "trained"] | None, signal: Signal | None
) -> str | None:
    if contract is None:
        return "auto" if signal == "marker" else None
    return None if contract == "none" else contract


def _collect(
    edge: str, data: str | None, *, timeout_s: float, time_scale: float, seed: int, **how: Any
) -> Collected:
    """Ask the model; where something is missing, say how to go on, and end."""
    from langchain_hybridflow.cli.calibrateview import CollectView, how_to_go_on
    from langchain_hybridflow.profiling import collect_confidence

    if data is None:
        raise ConfigurationError("Say with --data what to ask.")
    model = ModelSpec.parse(edge).build(
        "edge", timeout_s=timeout_s, time_scale=time_scale, seed=seed
    )
    with CollectView() as view, in_words_of_the_command():
        found = collect_confidence(
            data,
            edge=model,
            timeout_s=timeout_s,
            seed=seed,
            on_start=view.begin,
            on_progress=view.follow,
            **how,
        )
    for note in found.notes:
        say_error(f"Note: {one_line(note)}")
    if not found.is_complete:
        say_error(how_to_go_on(found))
        stopped = found.stop is not None and found.stop.kind == "asked"
        raise typer.Exit(INTERRUPTED if stopped else FAILED)
    return found


def _show(fit: ConfidenceFit, output: Path) -> None:
    from langchain_hybridflow.cli.calibrateview import figures_of, sentence_of

    console = screen()
    for note in fit.report.notes:
        console.print(f"Note: {one_line(note)}", soft_wrap=True)
    console.print(figures_of(fit.report))
    console.print()
    console.print(sentence_of(fit.report))
    console.print(f"Calibrator: {output}", soft_wrap=True)
    console.print(
        f'Next:       RoutedChatModel(..., verify=ConfidenceVerifier.load("{output}"))',
        soft_wrap=True,
        style="bold",
    )
