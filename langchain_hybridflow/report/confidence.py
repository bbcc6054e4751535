"""The part of an evaluation's page that says what signals of confidence are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_hybridflow.errors import InputError
from langchain_hybridflow.report._curves import confidence_chart, risk_chart
from langchain_hybridflow.report._markup import Html, tag
from langchain_hybridflow.report._outputs import cleaned
from langchain_hybridflow.report._page import figure, section, tiles
from langchain_hybridflow.report._svg import inline_svg

__all__ = ["ConfidenceEvaluation", "confidence_sections", "first_fault", "is_confidence"]

_FROZEN: Final = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
_Share = Annotated[float, Field(ge=0, le=1)]

_FIGURES: Final = (
    ("auroc", "AUROC", "chance that a right answer has the higher score; 0.5 is none"),
    ("aurc", "AURC", "mean share of wrong answers over all shares that are kept"),
    ("aurc_oracle", "AURC of an oracle", "the least that can be had on these answers"),
    ("ece", "ECE", "mean distance of said and found, in ten equally wide bins"),
    ("ece_noise", "ECE of chance", "what a perfect calibrator would have on so few answers"),
    ("brier", "Brier", "squared error of the probabilities"),
)


class _Bin(BaseModel):
    model_config = _FROZEN

    rows: Annotated[int, Field(ge=1)]
    predicted: _Share
    observed: _Share
    low: _Share
    high: _Share


class ConfidenceEvaluation(BaseModel):
    """What `hybridflow calibrate --json` printed, as far as it is drawn.

    Attributes:
        method: How scores became probabilities.
        rows: Answers.
        missing: Answers without a score.
        accuracy: Share of right answers.
        auroc: Whether right answers have higher scores than wrong ones.
        aurc: Mean risk over all coverages.
        aurc_oracle: The least there can be.
        ece: Calibration error.
        ece_noise: That of chance.
        brier: Squared error.
        reliability: Said and found, in bins.
        coverage: Shares of answers that are kept.
        risk: Share of wrong ones among them.
        oracle: The least there can be.
        min_score: From which score on answers are kept.
        min_probability: P(right) there.
        cloud_share: Share of answers that goes to the cloud.
        cloud_share_low: Lower end of its interval.
        cloud_share_high: Upper end.
        kept_risk: Share of wrong answers among the kept.
        kept_risk_low: Lower end of its interval.
        kept_risk_high: Upper end.
        notes: What a person should know.
    """

    model_config = _FROZEN

    kind: Literal["confidence"]
    method: str
    rows: Annotated[int, Field(ge=1)]
    missing: Annotated[int, Field(ge=0)] = 0
    accuracy: _Share
    auroc: _Share | None = None
    aurc: _Share
    aurc_oracle: _Share
    ece: _Share
    ece_noise: Annotated[float, Field(ge=0)]
    brier: _Share
    reliability: Annotated[tuple[_Bin, ...], Field(min_length=1)]
    coverage: Annotated[tuple[_Share, ...], Field(min_length=1)]
    risk: tuple[_Share, ...]
    oracle: tuple[_Share, ...]
    min_score: float | None = None
    min_probability: _Share | None = None
    cloud_share: _Share
    cloud_share_low: _Share
    cloud_share_high: _Share
    kept_risk: _Share | None = None
    kept_risk_low: _Share | None = None
    kept_risk_high: _Share | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: object) -> ConfidenceEvaluation:
        """Read it from plain JSON types.

        Raises:
            InputError: It is no evaluation of a signal.
        """
        try:
            found = cls.model_validate(cleaned(value))
        except ValidationError as error:
            raise InputError(
                f"This is not what hybridflow calibrate --json prints: {first_fault(error)}."
            ) from error
        if not len(found.coverage) == len(found.risk) == len(found.oracle):
            raise InputError("This is no evaluation: the lines of its curve differ in length.")
        if any(not one.low <= one.observed <= one.high for one in found.reliability):
            raise InputError("This is no evaluation: a bin is outside of its own interval.")
        return found


def is_confidence(value: object) -> bool:
    """Whether this says that it is what `hybridflow calibrate --json` printed."""
    return isinstance(value, Mapping) and value.get("kind") == "confidence"


def first_fault(error: ValidationError) -> str:
    """Say where plain JSON is not as it should be, and why."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def confidence_sections(read: Mapping[str, ConfidenceEvaluation]) -> Iterator[Html]:
    """Return the parts of a page that tell of signals."""
    if not read:
        return
    if len(read) == 1:
        yield _tiles(next(iter(read.values())))
    for name, one in read.items():
        for note in one.notes:
            said = note if len(read) == 1 else f"{name}: {note}"
            yield tag("p", said, class_="warn")
    yield section("Does it know when it is wrong?", tag("div", *_pictures(read), class_="pair"))
    table = tag("div", _table(read), class_="wide")
    words = "; ".join(f"{head}: {meaning}" for _, head, meaning in _FIGURES)
    note = f"{words}. ECE, Brier and the bins are cross-fitted. A dash is what does not exist."
    yield section("Figures of the signal", table, tag("p", note, class_="note"))


def _pictures(read: Mapping[str, ConfidenceEvaluation]) -> Iterator[Html]:
    label = "Wrong answers among the kept, over the share that is kept."
    svg = inline_svg(risk_chart(read), name="risk", label=label)
    words = (
        "Wrong answers among those that are kept, the surest ones kept first. Dashed: kept at "
        "random. Dotted: kept by one who knows. Star: the operating point."
    )
    yield figure(svg, words, label=label)
    for number, (name, one) in enumerate(read.items()):
        label = "How often answers are right, against how often they are said to be."
        svg = inline_svg(confidence_chart(one), name=f"confidence-{number}", label=label)
        words = (
            "How often answers were right, against how often they were said to be, with 95 % "
            "intervals; below how many answers that is. On the line it keeps what it promises. "
            "Dotted: answers to the left go to the cloud."
        )
        yield figure(svg, words if len(read) == 1 else f"{name}: {words}", label=label)


def _tiles(one: ConfidenceEvaluation) -> Html:
    kept = "all answers" if one.min_score is None else f"from a score of {one.min_score:.4g} on"
    return tiles(
        ("Cloud share", _percent(one.cloud_share), _interval(one, "cloud_share")),
        ("Wrong among the kept", _percent(one.kept_risk), _interval(one, "kept_risk")),
        ("Wrong altogether", _percent(1 - one.accuracy), "if all were kept"),
        ("Least P(right)", _percent(one.min_probability), kept),
        ("AUROC", _written(one.auroc), "0.5 is chance"),
        ("AURC", _written(one.aurc), f"oracle {one.aurc_oracle:.3f}"),
        ("ECE", _written(one.ece), f"chance alone {one.ece_noise:.3f}"),
        ("Answers", f"{one.rows:,}", f"{one.missing:,} without a score; {one.method}"),
    )


def _table(read: Mapping[str, ConfidenceEvaluation]) -> Html:
    heads = (
        "Answers",
        "Right",
        "Cloud",
        "Wrong among the kept",
        *(head for _, head, _ in _FIGURES),
    )
    cells = (tag("th", one, scope="col", class_="n") for one in heads)
    rows = []
    for name, one in read.items():
        values = [f"{one.rows:,}", _percent(one.accuracy), _percent(one.cloud_share)]
        values += [_percent(one.kept_risk)]
        values += [_written(getattr(one, key)) for key, _, _ in _FIGURES]
        numbers = (tag("td", value, class_="n") for value in values)
        rows.append(tag("tr", tag("th", name, scope="row"), *numbers))
    head = tag("thead", tag("tr", tag("th", "Signal", scope="col"), *cells))
    return tag("table", head, tag("tbody", *rows))


def _interval(one: ConfidenceEvaluation, what: str) -> str:
    low, high = getattr(one, f"{what}_low"), getattr(one, f"{what}_high")
    if low is None or high is None:
        return ""
    return f"95 %: {100 * low:.1f} to {100 * high:.1f} %"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _written(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"
