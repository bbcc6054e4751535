"""Post-train the supervised model by one method: GAPG, or one of those it is compared with.

    python benchmarks/selfrouting/reinforce.py --base DIR --method gapg --share 0.3 --output DIR

All methods get the same puzzles in the same order for a seed, and the same number of steps. The
cloud is the sandbox's; its answers are kept in the output folder, so a run counts its own calls.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from world import REINFORCED_SEED, training_puzzles

from langchain_hybridflow.budget import Budget
from langchain_hybridflow.posttrain import METHODS, CloudAnswers, GAPGConfig, GAPGTrainer
from langchain_hybridflow.sandbox import SANDBOX_PRICES, is_solved, sandbox_cloud

PROMPTS, GROUP = 12, 8
PUZZLES = 12_000
LEARNING_RATE = 1.2e-4
LOGGED_EVERY = 2


def run(options: argparse.Namespace) -> None:
    """Train, and write the model, its log and what it cost."""
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    puzzles = {one.id: one for one in training_puzzles(PUZZLES, seed=REINFORCED_SEED)}
    rows = [{"id": name, "prompt": one.question} for name, one in puzzles.items()]
    random.Random(f"reinforced/{options.seed}").shuffle(rows)
    cloud = CloudAnswers(
        model=sandbox_cloud(time_scale=0),
        cache=output / "answers.sqlite",
        budget=Budget(prices=SANDBOX_PRICES),
    )
    settings = GAPGConfig(
        output_dir=str(output / "trainer"),
        method=options.method,
        rho=options.share / (1 - options.share),
        reward_help=options.reward_help,
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=options.max_tokens,
        max_steps=options.steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=5,
        shuffle_dataset=False,
        seed=options.seed,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_steps=LOGGED_EVERY,
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(options.base, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32)

    def solved(item, text: str) -> bool:
        given = text if "answer" in text.casefold() else f"Answer: {text}"
        return is_solved(puzzles[item.id], given)

    trainer = GAPGTrainer(
        model, settings, rows, processing_class=tokenizer, verifier=solved, cloud=cloud
    )
    began, cpu = time.monotonic(), time.process_time()
    trainer.train()
    counts = cloud.counts
    about = {
        "method": options.method,
        "share": options.share,
        "seed": options.seed,
        "steps": options.steps,
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
        "cloud_bought": counts.bought,
        "cloud_asked": counts.asked,
        "cloud_usd": str(counts.usd),
    }
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    output.joinpath("log.json").write_text(json.dumps(trainer.state.log_history) + "\n")
    output.joinpath("run.json").write_text(json.dumps(about, indent=1) + "\n")
    cloud.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--reward-help", type=float, default=0.55)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-tokens", type=int, default=80)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run(options)


if __name__ == "__main__":
    main()
