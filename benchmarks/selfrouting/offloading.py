"""Who goes to the cloud: ways to choose a share of the prompts, and what accuracy comes of it.

Each way gives every prompt a score; the share with the highest goes to the cloud. The routers see
nothing but the question, and learn from the outcomes of the same edge model on training puzzles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from transformers import AutoTokenizer, LlamaForSequenceClassification

from langchain_hybridflow.sandbox import sandbox_cloud
from langchain_hybridflow.sandbox.puzzles import Puzzle, is_solved

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
ENCODER_EPOCHS = 3


def cloud_outcomes(puzzles: Sequence[Puzzle]) -> np.ndarray:
    """Whether the sandbox's cloud model solves each puzzle."""
    cloud = sandbox_cloud(time_scale=0)
    return np.array([is_solved(one, cloud.invoke(one.question).text) for one in puzzles])


def accuracy_at(share: float, score: np.ndarray, local: np.ndarray, cloud: np.ndarray) -> float:
    """Return the accuracy when the `share` of prompts with the highest score goes to the cloud.

    Prompts of one score are taken in equal parts.
    """
    wanted = share * len(score)
    order = np.argsort(-score, kind="stable")
    limit = score[order[min(len(score) - 1, max(0, int(np.ceil(wanted)) - 1))]]
    above, tied = score > limit, score == limit
    part = (wanted - above.sum()) / tied.sum()
    weight = np.where(above, 1.0, np.where(tied, part, 0.0))
    return float((weight * cloud + (1 - weight) * local).mean())


def random_at(share: float, local: np.ndarray, cloud: np.ndarray) -> float:
    """Return the expected accuracy when a share of prompts goes to the cloud by lot."""
    return float(share * cloud.mean() + (1 - share) * local.mean())


def _shape(questions: Sequence[str]) -> np.ndarray:
    """Numbers about a question that a person would look at."""
    rows = []
    for question in questions:
        numbers = [int(number) for number in re.findall(r"\d+", question)]
        first, rest = numbers[0], numbers[1:]
        rows.append(
            [
                question.startswith("Make"),
                len(question),
                len(numbers),
                max(numbers),
                first,
                sum(rest),
                float(np.prod([max(1, number) for number in rest[:5]]) ** 0.5),
                *(question.count(sign) for sign in "+-*("),
                min((abs(first - number) for number in rest), default=0),
                sum(first % number == 0 for number in rest if number),
                len(set(rest)),
                float(np.mean(rest)),
            ]
        )
    return np.array(rows, dtype=float)


def regression_scores(
    questions: Sequence[str], solved: np.ndarray, asked: Sequence[str]
) -> np.ndarray:
    """Let a logistic regression over words, characters and shape say who will fail."""
    shape = make_pipeline(FunctionTransformer(_shape), StandardScaler())
    text = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=3, sublinear_tf=True)
    features = make_union(shape, text)
    model = make_pipeline(features, LogisticRegressionCV(Cs=8, cv=4, scoring="neg_log_loss"))
    model.fit(list(questions), solved)
    return 1 - model.predict_proba(list(asked))[:, 1]


def encoder_scores(
    folder, questions: Sequence[str], solved: np.ndarray, asked: Sequence[str], *, seed: int
) -> np.ndarray:
    """Let a small encoder say who will fail: the supervised model, fine-tuned to classify."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    model = LlamaForSequenceClassification.from_pretrained(folder, num_labels=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    labels = torch.tensor((~solved).astype(int))
    order, draw = np.arange(len(questions)), np.random.default_rng(seed)
    for _ in range(ENCODER_EPOCHS):
        draw.shuffle(order)
        for start in range(0, len(order), 64):
            places = order[start : start + 64]
            inputs = _inputs(tokenizer, [questions[place] for place in places])
            loss = model(**inputs, labels=labels[places]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        parts = [
            model(**_inputs(tokenizer, asked[start : start + 250])).logits.softmax(-1)[:, 1]
            for start in range(0, len(asked), 250)
        ]
    return torch.cat(parts).numpy()


def _inputs(tokenizer, questions: Sequence[str]):
    inputs = tokenizer(list(questions), return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    return inputs
