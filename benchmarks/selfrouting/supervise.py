"""Train the small model from scratch on supervised texts: how puzzles are thought about.

    python benchmarks/selfrouting/supervise.py --output DIR

It is the edge model before any post-training: it thinks, then answers or asks, and knows nothing of
when to do which.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from world import (
    FORMAT,
    SOLVING,
    SUPERVISED_SEED,
    Lesson,
    Stage,
    lessons,
    save_tokenizer,
    supervised_text,
)

BATCH = 64
WARM_UP = 100
BUCKETS = 8

COURSE = ((SOLVING, 2200, 2e-3), (SOLVING, 1600, 1.2e-3), (FORMAT, 300, 6e-4))
"""Stages, the steps of each, and its highest learning rate; an optimizer of its own for each."""


def make_model(vocabulary: int, *, seed: int) -> LlamaForCausalLM:
    """A Llama with 0.8 million parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def batches(school: list[Lesson], tokenizer, *, seed: str, stage: Stage):
    """Yield token ids and labels; texts of like length go together."""
    rng = random.Random(f"supervised/{seed}/{stage}")
    question_end = tokenizer.convert_tokens_to_ids("<think>")
    while True:
        texts = [supervised_text(rng.choice(school), rng, stage) for _ in range(BATCH * BUCKETS)]
        rows = sorted(tokenizer(texts)["input_ids"], key=len)
        parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        rng.shuffle(parts)
        for part in parts:
            longest = max(map(len, part))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in part])
            labels = ids.masked_fill(ids == 0, -100)
            # What is asked is given; only the thinking and what follows is learnt.
            begun = (ids == question_end).cumsum(1) > 0
            yield ids, labels.masked_fill(~begun, -100)


def train(model, batches, *, steps: int, peak: float) -> list[float]:
    """Do so many steps, and return their losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.05)

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / WARM_UP)
        return warm * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    began, losses = time.monotonic(), []
    for step in range(1, steps + 1):
        ids, labels = next(batches)
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0:
            recent = sum(losses[-50:]) / 50
            print(f"step {step}  loss {recent:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    return losses


def run(options: argparse.Namespace) -> None:
    """Train, and write the model and its tokenizer."""
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(output)
    school = list(lessons(options.puzzles, seed=SUPERVISED_SEED))
    model = make_model(len(tokenizer), seed=options.seed)
    print(f"{sum(one.numel() for one in model.parameters()):,} parameters", flush=True)
    cpu = time.process_time()
    losses = []
    for number, (stage, steps, peak) in enumerate(COURSE):
        stream = batches(school, tokenizer, seed=f"{options.seed}/{number}", stage=stage)
        found = train(model, stream, steps=steps, peak=peak)
        losses.append(sum(found[-100:]) / len(found[-100:]))
    model.save_pretrained(output)
    about = {
        "steps": [steps for _, steps, _ in COURSE],
        "batch": BATCH,
        "seed": options.seed,
        "puzzles": len(school),
        "loss": losses,
        "cpu_seconds": time.process_time() - cpu,
    }
    output.joinpath("supervised.json").write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--puzzles", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run(options)


if __name__ == "__main__":
    main()
