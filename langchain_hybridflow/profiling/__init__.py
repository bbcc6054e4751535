"""What both tiers make of a user's own questions: the data that routers learn from."""

from __future__ import annotations

from langchain_hybridflow.profiling.confidence import (
    Collected,
    acollect_confidence,
    collect_confidence,
)
from langchain_hybridflow.profiling.credit import Credit, CreditDesign
from langchain_hybridflow.profiling.items import read_items
from langchain_hybridflow.profiling.judging import Grader, JudgeScorer
from langchain_hybridflow.profiling.plans import (
    PlanProgress,
    PlanRunner,
    PlansSummary,
    SubtaskProfile,
    aprofile_plans,
    profile_plans,
)
from langchain_hybridflow.profiling.questions import (
    Profile,
    aprofile_questions,
    profile_questions,
)
from langchain_hybridflow.profiling.recorded import RecordedRun, read_runs
from langchain_hybridflow.profiling.records import Item, Outcome
from langchain_hybridflow.profiling.running import Progress, Runner, Stop
from langchain_hybridflow.profiling.scoring import Score, Scorer, scorer_named
from langchain_hybridflow.profiling.store import ProfileStore
from langchain_hybridflow.profiling.summary import Summary, share_interval

__all__ = [
    "Collected",
    "Credit",
    "CreditDesign",
    "Grader",
    "Item",
    "JudgeScorer",
    "Outcome",
    "PlanProgress",
    "PlanRunner",
    "PlansSummary",
    "Profile",
    "ProfileStore",
    "Progress",
    "RecordedRun",
    "Runner",
    "Score",
    "Scorer",
    "Stop",
    "SubtaskProfile",
    "Summary",
    "acollect_confidence",
    "aprofile_plans",
    "aprofile_questions",
    "collect_confidence",
    "profile_plans",
    "profile_questions",
    "read_items",
    "read_runs",
    "scorer_named",
    "share_interval",
]
