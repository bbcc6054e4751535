"""`hybridflow train`: a router from recorded outcomes of both tiers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from langchain_hybridflow.cli.display import (
    is_interactive,
    one_line,
    print_json,
    reports_errors,
    say_error,
    screen,
)
from langchain_hybridflow.cli.embeddings import Cache, Spec, embedded
from langchain_hybridflow.cli.figures import figures, figures_table
from langchain_hybridflow.errors import ConfigurationError, EmbeddingError

if TYPE_CHECKING:
    from langchain_hybridflow.learning import (
        Dataset,
        EmbeddedTexts,
        TrainedPredictor,
        TrainingReport,
    )
    from langchain_hybridflow.learning.training import StageReport

__all__ = ["MODELS", "models", "train", "writing"]

Columns = dict[str, list[Any]]

_SCORES: Final = ("correct:", "score:")
_LENGTHS: Final = ("edge_answer_chars", "weak_answer_chars")
_TEXTS: Final = ("question", "text", "prompt")
MODELS: Final = {
    "edge_model": ("edge_model", "weak_model"),
    "cloud_model": ("cloud_model", "strong_model"),
}
"""The columns that name the model of a tier."""

# What a router that draws lots has, by the definitions of APGR, CPT and AUROC.
_LOTS: Final = {"apgr": 0.5, "cpt50": 50.0, "cpt80": 80.0, "auroc": 0.5}


@reports_errors
def train(
    *,
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Outcomes: .parquet, .jsonl or .csv; see docs/router.md."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the router goes; one there is replaced.")
    ],
    aux: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Scores of other models (correct:NAME or score:NAME) by id or question: they "
            "tell how hard a question is.",
        ),
    ] = None,
    after_edge: Annotated[
        bool | None,
        typer.Option(
            "--after-edge/--no-after-edge",
            help="Also learn decisions made once the edge has answered; by default wherever the "
            "data hold the length of its answers.",
        ),
    ] = None,
    embeddings: Spec = None,
    embeddings_optional: Annotated[
        bool,
        typer.Option(
            "--embeddings-optional", help="Train without them, and say so, if they do not answer."
        ),
    ] = False,
    embeddings_cache: Cache = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Threads to use.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Train a router on questions that both tiers have answered.

    All figures of the report are of questions that were held out, by groups, when the model that
    they were measured on was fitted; the router itself is then fitted to all of them. They are of
    the text alone; what a tag that a request declares is worth, and what embeddings are, stands
    below.
    """
    from langchain_hybridflow.learning import TrainingSettings, save_router
    from langchain_hybridflow.learning import train as fit
    from langchain_hybridflow.learning.saved import check_free

    check_free(out)
    columns, dataset = _read(data, aux, after_edge=after_edge)
    vectors = _vectors(embeddings, dataset, embeddings_cache, optional=embeddings_optional)
    with _patience(f"Training on {len(dataset):,} questions ..."):
        settings = TrainingSettings(seed=seed, jobs=jobs)
        predictor, report = fit(dataset, settings=settings, embedded=vectors)
    with writing(out):
        saved = save_router(
            out,
            predictor,
            data=dataset,
            data_sha256=_sha256(data),
            training_data=_about_data(data, aux, columns, report) | _about_inputs(predictor),
            metrics=_metrics(report),
        )
    if as_json:
        print_json(_as_json(report) | {"router": str(out), "manifest_sha256": saved.sha256})
    else:
        _show(report, out, saved.sha256)


def _vectors(
    text: str | None, data: Dataset, cache: Path | None, *, optional: bool
) -> EmbeddedTexts | None:
    """Embed the questions, if that is wanted."""
    if text is None:
        if optional or cache is not None:
            raise ConfigurationError("Say which embeddings: --embeddings MODEL.")
        return None
    try:
        return embedded(text, data, cache)
    except EmbeddingError as error:
        if not optional:
            raise
        say_error(f"Note: trained without embeddings. {error}")
        return None


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Let a directory that cannot be written be a misuse with a clear message."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The router cannot be written to {place}: {error.strerror or error}. Nothing was "
            f"changed there."
        ) from error


@contextmanager
def _patience(message: str) -> Iterator[None]:
    console = screen(stderr=True)
    if not is_interactive(console):
        yield
        return
    with console.status(message):
        yield


def _read(path: Path, aux: Path | None, *, after_edge: bool | None) -> tuple[Columns, Dataset]:
    from langchain_hybridflow.learning import Dataset, read_table

    columns = read_table(path)
    if aux is not None:
        columns |= _others(columns, read_table(aux), aux)
    dataset = Dataset.from_rows(columns)
    if after_edge and dataset.answer_chars is None:
        raise ConfigurationError(
            f"--after-edge needs the length of the edge's answers, and {path.name} has no "
            f"column edge_answer_chars (or weak_answer_chars) that is filled in every row."
        )
    if any(name in columns for name in _LENGTHS) and dataset.answer_chars is None:
        say_error(
            "Note: the length of the edge's answer is not known in every row, so that no decision "
            "made once the edge has answered is learnt."
        )
    if after_edge is False:
        dataset = replace(dataset, answer_chars=None, no_answer=None)
    dataset.check_trainable()
    return columns, dataset


def _others(columns: Mapping[str, Sequence[Any]], aux: Columns, path: Path) -> Columns:
    """Return the scores of other models for each row of the data, `None` where there are none."""
    own = {name for tier in MODELS for name in models(columns, tier)}
    names = [
        name
        for name in aux
        if name.startswith(_SCORES) and name not in columns and name.partition(":")[2] not in own
    ]
    if not names:
        raise ConfigurationError(
            f"{path.name} has no column correct:NAME or score:NAME that is new; it has "
            f"{one_line(', '.join(aux), most=200) or 'none'}."
        )
    key = next((name for name in ("id", *_TEXTS) if name in columns and name in aux), None)
    if key is None:
        raise ConfigurationError(
            f"The rows of {path.name} cannot be matched with those of the data: there is no "
            f"column id or question in both."
        )
    row_of = {value: row for row, value in reversed(list(enumerate(aux[key])))}
    rows = [row_of.get(value) for value in columns[key]]
    if all(row is None for row in rows):
        raise ConfigurationError(f"No row of {path.name} has the {key} of a row of the data.")
    return {name: [None if row is None else aux[name][row] for row in rows] for name in names}


def models(columns: Mapping[str, Sequence[Any]], tier: str) -> list[str]:
    """Return the names of the models that answered, if the data say so."""
    found = next((name for name in MODELS[tier] if name in columns), None)
    return [] if found is None else sorted({str(name) for name in columns[found]})


def _about_data(
    path: Path, aux: Path | None, columns: Columns, report: TrainingReport
) -> dict[str, Any]:
    about: dict[str, Any] = {"file": path.name, "rows": report.rows, "groups": report.groups}
    for tier in MODELS:
        names = models(columns, tier)
        if len(names) == 1:
            about[tier] = names[0]
    if aux is not None:
        about |= {"aux_file": aux.name, "aux_sha256": _sha256(aux)}
    return about | {"seed": report.settings.seed, "notes": list(report.notes)}


def _about_inputs(predictor: TrainedPredictor) -> dict[str, Any]:
    """Say what requests may come with beside their text."""
    about: dict[str, Any] = {"tags": list(predictor.tags)}
    if predictor.embedding is not None:
        block = predictor.embedding
        about["embeddings"] = {"name": block.name, "dimension": block.dimension}
    return about


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _metrics(report: TrainingReport) -> dict[str, Any]:
    """Return the figures of what was chosen, flat, for manifest and model card."""
    found: dict[str, Any] = {"how": "out-of-fold, by groups", "model": report.before.chosen}
    found |= figures(report.before.candidates[report.before.chosen])
    if report.after is not None:
        after = figures(report.after.candidates[report.after.chosen])
        found |= {f"after_edge_{key}": value for key, value in after.items()}
    return found


def _views(report: TrainingReport) -> dict[str, Any]:
    """Return the figures of requests of which more than the text is known."""
    return {
        view: figures(found.before)
        | {"after_edge": None if found.after is None else figures(found.after)}
        for view, found in report.views.items()
    }


def _as_json(report: TrainingReport) -> dict[str, Any]:
    def stage(found: StageReport | None) -> dict[str, Any] | None:
        if found is None:
            return None
        rows = {name: figures(metrics) for name, metrics in found.candidates.items()}
        return {"chosen": found.chosen, "weights": dict(found.weights), "candidates": rows}

    return {
        "rows": report.rows,
        "groups": report.groups,
        "seed": report.settings.seed,
        "cpu_s": report.cpu_s,
        "accuracy": dict(report.baselines),
        "before": stage(report.before),
        "after_edge": stage(report.after),
        "with": _views(report),
        "notes": list(report.notes),
    }


def _show(report: TrainingReport, out: Path, sha256: str) -> None:
    console = screen()
    console.print(
        f"{report.rows:,} questions in {report.groups:,} groups; "
        f"{report.cpu_s:.0f} s of processor time."
    )
    for note in report.notes:
        console.print(f"Note: {one_line(note)}")
    shown = {"Before any call, out-of-fold": report.before}
    if report.after is not None:
        shown["Once the edge has answered, out-of-fold"] = report.after
    for title, stage in shown.items():
        rows = {name: figures(metrics) for name, metrics in stage.candidates.items()}
        console.print()
        console.print(
            figures_table(
                f"{title}: {stage.chosen} chosen", {"random": _LOTS} | rows, bold=stage.chosen
            )
        )
    _show_views(report)
    edge, cloud = report.baselines["always edge"], report.baselines["always cloud"]
    console.print(f"\nalways-edge is right in {edge:.1%}, always-cloud in {cloud:.1%}.")
    console.print(f"Router: {out} (manifest sha256 {sha256})", soft_wrap=True)
    console.print(
        "It asks the cloud wherever that is foreseen to be better at all. On questions of its "
        "own: hybridflow evaluate; for a share, a limit or a quality: hybridflow router tune."
    )


def _show_views(report: TrainingReport) -> None:
    if not report.views:
        return
    rows = {}
    for view, found in report.views.items():
        rows[f"with {view}"] = figures(found.before)
        if found.after is not None:
            rows[f"with {view}, after the edge"] = figures(found.after)
    console = screen()
    console.print()
    console.print(figures_table("If requests come with more than their text, out-of-fold", rows))
