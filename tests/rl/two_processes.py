"""A training of two steps whose responses are dictated, in however many processes it is started."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import torch

from tests.rl.analytic_model import small_model, trainer_for


def train(place: Path) -> None:
    """Train, and write the weights down."""
    torch.set_num_threads(1)
    n = int(os.environ.get("WORLD_SIZE", "1"))
    model = small_model(hidden=16, layers=2)
    trainer = trainer_for(
        place,
        model=model,
        optimizers=(torch.optim.SGD(model.parameters(), lr=0.1), None),
        rho=1.0,
        per_device_train_batch_size=16 // n,
        ddp_backend="gloo" if n > 1 else None,
    )
    rng = random.Random(7)
    said = [[rng.randint(3, 8) for _ in range(rng.randint(1, 3))] + [2] for _ in range(32)]
    first = trainer.accelerator.process_index * (16 // n)
    trainer.dictation = said[first : first + 16 // n] + said[16 + first : 16 + first + 16 // n]
    trainer.train()
    if trainer.accelerator.is_main_process:
        weights = [one.detach().flatten() for one in trainer.model.parameters()]
        torch.save(torch.cat(weights), place / "weights.pt")


if __name__ == "__main__":
    train(Path(sys.argv[1]))
