"""What a checkpoint does with puzzles: its thinking, how ready it is to ask, and its own answer.

One greedy generation tells it all. Where the thinking ends the model chooses between the marker and
an answer; the marker is held back there and its probability noted, so that each prompt has both:
how much the model wanted to ask, and what it would have answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList

from langchain_hybridflow.answer_or_ask import ASK_MARKER, read_reply
from langchain_hybridflow.sandbox.puzzles import Puzzle, is_solved

MAX_NEW_TOKENS = 80
BATCH = 250


@dataclass(frozen=True)
class Solved:
    """One prompt.

    Attributes:
        solved: Whether the model's own answer is right.
        ask: Probability of the marker against any other token, the largest in the output.
        asks: Whether greedy decoding asks.
        logprob: Mean log-probability of the tokens.
        tokens: Generated tokens.
    """

    solved: bool
    ask: float
    asks: bool
    logprob: float
    tokens: int


class HoldBack(LogitsProcessor):
    """Notes how likely the marker is at each step, and if it is likeliest; then rules it out."""

    def __init__(self, marker: int) -> None:
        self.marker = marker
        self.asks: list[torch.Tensor] = []
        self.chosen: list[torch.Tensor] = []

    def __call__(self, input_ids, scores):
        self.asks.append(torch.softmax(scores, -1)[:, self.marker])
        self.chosen.append(scores.argmax(-1) == self.marker)
        scores = scores.clone()
        scores[:, self.marker] = -torch.inf
        return scores


def load(folder: Path):
    """Load a checkpoint and its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, tokenizer


@torch.no_grad()
def solve(model, tokenizer, puzzles: Sequence[Puzzle]) -> list[Solved]:
    """Let a model solve puzzles, one greedy output each."""
    found: list[Solved | None] = [None] * len(puzzles)
    order = sorted(range(len(puzzles)), key=lambda at: len(puzzles[at].question))
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        part = [puzzles[place] for place in places]
        for place, one in zip(places, _solve_batch(model, tokenizer, part), strict=True):
            found[place] = one
    return found


def _solve_batch(model, tokenizer, puzzles: Sequence[Puzzle]) -> list[Solved]:
    marker = tokenizer.convert_tokens_to_ids(ASK_MARKER)
    inputs = tokenizer([one.question for one in puzzles], return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    held = HoldBack(marker)
    out = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        logits_processor=LogitsProcessorList([held]),
        return_dict_in_generate=True,
        output_logits=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    made = out.sequences[:, inputs["input_ids"].shape[1] :]
    real = made != tokenizer.pad_token_id
    logprobs = torch.stack(out.logits, 1).log_softmax(-1).gather(2, made[:, :, None])[:, :, 0]
    asks, chosen = torch.stack(held.asks, 1) * real, torch.stack(held.chosen, 1) & real
    results = []
    for row, puzzle in enumerate(puzzles):
        ids = made[row][real[row]].tolist()
        text = "".join(tokenizer.convert_ids_to_tokens(ids)).removesuffix(tokenizer.eos_token)
        answer = read_reply(text).answer
        results.append(
            Solved(
                solved=answer is not None and is_solved(puzzle, f"Answer: {answer}"),
                ask=float(asks[row].max()),
                asks=bool(chosen[row].any()),
                logprob=float(logprobs[row][real[row]].mean()),
                tokens=len(ids),
            )
        )
    return results


def columns(solved: Sequence[Solved]) -> dict[str, np.ndarray]:
    """Turn results into arrays, one for each attribute."""
    return {name: np.array([getattr(one, name) for one in solved]) for name in asdict(solved[0])}
