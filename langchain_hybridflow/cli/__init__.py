"""The command line `hybridflow`: demo, ask, plan, train, posttrain, evaluate, router, and others.

Exit codes: 0 all went well; 1 the run failed, or its answer is incomplete; 2 the command cannot
work as it was given; 130 it was interrupted with Ctrl-C.
"""

from __future__ import annotations

from langchain_hybridflow.cli.app import app, main

__all__ = ["app", "main"]
