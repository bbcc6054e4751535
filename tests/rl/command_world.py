"""A small model, its data, a cloud that counts its calls, and the command as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from langchain_hybridflow.sandbox import generate_problems, sandbox_cloud
from langchain_hybridflow.sandbox.server import create_app, running_server
from tests.rl.small_models import save_small_model

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from langchain_hybridflow.cli import main; main()"
PROMPTS = 12
# Far above what any needs on a machine of its own.
LONGEST_S = 400


@dataclass(frozen=True)
class World:
    """A small model, data, and a cloud that counts its calls."""

    place: Path
    cloud: Any
    url: str

    @property
    def calls(self) -> int:
        return len(self.cloud.state.log)

    def command(self, *arguments: str) -> list[str]:
        given = {
            "--model": "small",
            "--data": "data.jsonl",
            "--out": "run",
            "--cloud": f"{self.url}#big",
            "--price": "big=2,8",
            "--verifier": "sandbox",
            "--prompts-per-step": "2",
            "--group": "2",
            "--max-new-tokens": "8",
            "--save-every": "2",
        }
        told = [part for pair in given.items() if pair[0] not in arguments for part in pair]
        return [sys.executable, "-c", MAIN, "posttrain", *told, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "COLUMNS": "200",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )

    def run_until(
        self, line: str, *arguments: str, by: signal.Signals = signal.SIGKILL
    ) -> tuple[int, str]:
        """End the command as soon as it has said a line that begins so.

        Returns its exit status, and what it has said on standard error.
        """
        seen, sent = "", False
        with subprocess.Popen(
            self.command(*arguments),
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            for said in process.stderr:
                seen += said
                if said.startswith(line) and not sent:
                    process.send_signal(by)
                    sent = True
        return process.returncode, seen


@contextmanager
def made_world(place: Path) -> Iterator[World]:
    """A world in a folder."""
    save_small_model(place / "small")
    rows = [
        {"prompt": one.question, "answer": one.answer} for one in generate_problems(PROMPTS, seed=3)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (place / "data.jsonl").write_text(text, encoding="utf-8")
    app = create_app({"big": sandbox_cloud(time_scale=0)})
    with running_server(app) as url:
        yield World(place, app, url)


def logits(model: Any) -> torch.Tensor:
    """What a model says of some tokens: two that say the same are the same."""
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(3, 40)[None]).logits
    return found
