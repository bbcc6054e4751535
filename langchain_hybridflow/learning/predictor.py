"""What the cloud would add to an answer, predicted before the call, or after the edge's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning._embedding import EmbeddingBlock
from langchain_hybridflow.learning._representation import Representation
from langchain_hybridflow.learning._stages import Foreseen, Stage, Stages, View, view_of
from langchain_hybridflow.learning.costs import CostModel
from langchain_hybridflow.learning.features import (
    ANSWER_NAMES,
    BEFORE_NAMES,
    FEATURE_SCHEMA,
    answer_features,
    gives_no_answer,
    structure_values,
)
from langchain_hybridflow.routing import EdgeAnswer, Prediction, RouteRequest, Tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["TrainedPredictor", "declare_topics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What is known of n requests before any call.

    Attributes:
        rows: Shape (n, features), what the text and the place in the plan say.
        hints: Shape (n, 2 or 3), the raw regressions on the text.
        topics: Shape (n,), the number of the tag that was declared, -1 without one.
        embedded: Shape (n, features), what embeddings say; `None` without any.
    """

    rows: Floats
    hints: Floats
    topics: Ints
    embedded: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPredictor:
    """Foresees quality and cost of both tiers; a `Predictor` and an `AnswerPredictor` of routing.

    A request that declares a tag known from the training is foreseen by what was learnt with tags
    at hand, and one that comes with its vector by what was learnt with embeddings; otherwise the
    text alone decides.

    Safe to use from several threads: nothing changes once it is trained.

    Attributes:
        representation: Turns text into features.
        views: What was learnt, by what is known of a request; "text" is always there.
        embedding: Turns vectors into features; `None` if it was trained without embeddings.
        costs: Models of tokens, seconds and USD by column name, such as "cloud_tokens".
        schema: The version of the features it was trained on.

    Raises:
        ConfigurationError: It was trained on features of another version.
    """

    representation: Representation
    views: Mapping[View, Stages]
    embedding: EmbeddingBlock | None = None
    costs: Mapping[str, CostModel] = field(default_factory=dict)
    schema: int = FEATURE_SCHEMA

    def __post_init__(self) -> None:
        if self.schema != FEATURE_SCHEMA:
            raise ConfigurationError(
                f"The router was trained on version {self.schema} of the features, and this "
                f"release computes version {FEATURE_SCHEMA}. Train it again."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features of a decision before any call, made by the text."""
        return (*BEFORE_NAMES, *self.representation.names)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that a request may declare to be foreseen better; none without such data."""
        return self.representation.tags if "tag" in self.views else ()

    @property
    def decides_after_edge(self) -> bool:
        """Whether it can decide once the edge has answered."""
        return self.views["text"].after is not None

    def predict(
        self, requests: Sequence[RouteRequest], *, vectors: Floats | None = None
    ) -> list[Prediction]:
        """Foresee each request before any call.

        Args:
            requests: n requests.
            vectors: Shape (n, dimension), their embeddings, if it was trained with them.
        """
        if not requests:
            return []
        known = self._known(requests, vectors)
        return self._predictions(known, self._foresee(known, None))

    def predict_answered(
        self,
        requests: Sequence[RouteRequest],
        answers: Sequence[EdgeAnswer],
        *,
        vectors: Floats | None = None,
    ) -> list[Prediction]:
        """Foresee each request once the edge has answered it.

        Args:
            requests: n requests.
            answers: The edge's answer to each of them.
            vectors: Shape (n, dimension), embeddings of the requests; see `predict`.

        Raises:
            ConfigurationError: It was trained without the length of the edge's answers.
        """
        if not requests:
            return []
        known = self._known(requests, vectors)
        return self._predictions(known, self._foresee(known, self._answers(known, answers)))

    def amounts(self, requests: Sequence[RouteRequest]) -> dict[str, Numbers]:
        """Return expected tokens, seconds and USD by column name, such as "cloud_tokens".

        Each is of shape (n, 2): the median, and what nine calls of ten do not pass.
        """
        rows = self._known(requests, None).rows
        return {name: model.predict(rows) for name, model in self.costs.items()}

    def foresee(
        self,
        texts: Sequence[str],
        *,
        structure: Numbers,
        tags: Sequence[str] | None = None,
        vectors: Floats | None = None,
        answer_chars: Numbers | None = None,
        no_answer: Numbers | None = None,
    ) -> Foreseen:
        """Foresee many texts at once, as arrays.

        Args:
            texts: n texts.
            structure: Shape (n, features of structure), see `features.structure_matrix`.
            tags: The tag that each of them declares; `None` if they declare none.
            vectors: Shape (n, dimension), their embeddings, if it was trained with them.
            answer_chars: Shape (n,), lengths of the edge's answers, for decisions made after it.
            no_answer: Shape (n,), 1 where it gave none; 0 everywhere if not given.
        """
        import numpy as np

        rows, hints = self.features(texts, structure)
        declared = [None] * len(texts) if tags is None else tags
        known = _Known(
            rows=rows,
            hints=hints,
            topics=self._topics(declared),
            embedded=self._embedded(vectors),
        )
        if answer_chars is None:
            return self._foresee(known, None)
        empty = np.zeros(len(rows)) if no_answer is None else no_answer
        return self._foresee(known, self._answer_rows(known, answer_chars, empty))

    def features(self, texts: Sequence[str], structure: Numbers) -> tuple[Floats, Floats]:
        """Return the features of a decision before any call, and the raw hints, for n texts."""
        import numpy as np

        surface, learnt, hints = self.representation.features(texts)
        return np.hstack([surface, structure.astype(np.float32), learnt]), hints

    def contributions(
        self,
        request: RouteRequest,
        *,
        answer: EdgeAnswer | None = None,
        vectors: Floats | None = None,
    ) -> tuple[float, dict[str, float]]:
        """Return where the foreseen gain starts, and what each feature adds to it.

        Raises:
            ConfigurationError: An answer is given, and it was trained without any.
        """
        known = self._known([request], vectors)
        extra = None if answer is None else self._answers(known, [answer])
        ((_, stage, rows),) = self._parts(known, extra)
        start, added = stage.contributions(rows[0])
        names = list(self.names)
        if known.embedded is not None and self.embedding is not None:
            names += self.embedding.names
        if answer is not None:
            names += ANSWER_NAMES
        return start, dict(zip(names, added.tolist(), strict=True))

    def _known(self, requests: Sequence[RouteRequest], vectors: Floats | None) -> _Known:
        import numpy as np

        structure = np.array([structure_values(request) for request in requests])
        topics = self._topics([request.tag for request in requests])
        rows, hints = self.features([request.text for request in requests], structure)
        return _Known(rows=rows, hints=hints, topics=topics, embedded=self._embedded(vectors))

    def _embedded(self, vectors: Floats | None) -> Floats | None:
        if vectors is None:
            return None
        if self.embedding is None:
            raise ConfigurationError(
                "This router was trained without embeddings. Train it with them, or give it none."
            )
        return self.embedding.features(vectors)

    def _topics(self, tags: Sequence[str | None]) -> Ints:
        """Return the number of each tag among the known ones, -1 for no tag or another one."""
        import numpy as np

        number = {tag: index for index, tag in enumerate(self.tags)}
        return np.array([-1 if tag is None else number.get(tag, -1) for tag in tags])

    def _answers(self, known: _Known, answers: Sequence[EdgeAnswer]) -> Floats:
        import numpy as np

        chars = np.array([len(answer.text) for answer in answers], dtype=float)
        empty = np.array([gives_no_answer(answer.text) for answer in answers], dtype=float)
        return self._answer_rows(known, chars, empty)

    def _answer_rows(self, known: _Known, chars: Numbers, no_answer: Numbers) -> Floats:
        self.views["text"].at(answered=True)  # refuses where the length of answers was not learnt
        return answer_features(known.rows, known.hints, chars, no_answer)

    def _foresee(self, known: _Known, extra: Floats | None) -> Foreseen:
        import numpy as np

        found = [(index, stage.predict(rows)) for index, stage, rows in self._parts(known, extra)]
        if len(found) == 1:
            return found[0][1]
        order = np.argsort(np.concatenate([index for index, _ in found]))
        p_edge, p_cloud, gain = (
            np.concatenate([getattr(part, name) for _, part in found])[order]
            for name in ("p_edge", "p_cloud", "gain")
        )
        return Foreseen(p_edge=p_edge, p_cloud=p_cloud, gain=gain)

    def _parts(self, known: _Known, extra: Floats | None) -> list[tuple[Ints, Stage, Floats]]:
        """Return, for what is known of them, which requests a stage is for, and its features."""
        import numpy as np

        blocks = [known.rows, known.embedded, extra]
        rows = np.hstack([block for block in blocks if block is not None])
        parts = []
        for tagged in (False, True):
            index = np.flatnonzero((known.topics >= 0) == tagged)
            if not len(index):
                continue
            own = rows if len(index) == len(rows) else rows[index]
            if tagged:
                own = declare_topics(own, known.topics[index], len(self.tags))
            stages = self.views[view_of(tagged=tagged, embedded=known.embedded is not None)]
            parts.append((index, stages.at(answered=extra is not None), own))
        return parts

    def _predictions(self, known: _Known, found: Foreseen) -> list[Prediction]:
        amounts = {name: model.predict(known.rows)[:, 0] for name, model in self.costs.items()}

        def of(measure: str, row: int) -> dict[Tier, float]:
            tiers: tuple[Tier, ...] = ("edge", "cloud")
            return {
                tier: float(amounts[f"{tier}_{measure}"][row])
                for tier in tiers
                if f"{tier}_{measure}" in amounts
            }

        return [
            Prediction(
                edge_quality=min(max(float(found.p_edge[row]), 0.0), 1.0),
                cloud_quality=min(max(float(found.p_cloud[row]), 0.0), 1.0),
                output_tokens=of("tokens", row),
                seconds=of("seconds", row),
                cost_usd=of("usd", row),
            )
            for row in range(len(known.rows))
        ]


def declare_topics(rows: Floats, topics: Ints, count: int) -> Floats:
    """Return features in which the topic is certain wherever it was declared.

    Args:
        rows: Shape (n, features), those before the call, and perhaps more behind them.
        topics: Shape (n,), the number of the declared topic, -1 without one.
        count: How many topics there are.
    """
    import numpy as np

    start, declared = len(BEFORE_NAMES), np.flatnonzero(topics >= 0)
    certain = rows.copy()
    certain[declared, start : start + count] = 0
    certain[declared, start + topics[declared]] = 1
    return certain
