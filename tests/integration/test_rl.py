"""The tests of tests/rl, in the environment that has torch: `.envs/rl`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.environments import ROOT

FILES = sorted((ROOT / "tests" / "rl").glob("test_*.py"))
assert FILES

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_file_passes_where_torch_is(
    file: Path, environment: Callable[[str], Path], tmp_path: Path
) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    variables |= {
        "HF_HOME": str(tmp_path / "hub"),  # empty, and nothing fills it
        "HF_HUB_OFFLINE": "1",
        # Tiny models and two busy cores: threads only wait for each other.
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    options = ("-q", "-p", "no:cacheprovider", "--tb=short", "--no-header", "--durations=3")
    done = subprocess.run(
        [str(environment("rl")), "-m", "pytest", *options, str(file.relative_to(ROOT))],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=590,
    )
    if done.returncode:
        pytest.fail((done.stdout + done.stderr)[-20_000:], pytrace=False)
