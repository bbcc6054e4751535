"""A small model, its data, a cloud that counts its calls, and the command as it is typed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from langchain_hybridflow.sandbox import generate_problems, sandbox_cloud
from langchain_hybridflow.sandbox.server import create_app, running_server
from tests.rl.small_models import save_small_model

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
        return ["posttrain", *told, *arguments]

    def run(self, *arguments: str) -> Ended:
        """Run the command to its end."""
        process = self.start(*arguments, stderr=self.place / "stderr")
        process.join(LONGEST_S)
        assert process.exitcode is not None, "it did not end"
        return Ended(
            process.exitcode,
            (self.place / "stdout").read_text(encoding="utf-8"),
            (self.place / "stderr").read_text(encoding="utf-8"),
        )

    def run_until(
        self, line: str, *arguments: str, by: signal.Signals = signal.SIGKILL
    ) -> tuple[int | None, str]:
        """End the command as soon as it has said a line that begins so.

        Returns its exit status, and what it has said on standard error.
        """
        pipe = Path(mkdtemp(dir=self.place)) / "stderr"
        os.mkfifo(pipe)
        process = self.start(*arguments, stderr=pipe)
        seen, sent = "", False
        with pipe.open(encoding="utf-8") as said_lines:
            for said in said_lines:
                seen += said
                if said.startswith(line) and not sent:
                    os.kill(process.pid or 0, by)
                    sent = True
        process.join(LONGEST_S)
        return process.exitcode, seen

    def start(self, *arguments: str, stderr: Path) -> ForkServerProcess:
        """Start the command in a process of its own, in which the libraries are loaded already."""
        process = _SERVER.Process(
            target=_command,
            args=(self.command(*arguments), self.place, self.place / "stdout", stderr),
            daemon=True,
        )
        process.start()
        return process


@dataclass(frozen=True)
class Ended:
    """What a command leaves: `subprocess.CompletedProcess`, as far as it is needed."""

    returncode: int
    stdout: str
    stderr: str


# Loading torch and TRL takes as long as all the rest: it is done once, and each command is a copy
# of that process, which can be killed like any other.
_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "langchain_hybridflow.cli.posttrainview",
        "langchain_hybridflow.posttrain.foreseeing",
        "langchain_hybridflow.posttrain.trainer",
        "peft",
        "tests.rl.command_world",
        "torch.utils.tensorboard",
        "transformers.models.llama.modeling_llama",
    ]
)


def _command(arguments: list[str], place: Path, stdout: Path, stderr: Path) -> None:
    """Be the command, as if it had been typed."""
    for number, path in ((1, stdout), (2, stderr)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - till the end
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(place)
    os.environ |= {"COLUMNS": "200"}
    sys.argv = ["hybridflow", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from langchain_hybridflow.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()


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
