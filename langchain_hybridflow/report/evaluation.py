"""The report of `hybridflow evaluate` and `calibrate`: how good routers and signals are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_hybridflow.errors import ConfigurationError, InputError
from langchain_hybridflow.report._curves import curve_chart, gains_chart, reliability_chart
from langchain_hybridflow.report._markup import Html, tag
from langchain_hybridflow.report._outputs import cleaned
from langchain_hybridflow.report._page import figure, page, section, tiles
from langchain_hybridflow.report._svg import inline_svg
from langchain_hybridflow.report.confidence import (
    ConfidenceEvaluation,
    confidence_sections,
    first_fault,
    is_confidence,
)

__all__ = ["RouterEvaluation", "evaluation_html"]

_FROZEN: Final = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
_Share = Annotated[float, Field(ge=0, le=1)]
_Gain = Annotated[float, Field(ge=-1, le=1)]

_FIGURES: Final = (
    ("apgr", "APGR", "area under the recovered gap; random is 0.5", 3),
    ("cpt50", "CPT 50 %", "% of calls in the cloud that recover half of the gap", 1),
    ("cpt80", "CPT 80 %", "% of calls in the cloud that recover four fifths of it", 1),
    ("auroc", "AUROC", "tells what only the cloud answers; chance has 0.5", 3),
    ("brier", "Brier", "squared error of the probabilities", 3),
    ("ece", "ECE", "calibration error of the predicted gain", 3),
    ("regret", "Regret", "accuracy lost against the oracle", 3),
)


class _Figures(BaseModel):
    model_config = _FROZEN

    rows: Annotated[int, Field(ge=1)]
    edge_accuracy: _Share
    cloud_accuracy: _Share
    apgr: float | None = None
    apgr_low: float | None = None
    apgr_high: float | None = None
    apgr_oracle: float | None = None
    cpt50: Annotated[float, Field(ge=0, le=100)] | None = None
    cpt80: Annotated[float, Field(ge=0, le=100)] | None = None
    auroc: float | None = None
    brier: float | None = None
    ece: float | None = None
    regret: float | None = None


class _Curve(BaseModel):
    model_config = _FROZEN

    cloud_share: Annotated[tuple[_Share, ...], Field(min_length=2)]
    accuracy: tuple[_Share, ...]
    low: tuple[_Share, ...] = ()
    high: tuple[_Share, ...] = ()
    oracle: tuple[_Share, ...] = ()


class _Bin(BaseModel):
    model_config = _FROZEN

    rows: int
    predicted: _Gain
    observed: _Gain
    error: Annotated[float, Field(ge=0, le=2)] = 0.0


class _Gains(BaseModel):
    model_config = _FROZEN

    edges: tuple[_Gain, ...]
    counts: tuple[Annotated[int, Field(ge=0)], ...]


class _Point(BaseModel):
    model_config = _FROZEN

    min_gain: float
    cloud_share: _Share
    accuracy: _Share


class RouterEvaluation(_Figures):
    """What `hybridflow evaluate --json` printed, as far as it is drawn.

    Attributes:
        curve: Accuracy over the share of cloud calls.
        reliability: Predicted and observed gains, in bins.
        gains: Histogram of the predicted gains.
        operating_point: Where the router was saved to decide.
        by_category: The figures for each category.
        after_edge: The figures of decisions made once the edge has answered.
        seen_in_training: Questions that were in the training data.
        warnings: What was said about the data.
    """

    curve: _Curve
    reliability: tuple[_Bin, ...] = ()
    gains: _Gains | None = None
    operating_point: _Point | None = None
    by_category: dict[str, _Figures] = Field(default_factory=dict)
    after_edge: _Figures | None = None
    seen_in_training: int = 0
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: object) -> RouterEvaluation:
        """Read it from plain JSON types.

        Raises:
            InputError: It is no evaluation.
        """
        try:
            found = cls.model_validate(cleaned(value))
        except ValidationError as error:
            raise InputError(
                f"This is not what hybridflow evaluate --json prints: {first_fault(error)}."
            ) from error
        curve, count = found.curve, len(found.curve.cloud_share)
        others = (curve.low, curve.high, curve.oracle)
        if len(curve.accuracy) != count or any(len(line) not in (0, count) for line in others):
            raise InputError("This is not an evaluation: the lines of its curve differ in length.")
        if found.gains and len(found.gains.edges) != len(found.gains.counts) + 1:
            raise InputError("This is not an evaluation: its histogram has too few ends.")
        return found


def evaluation_html(evaluations: Mapping[str, Any], *, title: str = "") -> str:
    """Draw evaluations of routers, and of signals of confidence, as one HTML page.

    The page loads nothing from elsewhere.

    Args:
        evaluations: What `hybridflow evaluate --json` or `hybridflow calibrate --json` printed, by
            the name of the router or the signal.
        title: Of the page.

    Raises:
        ConfigurationError: There are none.
        InputError: One is no evaluation.
        MissingExtraError: matplotlib is not installed.
    """
    if not evaluations:
        raise ConfigurationError("A report needs at least one evaluation.")
    routers: dict[str, RouterEvaluation] = {}
    signals: dict[str, ConfidenceEvaluation] = {}
    for name, value in evaluations.items():
        try:
            if is_confidence(value):
                signals[name] = ConfidenceEvaluation.of(value)
            else:
                routers[name] = RouterEvaluation.of(value)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    title = title or _title(list(routers), list(signals))
    header = tag("header", tag("p", "Evaluation", class_="kicker"), tag("h1", title))
    footer = tag("footer", "Made by hybridflow. This page loads nothing from elsewhere.")
    sections = [*(_sections(routers) if routers else ()), *confidence_sections(signals)]
    return page(title, header, tag("main", *sections), footer)


def _title(routers: list[str], signals: list[str]) -> str:
    if routers and signals:
        return f"{len(routers) + len(signals)} evaluations"
    kind, names = ("Router", routers) if routers else ("Confidence", signals)
    if len(names) == 1:
        return f"{kind} {names[0]}"
    return f"{len(names)} {'routers' if routers else 'signals'} compared"


def _sections(read: Mapping[str, RouterEvaluation]) -> Iterator[Html]:
    first = next(iter(read.values()))
    if len(read) == 1:
        yield _tiles(first)
    for name, one in read.items():
        for warning in one.warnings:
            said = warning if len(read) == 1 else f"{name}: {warning}"
            yield tag("p", said, class_="warn")
    label = "Accuracy over the share of cloud calls; the table has the figures."
    svg = inline_svg(curve_chart(read), name="curve", label=label)
    yield section(
        "Accuracy against cost",
        figure(svg, label=label),
        tag(
            "p",
            "How many answers are right when this share of the questions goes to the cloud, those "
            "with the highest predicted gain first. Dotted: a router that knows the outcomes. "
            "Dashed: one that draws at random. Circles: half and four fifths of the gap are "
            "recovered (CPT). Star: where the router was saved to decide. Band: 90 %, from "
            "resampled groups.",
            class_="note",
        ),
    )
    yield section(
        "Figures", tag("div", _figures_table(_rows(read), "Router"), class_="wide"), _meanings()
    )
    yield from _calibration(read)
    for name, one in read.items():
        if one.by_category:
            heading = "By category" if len(read) == 1 else f"By category: {name}"
            yield section(
                heading, tag("div", _figures_table(one.by_category, "Category"), class_="wide")
            )


def _tiles(one: RouterEvaluation) -> Html:
    interval = ""
    if one.apgr_low is not None and one.apgr_high is not None:
        interval = f"90 %: {one.apgr_low:.3f} to {one.apgr_high:.3f}"
    entries = [
        ("APGR", _written(one.apgr, 3), interval),
        ("CPT 50 %", _written(one.cpt50, 1), "% of calls in the cloud"),
        ("CPT 80 %", _written(one.cpt80, 1), "% of calls in the cloud"),
        ("ECE", _written(one.ece, 3), "calibration of the gain"),
        ("Edge alone", f"{100 * one.edge_accuracy:.1f} %", "right"),
        ("Cloud alone", f"{100 * one.cloud_accuracy:.1f} %", "right"),
    ]
    if one.operating_point is not None:
        point = one.operating_point
        share = f"with {100 * point.cloud_share:.1f} % in the cloud"
        entries.append(("As saved", f"{100 * point.accuracy:.1f} %", share))
    entries.append(("Questions", f"{one.rows:,}", f"{one.seen_in_training:,} seen in training"))
    return tiles(*entries)


def _rows(read: Mapping[str, RouterEvaluation]) -> dict[str, _Figures]:
    rows: dict[str, _Figures] = {}
    for name, one in read.items():
        rows[name] = one
        if one.after_edge is not None:
            rows[f"{name}, once the edge has answered"] = one.after_edge
    return rows


def _figures_table(rows: Mapping[str, _Figures], what: str) -> Html:
    heads = ["Questions", "Edge", "Cloud", *(head for _, head, _, _ in _FIGURES)]
    numbers = (tag("th", one, scope="col", class_="n") for one in heads)
    head = tag("tr", tag("th", what, scope="col"), *numbers)
    body = []
    for name, one in rows.items():
        shares = (one.edge_accuracy, one.cloud_accuracy)
        cells = [f"{one.rows:,}", *(f"{100 * share:.1f} %" for share in shares)]
        cells += [_written(getattr(one, key), digits) for key, _, _, digits in _FIGURES]
        body.append(
            tag(
                "tr",
                tag("th", name, scope="row"),
                *(tag("td", cell, class_="n") for cell in cells),
            )
        )
    return tag("table", tag("thead", head), tag("tbody", *body))


def _meanings() -> Html:
    words = (f"{head}: {meaning}" for _, head, meaning, _ in _FIGURES)
    return tag("p", "; ".join(words), ". A dash is what does not exist.", class_="note")


def _calibration(read: Mapping[str, RouterEvaluation]) -> Iterator[Html]:
    charts = []
    if any(one.reliability for one in read.values()):
        label = "Observed against predicted gain."
        svg = inline_svg(reliability_chart(read), name="reliability", label=label)
        words = "Observed against predicted gain, in ten bins of equally many questions, with two "
        words += "standard errors. On the line the router keeps what it promises."
        charts.append(figure(svg, words, label=label))
    if any(one.gains for one in read.values()):
        label = "How the predicted gains are spread."
        svg = inline_svg(gains_chart(read), name="gains", label=label)
        words = "How the predicted gains are spread. Dashed: what is above goes to the cloud."
        charts.append(figure(svg, words, label=label))
    if charts:
        yield section("Calibration", tag("div", *charts, class_="pair"))


def _written(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
