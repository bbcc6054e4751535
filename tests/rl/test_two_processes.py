"""Several processes train as one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.rl import two_processes

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)  # three times the libraries are loaded
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    two.mkdir()
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run = subprocess.run(
        [sys.executable, *launcher, two_processes.__file__, str(two)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    two_processes.train(one)
    found = [torch.load(place / "weights.pt", weights_only=True) for place in (two, one)]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
