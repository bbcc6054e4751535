"""Train a predictor: representation, candidates by nested validation, calibration, costs.

Everything is judged out-of-fold, by groups: the learnt features, the candidates, the weights of
the stack and the calibration. The candidate with the best APGR on the text alone is chosen; a
stack of several must be better by a margin, because it takes longer to answer. What was chosen is
fitted again for requests of which more is known: their tag, their embedding, both.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.learning._choosing import Chooser, StageReport
from langchain_hybridflow.learning._embedding import EmbeddingBlock, fit_embedding
from langchain_hybridflow.learning._representation import fit_representation, text_features
from langchain_hybridflow.learning._stages import Stages, View, view_of
from langchain_hybridflow.learning.costs import fit_costs
from langchain_hybridflow.learning.dataset import Dataset
from langchain_hybridflow.learning.embeddings import EmbeddedTexts
from langchain_hybridflow.learning.features import answer_features
from langchain_hybridflow.learning.metrics import Metrics
from langchain_hybridflow.learning.predictor import TrainedPredictor, declare_topics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Folds = NDArray[np.int64]

__all__ = ["StageReport", "TrainingReport", "TrainingSettings", "ViewReport", "train"]

_ALL = ("forest", "logistic", "boosting", "knn", "mlp")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to train; the defaults are those of `hybridflow train`.

    Attributes:
        models: The candidates: "forest", "logistic", "boosting", "knn", "mlp".
        trees: Trees of the forest.
        folds: Folds of the validation inside the training data.
        seed: Seed of everything random.
        jobs: Threads.

    Raises:
        ConfigurationError: There is no such model, or a number is out of its range.
    """

    models: tuple[str, ...] = _ALL
    trees: int = 300
    folds: int = 4
    seed: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        unknown = set(self.models) - set(_ALL)
        if unknown or not self.models:
            raise ConfigurationError(
                f"models must be some of {', '.join(_ALL)}; got {', '.join(self.models) or 'none'}."
            )
        if self.trees < 1 or self.folds < 2:
            raise ConfigurationError(
                f"trees must be 1 or more and folds 2 or more; got {self.trees} and {self.folds}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewReport:
    """How well requests are foreseen, out-of-fold, if more is known of them than their text.

    Attributes:
        before: Of decisions before any call.
        after: Of decisions after the edge has answered; `None` without the lengths of its answers.
    """

    before: Metrics
    after: Metrics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """What a training found.

    Attributes:
        rows: Rows trained on.
        groups: Groups among them.
        settings: How it was trained.
        before: Candidates for decisions before any call, by the text.
        after: Candidates for decisions after the edge has answered; `None` without its lengths.
        views: How well requests are foreseen of which more is known: their tag, their embedding.
        baselines: Accuracy of always edge, always cloud and a fair coin.
        notes: What a person should know.
        cpu_s: CPU seconds that it took.
    """

    rows: int
    groups: int
    settings: TrainingSettings
    before: StageReport
    after: StageReport | None
    baselines: Mapping[str, float]
    notes: tuple[str, ...]
    cpu_s: float
    views: Mapping[View, ViewReport] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def train(
    data: Dataset,
    *,
    settings: TrainingSettings | None = None,
    embedded: EmbeddedTexts | None = None,
) -> tuple[TrainedPredictor, TrainingReport]:
    """Train a predictor on outcomes of both tiers.

    Args:
        data: At least 50 rows in 10 groups; 1,000 and more to be of use.
        settings: How to train.
        embedded: The questions as vectors, of `embed_texts`, to learn from them as well. Without
            vectors the router decides as if it had never seen any.

    Raises:
        ConfigurationError: Nothing can be learnt from the data; the message says why.
        MissingExtraError: scikit-learn is not installed.
    """
    settings = settings or TrainingSettings()
    data.check_trainable()
    _require_sklearn()
    from threadpoolctl import threadpool_limits

    started = time.process_time()
    # Threads of BLAS and OpenMP that wait do so by spinning: on a busy machine that costs more
    # than they compute.
    with threadpool_limits(settings.jobs):
        predictor, before, after, views = _fit(data, settings, embedded)
    report = TrainingReport(
        rows=len(data),
        groups=len(set(data.groups)),
        settings=settings,
        before=before,
        after=after,
        views=views,
        baselines=_baselines(data),
        notes=(*data.notes, *_notes(data)),
        cpu_s=time.process_time() - started,
    )
    return predictor, report


def _fit(
    data: Dataset, settings: TrainingSettings, embedded: EmbeddedTexts | None
) -> tuple[TrainedPredictor, StageReport, StageReport | None, dict[View, ViewReport]]:
    import numpy as np

    folds = _folds(data.groups, settings.folds)
    surface, terms = text_features(data.questions)
    representation, learnt, hints = fit_representation(
        surface, terms, _hint_targets(data), tags=data.tags, folds=folds, seed=settings.seed
    )
    rows = np.hstack([surface, data.structure.astype(np.float32), learnt])
    known: dict[View, Floats] = {"text": rows}
    if representation.tags:
        topics = _topics(data, representation.tags)
        known["tag"] = declare_topics(rows, topics, len(representation.tags))
    embedding = None
    if embedded is not None:
        embedding, more = _fit_embedding(embedded, data, folds, settings.seed)
        for tagged in [False, True] if representation.tags else [False]:
            seen = known[view_of(tagged=tagged, embedded=False)]
            known[view_of(tagged=tagged, embedded=True)] = np.hstack([seen, more])
    chooser = Chooser(
        data=data,
        folds=folds,
        models=settings.models,
        trees=settings.trees,
        seed=settings.seed,
        jobs=settings.jobs,
    )
    views, before, after, reports = _fit_views(chooser, known, _answers(data, rows, hints))
    predictor = TrainedPredictor(
        representation=representation,
        views=views,
        embedding=embedding,
        costs=fit_costs(rows, data.costs, folds),
    )
    return predictor, before, after, reports


def _fit_views(
    chooser: Chooser, known: Mapping[View, Floats], answers: Floats | None
) -> tuple[dict[View, Stages], StageReport, StageReport | None, dict[View, ViewReport]]:
    """Choose by the text; fit what was chosen for whatever else is known."""
    import numpy as np

    before, before_report = chooser.choose(known["text"])
    after = after_report = None
    if answers is not None:
        after, after_report = chooser.choose(np.hstack([known["text"], answers]))
    views: dict[View, Stages] = {"text": Stages(before=before, after=after)}
    reports: dict[View, ViewReport] = {}
    for view, rows in known.items():
        if view == "text":
            continue
        stage, metrics = chooser.refit(rows, before_report)
        late = late_metrics = None
        if answers is not None and after_report is not None:
            late, late_metrics = chooser.refit(np.hstack([rows, answers]), after_report)
        views[view] = Stages(before=stage, after=late)
        reports[view] = ViewReport(before=metrics, after=late_metrics)
    return views, before_report, after_report, reports


def _fit_embedding(
    embedded: EmbeddedTexts, data: Dataset, folds: Folds, seed: int
) -> tuple[EmbeddingBlock, Floats]:
    import numpy as np

    if len(embedded.rows) != len(data):
        raise ConfigurationError(
            f"There are {len(data)} questions, but vectors of {len(embedded.rows)}."
        )
    return fit_embedding(
        embedded.rows,
        np.stack([data.edge, data.cloud], axis=1).astype(np.float32),
        name=embedded.name,
        probe=embedded.probe,
        folds=folds,
        seed=seed,
    )


def _answers(data: Dataset, rows: Floats, hints: Floats) -> Floats | None:
    import numpy as np

    if data.answer_chars is None:
        return None
    empty = np.zeros(len(data)) if data.no_answer is None else data.no_answer
    return answer_features(rows, hints, data.answer_chars, empty)


def _topics(data: Dataset, names: tuple[str, ...]) -> Folds:
    """Return the number of each row's tag, -1 where it is unknown or rare."""
    import numpy as np

    number = {name: index for index, name in enumerate(names)}
    return np.array([number.get(tag, -1) for tag in data.tags or ()])


def _baselines(data: Dataset) -> dict[str, float]:
    edge, cloud = float(data.edge.mean()), float(data.cloud.mean())
    return {"always edge": edge, "always cloud": cloud, "random": (edge + cloud) / 2}


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Training a router", "learning") from error


def _folds(groups: tuple[str, ...], count: int) -> Folds:
    """Deal groups to folds of about equal size, the same on every run."""
    import numpy as np
    from sklearn.model_selection import GroupKFold

    folds = np.zeros(len(groups), dtype=np.int64)
    splitter = GroupKFold(min(count, len(set(groups))))
    for number, (_, held) in enumerate(splitter.split(folds, groups=np.array(groups))):
        folds[held] = number
    return folds


def _hint_targets(data: Dataset) -> Floats:
    import numpy as np

    columns = [data.edge, data.cloud]
    if data.answer_chars is not None:
        columns.append(np.log1p(data.answer_chars))
    return np.stack(columns, axis=1).astype(np.float32)


def _notes(data: Dataset) -> tuple[str, ...]:
    notes = []
    if len(data) < 1_000:
        notes.append(
            f"{len(data)} rows are few: expect the order of questions to be little better than "
            f"chance, and profile more."
        )
    if data.cloud.mean() <= data.edge.mean():
        notes.append("The cloud is not better than the edge on the whole of these data.")
    if data.tags is None:
        notes.append("There is no column tag, category, domain or task; topics are not learnt.")
    return tuple(notes)
