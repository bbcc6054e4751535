"""The trainer's own loss: exact against gradients that are written down, and by hand."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from tests.rl.analytic_model import (
    NUMBER,
    RIGHT,
    UNKNOWN,
    VOCABULARY,
    WRONG,
    Dictated,
    small_model,
    trainer_for,
)

# What torch, TRL and transformers tell each other is not ours.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

ROW = {"prompt": "Q1", "answer": "right"}


def gradient_of(trainer: Dictated, loss: torch.Tensor) -> torch.Tensor:
    parameters = [one for one in trainer.model.parameters() if one.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [
        (torch.zeros_like(one) if own is None else own).flatten()
        for one, own in zip(parameters, found, strict=True)
    ]
    return torch.cat(flat).double()


def estimate(trainer: Dictated, prompts: list[str], said: list[list[int]]) -> torch.Tensor:
    """Return the ascent direction that the trainer takes when its model said that."""
    trainer.model.train()
    trainer.dictation = [list(one) for one in said]
    rows = [{**ROW, "prompt": prompt} for prompt in prompts]
    inputs = trainer._generate_and_score_completions(rows)
    return -gradient_of(trainer, trainer._compute_loss(trainer.model, inputs))


def logits_of(trainer: Dictated, prompt: str) -> torch.Tensor:
    ids = trainer.processing_class(prompt, return_tensors="pt")["input_ids"]
    return trainer.model(input_ids=ids).logits[0, -1]


def rewards_of(tokens: tuple[str, ...]) -> dict[int, float | None]:
    worth = {RIGHT: 1.0, ASK_MARKER: 0.5, UNKNOWN: None}
    return {NUMBER[one]: worth.get(one, 0.0) for one in tokens}


@pytest.mark.parametrize("method", ["rloo", "task"])
def test_mean_over_all_groups_is_the_exact_gradient(tmp_path: Path, method: str) -> None:
    trainer = trainer_for(tmp_path, method=method, num_generations=2, per_device_train_batch_size=2)
    logits = logits_of(trainer, "Q1")
    chances = logits.softmax(-1)
    rewards = rewards_of(VOCABULARY)
    if method == "task":
        rewards[NUMBER[ASK_MARKER]] = 0.0
    known = [one for one, worth in rewards.items() if worth is not None]
    worth = torch.tensor([float(rewards[one] or 0) for one in known])
    mass = chances[known].sum()
    # Of E[r | the response can be verified].
    exact = gradient_of(trainer, (chances[known] * worth).sum() / mass)
    fixed = chances.detach().double()
    found = torch.zeros_like(exact)
    for group in product(range(len(VOCABULARY)), repeat=2):
        found += fixed[list(group)].prod() * estimate(trainer, ["Q1"] * 2, [[one] for one in group])
    usable = mass.item() ** 2  # both known: otherwise there is no baseline
    assert exact.norm() > 1e-2
    torch.testing.assert_close(found, usable * exact, rtol=1e-3, atol=1e-6)


def test_filtered_estimate_is_that_of_the_kept_prompts(tmp_path: Path) -> None:
    """Q1 is solved, Q2 is not, and the cloud cannot help: only Q1 counts, as if it were alone."""
    said = [[NUMBER[one]] for one in (RIGHT, WRONG, ASK_MARKER, WRONG)]
    lost = [[NUMBER[one]] for one in (WRONG, WRONG, ASK_MARKER, WRONG)]
    trainer = trainer_for(tmp_path, cloud="wrong", rho=1.0)
    both = estimate(trainer, ["Q1"] * 4 + ["Q2"] * 4, said + lost)
    alone = estimate(trainer, ["Q1"] * 4, said)
    assert alone.norm() > 0.05
    torch.testing.assert_close(both, alone)


def test_loss_equals_one_by_hand_for_uneven_lengths_and_several_prompts(tmp_path: Path) -> None:
    """Sum over the tokens of each sequence, mean over prompts, 1/(G-1) in a group."""
    model = small_model(hidden=16, layers=2)
    trainer = trainer_for(tmp_path, model=model, method="rloo")
    end, right, wrong, ask = (NUMBER[one] for one in ("</s>", RIGHT, WRONG, ASK_MARKER))
    said = [
        [right, end],
        [NUMBER["Q1"], NUMBER["Q2"], wrong, wrong, end],
        [wrong],  # cut off
        [NUMBER["Q1"], ask, end],
        [wrong, wrong, wrong, end],
        [ask, end],
        [right, right, end],
        [NUMBER["Q1"], ask],
    ]
    # The prompts are of uneven lengths, too, so there is padding on both sides.
    prompts = ["Q1 Q2 Q1"] * 4 + ["Q2"] * 4
    found = estimate(trainer, prompts, said)
    with_hand: Any = 0.0
    worths = _rewards_by_hand(said)
    for place, (prompt, ids) in enumerate(zip(prompts, said, strict=True)):
        asked = trainer.processing_class(prompt)["input_ids"]
        logits = model(input_ids=torch.tensor([asked + ids])).logits[0]
        logps = logits.log_softmax(-1)[len(asked) - 1 : -1]
        sequence = logps[range(len(ids)), ids].sum()
        group = worths[place // 4 * 4 : place // 4 * 4 + 4]
        with_hand = with_hand + sequence * (worths[place] - sum(group) / 4) / 3 / 2
    torch.testing.assert_close(found, gradient_of(trainer, with_hand), rtol=1e-4, atol=1e-6)


def _rewards_by_hand(said: list[list[int]]) -> list[float]:
    texts = ["".join(VOCABULARY[one] for one in ids if VOCABULARY[one] != "</s>") for ids in said]
    return [
        0.5 if one.endswith(ASK_MARKER) else float(one.endswith("<answer>right</answer>"))
        for one in texts
    ]
