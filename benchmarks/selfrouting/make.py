"""Train everything that the table needs, from nothing; what is there already is kept.

    python benchmarks/selfrouting/make.py --runs DIR [--jobs 2] [--ship]

One supervised model, then each method with each seed, so many at a time; each has one thread.
On two idle cores it takes about an hour. `--ship` puts GAPG's model of the first seed into the
package.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)
METHODS = (
    ("task", 0.3),
    ("gapg", 0.3),
    ("grpo", 0.3),
    ("rloo", 0.3),
    ("da_grpo", 0.3),
)


def call(script: str, *arguments: object, log: Path) -> None:
    """Run one of the scripts beside this one."""
    with log.open("w", encoding="utf-8") as out:
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603


def reinforce(runs: Path, method: str, share: float, seed: int, steps: int) -> None:
    """Train one checkpoint, if it is not there."""
    name = f"{method}-{round(100 * share)}-{seed}"
    folder = runs / name
    if folder.joinpath("run.json").exists():
        return
    arguments = ("--base", runs / "base", "--output", folder, "--method", method)
    arguments += ("--share", share, "--seed", seed, "--steps", steps)
    call("reinforce.py", *arguments, log=runs / f"{name}.log")
    print(name, flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--ship", action="store_true")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    if not options.runs.joinpath("base", "supervised.json").exists():
        call("supervise.py", "--output", options.runs / "base", log=options.runs / "base.log")
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = [
            pool.submit(reinforce, options.runs, method, share, seed, options.steps)
            for seed in SEEDS
            for method, share in METHODS
        ]
        for one in waiting:
            one.result()
    if options.ship:
        call("export.py", options.runs / "gapg-30-0", log=options.runs / "export.log")


if __name__ == "__main__":
    main()
