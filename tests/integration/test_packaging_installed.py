"""The wheel in environments of its own: nothing beside it, each extra, each Python, oldest set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.environments import ROOT, is_absent

pytestmark = pytest.mark.timeout(600)

Environment = Callable[[str], Path]

# Brought by extras or by those who test, and nobody else.
NOT_IN_BASE = (
    "fastapi",
    "jsonschema",
    "langchain",
    "langserve",
    "matplotlib",
    "numpy",
    "onnxruntime",
    "opentelemetry",
    "psycopg",
    "pyarrow",
    "pytest",
    "redis",
    "sklearn",
    "skops",
    "starlette",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "uvicorn",
)

# For each extra, something it promises.
REDIS = (
    "from langchain_hybridflow.budget.stores import RedisLedger as L; L('redis://127.0.0.1:1/0')"
)
POSTGRES = (
    "from langchain_hybridflow.budget.stores import PostgresLedger as L; "
    "L('postgresql://127.0.0.1:1/x')"
)
PROMISES = {
    "agents": "from langchain_hybridflow.agents import HybridFlowMiddleware",
    "otel": "from langchain_hybridflow.telemetry import Telemetry; Telemetry()",
    "plot": "from langchain_hybridflow.report._ink import new_figure; new_figure(1, 1)",
    "sandbox": "import langchain_hybridflow.sandbox.server",
    "rl": "from langchain_hybridflow.posttrain._trl import check_installed as c; c()",
    "serve": "import langchain_hybridflow.serving",
    "tiny": "from langchain_hybridflow.sandbox.tiny import sandbox_tiny_edge as e; e()",
    "redis": REDIS,
    "postgres": POSTGRES,
}
NO_SERVER = {"redis", "postgres"}  # what is installed tries to connect, and says that it cannot

# The parts nearest to LangChain, LangGraph and Python: what breaks when those move.
CORE = (
    "tests/unit/calls",
    "tests/unit/cli/test_app.py",
    "tests/unit/graph",
    "tests/unit/plan",
    "tests/unit/routing",
    "tests/unit/telemetry",
    "tests/unit/test_agents.py",
    "tests/unit/test_errors.py",
    "tests/unit/test_package.py",
)
LANGCHAIN = ("tests/unit/chat_models", "tests/standard")
# Of them, what another Python would break first; the whole of it takes minutes.
PYTHON = (
    "tests/unit/calls",
    "tests/unit/graph/test_dataflow.py",
    "tests/unit/graph/test_streaming.py",
    "tests/unit/plan",
    "tests/unit/routing",
    "tests/unit/test_errors.py",
)


def run(
    python: Path, *arguments: str, cwd: Path, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # Few rows and two busy cores: threads of numerical libraries only wait for each other.
    variables |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def hybridflow(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(python.with_name("hybridflow"), *arguments, cwd=cwd)


def test_import_in_base_is_silent_and_has_nothing_heavy(
    environment: Environment, tmp_path: Path
) -> None:
    code = (
        "import importlib.util as u, langchain_hybridflow; "
        f"print([name for name in {NOT_IN_BASE} if u.find_spec(name)])"
    )
    done = run(environment("base"), "-W", "error", "-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


def test_demo_runs_in_base(environment: Environment, tmp_path: Path) -> None:
    demo = ("demo", "--problems", "2", "--time-scale", "0")
    done = hybridflow(environment("base"), *demo, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "HybridFlow" in done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert "langchain-hybridflow[plot]" in said
    assert "langchain-hybridflow[tiny]" in said


def test_question_is_answered_in_base(environment: Environment, tmp_path: Path) -> None:
    code = (
        "from langchain_hybridflow.sandbox import generate_problems; "
        "print(generate_problems(1)[0].question)"
    )
    question = run(environment("base"), "-c", code, cwd=tmp_path).stdout.strip()
    models = ("--edge", "sandbox", "--cloud", "sandbox", "--time-scale", "0", "--json")
    done = hybridflow(environment("base"), "ask", question, *models, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"]


@pytest.mark.parametrize("extra", PROMISES)
def test_missing_extra_is_named_in_base(
    extra: str, environment: Environment, tmp_path: Path
) -> None:
    done = run(environment("base"), "-c", PROMISES[extra], cwd=tmp_path)
    assert done.returncode == 1
    assert f"pip install 'langchain-hybridflow[{extra}]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("extra", PROMISES)
def test_extra_brings_what_it_promises(
    extra: str, environment: Environment, tmp_path: Path
) -> None:
    python = environment(extra if extra in {"rl", "serve"} else "lowest")
    done = run(python, "-c", PROMISES[extra], cwd=tmp_path)
    if extra in NO_SERVER and done.returncode:
        assert "langchain_hybridflow.errors.LedgerUnavailable" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def release_of(python: Path, distribution: str, cwd: Path) -> tuple[int, ...]:
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    done = run(python, "-c", code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return tuple(int(part) for part in done.stdout.split(".")[:1])


def test_serve_and_studio_still_want_different_libraries(
    environment: Environment, tmp_path: Path
) -> None:
    # The day they agree, the conflict can go from pyproject.toml and the two share an environment.
    serve = release_of(environment("serve"), "sse-starlette", tmp_path)
    studio = release_of(environment("studio"), "sse-starlette", tmp_path)
    assert serve < (2,) <= studio


@pytest.fixture
def tests_alone(tmp_path: Path) -> Path:
    """The tests without the package beside them: they meet the one that is installed."""
    for name in ("tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def passes(python: Path, cwd: Path, *arguments: str) -> None:
    """Run pytest inside; its own report is shown when it fails."""
    options = ("-q", "-p", "no:cacheprovider", "--tb=short", "--no-header")
    done = run(python, "-m", "pytest", *options, *arguments, cwd=cwd, timeout_s=590)
    if done.returncode:
        pytest.fail((done.stdout + done.stderr)[-20_000:], pytrace=False)


def test_package_is_the_installed_one_in_a_copy_of_the_tests(
    environment: Environment, tests_alone: Path
) -> None:
    code = "import langchain_hybridflow as p; print(p.__file__)"
    done = run(environment("lowest"), "-c", code, cwd=tests_alone)
    assert Path(done.stdout).is_relative_to(ROOT / ".envs" / "lowest")


def test_suite_passes_with_the_lowest_declared_versions(
    environment: Environment, tests_alone: Path
) -> None:
    # Old releases meet the newest of what they themselves use, and are told that it has aged.
    aged = ("-W", "ignore::DeprecationWarning")
    passes(environment("lowest"), tests_alone, *aged, *CORE, *LANGCHAIN)


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_suite_passes_on_python(version: str, environment: Environment, tests_alone: Path) -> None:
    name = f"python{version}"
    if is_absent(name):
        # No fault of the package's, in CI neither: but it must be seen.
        pytest.skip(f"there is no Python {version} on this machine")  # noqa: TID251
    python = environment(name)
    passes(python, tests_alone, *PYTHON)
    done = hybridflow(python, "demo", "--problems", "2", "--time-scale", "0", cwd=tests_alone)
    assert done.returncode == 0, done.stderr
