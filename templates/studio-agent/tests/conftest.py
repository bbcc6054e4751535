"""Tests cost nothing and wait for nothing, whatever the environment says."""

import os

for name in ("EDGE_MODELS", "CLOUD_MODELS", "PRICES", "LIMIT_USD", "BUDGET_STORE"):
    os.environ.pop(name, None)
os.environ["SANDBOX_TIME_SCALE"] = "0"
os.environ["LANGSMITH_TRACING"] = "false"
