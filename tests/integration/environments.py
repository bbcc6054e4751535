"""The environments in `.envs`: the built wheel, and what the tests want that cannot share one.

The templates are tried with the package as its users get it, and beside libraries that cannot
share an environment: LangServe and LangGraph's server want different releases of sse-starlette.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def interpreter(name: str) -> Path | None:
    """The Python of the environment `.envs/NAME`, None if it is not there or not whole.

    `HYBRIDFLOW_ENV_STUDIO=/some/bin/python` stands for `.envs/studio`, and so for the others.
    """
    variable = "HYBRIDFLOW_ENV_" + name.upper().replace(".", "_").replace("-", "_")
    if chosen := os.environ.get(variable):
        return Path(chosen)
    python = ROOT / ".envs" / name / "bin" / "python"
    # The stamp is written last, by .ci/environment.py.
    whole = python.exists() and python.parents[1].joinpath(".made").exists()
    return python if whole else None


def is_absent(name: str) -> bool:
    """Whether this machine lacks the Python that the environment was to be made of."""
    return (ROOT / ".envs" / name / ".absent").exists()
