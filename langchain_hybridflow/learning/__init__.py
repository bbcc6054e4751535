"""How routers get good: outcomes of both tiers -> features -> predictors -> evaluation."""

from __future__ import annotations

from langchain_hybridflow.learning.confidence import ConfidenceCalibrator
from langchain_hybridflow.learning.confidence_fit import ConfidenceFit, fit_confidence
from langchain_hybridflow.learning.confidence_runs import LabelledRuns, read_labelled_runs
from langchain_hybridflow.learning.dataset import Dataset, concatenate, load_dataset, read_table
from langchain_hybridflow.learning.decision_log import LoggedDecision, read_log, write_log
from langchain_hybridflow.learning.drift import Reference, check_drift
from langchain_hybridflow.learning.embedded import EmbeddedPredictor
from langchain_hybridflow.learning.embeddings import (
    EmbeddedTexts,
    EmbeddingService,
    embed_texts,
    sentence_transformer,
)
from langchain_hybridflow.learning.evaluation import Evaluation, evaluate
from langchain_hybridflow.learning.features import FEATURE_SCHEMA, structure_values
from langchain_hybridflow.learning.gate import Gate, GateReport, check_gate
from langchain_hybridflow.learning.metrics import Metrics, apgr, cpt, ece, gain_curve, measure
from langchain_hybridflow.learning.online import OnlineRouter
from langchain_hybridflow.learning.online_store import MemoryOnlineStore, SQLiteOnlineStore
from langchain_hybridflow.learning.ope import evaluate_policy
from langchain_hybridflow.learning.predictor import TrainedPredictor
from langchain_hybridflow.learning.router import Explanation, LearnedRouter
from langchain_hybridflow.learning.saved import SavedRouter, load_router, save_router
from langchain_hybridflow.learning.training import TrainingReport, TrainingSettings, train
from langchain_hybridflow.learning.tuning import OperatingPoint, tune

__all__ = [
    "FEATURE_SCHEMA",
    "ConfidenceCalibrator",
    "ConfidenceFit",
    "Dataset",
    "EmbeddedPredictor",
    "EmbeddedTexts",
    "EmbeddingService",
    "Evaluation",
    "Explanation",
    "Gate",
    "GateReport",
    "LabelledRuns",
    "LearnedRouter",
    "LoggedDecision",
    "MemoryOnlineStore",
    "Metrics",
    "OnlineRouter",
    "OperatingPoint",
    "Reference",
    "SQLiteOnlineStore",
    "SavedRouter",
    "TrainedPredictor",
    "TrainingReport",
    "TrainingSettings",
    "apgr",
    "check_drift",
    "check_gate",
    "concatenate",
    "cpt",
    "ece",
    "embed_texts",
    "evaluate",
    "evaluate_policy",
    "fit_confidence",
    "gain_curve",
    "load_dataset",
    "load_router",
    "measure",
    "read_labelled_runs",
    "read_log",
    "read_table",
    "save_router",
    "sentence_transformer",
    "structure_values",
    "train",
    "tune",
    "write_log",
]
