"""A training that was killed, stopped, or cut off while saving goes on, and buys nothing twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from langchain_hybridflow.posttrain import AnswerCache
from langchain_hybridflow.posttrain.resuming import last_checkpoint
from langchain_hybridflow.posttrain.settings import STATE_FILE
from tests.rl.command_world import PROMPTS, World, logits, made_world

pytestmark = [pytest.mark.allow_hosts(["127.0.0.1"]), pytest.mark.timeout(560)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


def test_killed_training_goes_on_and_buys_nothing_twice_when_resumed(world: World) -> None:
    options = ("--steps", "6", "--save-every", "3")
    status, seen = world.run_until("step 4 of 6: ", *options)
    assert status == -signal.SIGKILL, seen
    run = world.place / "run"
    assert last_checkpoint(run) == run / "checkpoint-3"
    kept = AnswerCache(run / "answers.sqlite")
    # Those of the step that had just begun may have been under way when it was killed.
    lost = world.calls - len(kept)
    assert len(kept) >= 8
    assert 0 <= lost <= 2

    resumed = world.run(*options, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "step 3 of 6\nstep 4 of 6: " in resumed.stderr
    result = json.loads(resumed.stdout)
    assert result["steps"] == 6
    # Six steps of two prompts are all twelve: each was bought once, before the kill or after it.
    assert len(kept) == PROMPTS
    assert world.calls == PROMPTS + lost
    assert result["cloud"]["cached"] >= 2


def test_resumed_training_is_the_one_that_was_never_killed(world: World) -> None:
    options = ("--steps", "4", "--method", "rloo", "--group", "8", "--learning-rate", "0.05")
    whole = world.run(*options, "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    status, seen = world.run_until("step 3 of 4: ", *options)
    assert status == -signal.SIGKILL, seen
    resumed = world.run(*options, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "step 2 of 4\nstep 3 of 4: " in resumed.stderr
    start = logits(AutoModelForCausalLM.from_pretrained(world.place / "small"))
    one = logits(AutoModelForCausalLM.from_pretrained(world.place / "whole" / "model"))
    other = logits(AutoModelForCausalLM.from_pretrained(world.place / "run" / "model"))
    assert not torch.allclose(start, one, atol=1e-3)
    torch.testing.assert_close(one, other)


def test_training_resumes_from_the_last_whole_checkpoint_when_it_died_while_saving(
    world: World,
) -> None:
    assert world.run("--steps", "4").returncode == 0
    (world.place / "run" / "checkpoint-4" / STATE_FILE).unlink()
    (world.place / "run" / "checkpoint-4" / "model.safetensors").write_bytes(b"half of it")
    done = world.run("--steps", "5", "--resume")
    assert done.returncode == 0, done.stderr
    assert "step 2 of 5\nstep 3 of 5: " in done.stderr


def test_training_that_is_done_makes_no_further_step_when_it_is_resumed(world: World) -> None:
    assert world.run("--steps", "2").returncode == 0
    done = world.run("--steps", "2", "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2
    assert world.calls == 4


def test_interrupted_training_says_how_to_go_on(world: World) -> None:
    status, seen = world.run_until("step 1 of 500: ", "--steps", "500", by=signal.SIGINT)
    assert status == 130, seen
    assert seen.count("hybridflow: Interrupted. With --resume it goes on") == 1
    assert "Traceback" not in seen


def test_training_ends_early_when_the_calls_are_used_up_and_goes_on_with_more(
    world: World,
) -> None:
    options = ("--steps", "4", "--on-exhausted", "stop", "--max-cloud-calls")
    short = world.run(*options, "3")
    assert short.returncode == 1, short.stderr
    assert "Ended early" in short.stderr
    assert world.calls == 3
    done = world.run(*options, "20", "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 4
    assert world.calls == len(AnswerCache(world.place / "run" / "answers.sqlite")) == 8


def test_model_that_is_not_there_is_named_without_a_traceback(world: World) -> None:
    done = world.run("--model", "nowhere", "--steps", "1")
    assert done.returncode == 2
    assert "The model 'nowhere' cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
