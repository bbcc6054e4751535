"""A closed world in which accuracy is measured: problems, two tiers of models and a planner.

The problems are told in natural language and have exact answers. The models see nothing but the
text of their prompts, and err as real models do: more often on hard steps, and when many steps are
asked for at once. Nothing here needs a network, a key or a file.
"""

from langchain_hybridflow.sandbox.answers import extract_answer
from langchain_hybridflow.sandbox.chat_model import (
    SandboxChatModel,
    sandbox_cloud,
    sandbox_edge,
)
from langchain_hybridflow.sandbox.planning import draft_plan
from langchain_hybridflow.sandbox.problems import (
    KINDS,
    Problem,
    Step,
    generate_problems,
    is_correct,
)
from langchain_hybridflow.sandbox.profiles import (
    CLOUD_PROFILE,
    EDGE_PROFILE,
    SANDBOX_PRICES,
    TierProfile,
)
from langchain_hybridflow.sandbox.puzzles import (
    PUZZLE_KINDS,
    Puzzle,
    generate_puzzles,
    is_solved,
)

__all__ = [
    "CLOUD_PROFILE",
    "EDGE_PROFILE",
    "KINDS",
    "PUZZLE_KINDS",
    "SANDBOX_PRICES",
    "Problem",
    "Puzzle",
    "SandboxChatModel",
    "Step",
    "TierProfile",
    "draft_plan",
    "extract_answer",
    "generate_problems",
    "generate_puzzles",
    "is_correct",
    "is_solved",
    "sandbox_cloud",
    "sandbox_edge",
]
