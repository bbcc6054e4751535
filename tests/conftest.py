"""What holds for every test: a closed world, strict state, and nothing skipped in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator

import hypothesis
import pytest

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# Before anything imports LangGraph: checkpoints may hold plain types only, and nothing phones home.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"
os.environ["LANGSMITH_TRACING"] = "false"
os.environ["LANGCHAIN_TRACING_V2"] = "false"

# A deadline for each example measures how busy the machine is; pytest-timeout ends real hangs.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"),
)

# These want torch, which has an environment of its own: tests/integration/test_rl.py runs them.
collect_ignore = [] if importlib.util.find_spec("trl") else ["rl"]


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """Skip the test when a module or program is missing; in CI, fail it instead.

    Use it as `require("redis")` for an importable module, `require("redis-server")` for a program,
    and `require(name, "run `make x`")` to say what helps.
    """

    def check(name: str, advice: str = "install it") -> None:
        importable = name.isidentifier() and importlib.util.find_spec(name) is not None
        if importable or shutil.which(name) is not None:
            return
        message = f"{name} is neither an importable module nor a program on PATH: {advice}"
        if IN_CI:
            pytest.fail(f"{message}, and in CI nothing is skipped", pytrace=False)
        pytest.skip(message)

    return check


@pytest.fixture(autouse=True)
def fresh_client_pools() -> Iterator[None]:
    """Let no test meet the connections of another one.

    Clients of langchain-openai share a pool for each address, and it is bound to the event loop
    that was first. Two test servers that happen to get the same port would share it, too.
    """
    yield
    module = sys.modules.get("langchain_openai.chat_models._client_utils")
    for value in vars(module).values() if module else ():
        if hasattr(value, "cache_clear"):
            value.cache_clear()
