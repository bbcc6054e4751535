"""The small world that the edge model is trained in: puzzles, how they are thought about, tokens.

All puzzles come from seeds. Those that anything is measured on are in no training set, in no order
of their numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.sandbox.arithmetic import read_sum
from langchain_hybridflow.sandbox.chains import Chain, chains, write_chain
from langchain_hybridflow.sandbox.language import format_value
from langchain_hybridflow.sandbox.program import evaluate
from langchain_hybridflow.sandbox.puzzles import Puzzle, generate_puzzles

SUPERVISED_SEED, REINFORCED_SEED, VALIDATION_SEED, TEST_SEED = 1, 2, 3, 4
VALIDATION, TEST = 1000, 2000
MAX_ATTEMPTS = 3


# How a supervised text ends. While the model learns to solve, asking says nothing about the
# thinking before it. Then the format is shown, with as many failures as the model really has: one
# that failed asks somewhat more often, as a model does that is told what asking is for. When it
# pays is what is learnt afterwards.
@dataclass(frozen=True)
class Stage:
    """How often supervised texts try to the last, fail there, and ask."""

    last: float
    fails: float
    asks: float
    failed_asks: float


SOLVING = Stage(last=1 / 3, fails=0.25, asks=0.15, failed_asks=0.15)
FORMAT = Stage(last=0.6, fails=0.6, asks=0.12, failed_asks=0.35)

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL = (PAD, BOS, EOS, "<think>", "</think>", "<answer>", "</answer>", ASK_MARKER)
WORDS = ("What", "is", "Make", "from", "no", "ok", "?", *"0123456789", *"+-*/()=,;. ")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words, digits and signs; the text of a token sequence is its pieces put together."""
    vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, UNKNOWN, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[A-Za-z]+|."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def key(puzzle: Puzzle) -> object:
    """What two puzzles have in common that are the same but for the order of their numbers."""
    return (puzzle.target, tuple(sorted(puzzle.numbers))) if puzzle.target else puzzle.question


@lru_cache
def held_out() -> frozenset[object]:
    """The puzzles that nothing may be trained on."""
    return frozenset(map(key, (*validation_puzzles(), *test_puzzles())))


def validation_puzzles() -> list[Puzzle]:
    """Where thresholds are chosen."""
    return generate_puzzles(VALIDATION, seed=VALIDATION_SEED)


def test_puzzles() -> list[Puzzle]:
    """Where accuracy is measured."""
    return generate_puzzles(TEST, seed=TEST_SEED)


def training_puzzles(n: int, *, seed: int) -> list[Puzzle]:
    """About `n` puzzles to learn from."""
    return [one for one in generate_puzzles(n, seed=seed) if key(one) not in held_out()]


@dataclass(frozen=True)
class Lesson:
    """A puzzle, and what is needed to think about it in many ways."""

    puzzle: Puzzle
    solutions: tuple[Chain, ...] = ()
    others: tuple[Chain, ...] = ()


def lesson(puzzle: Puzzle, rng: random.Random) -> Lesson:
    """Work a puzzle out."""
    if puzzle.target is None:
        return Lesson(puzzle)
    target, found = puzzle.target, list(chains(puzzle.numbers))
    shortest = min(len(chain) for chain in found if chain[-1][3] == target)
    solutions = [chain for chain in found if chain[-1][3] == target and len(chain) == shortest]
    others = [chain for chain in found if chain[-1][3] != target]
    near = [
        min(rng.choices(others, k=4), key=lambda chain: abs(chain[-1][3] - target))
        for _ in range(8)
    ]
    return Lesson(puzzle, tuple(solutions[:4]), tuple(near))


def supervised_text(lesson: Lesson, rng: random.Random, stage: Stage) -> str:
    """Write one way of thinking about a puzzle, to its end."""
    is_sum = lesson.puzzle.target is None
    thinking, answer = _reckon(lesson.puzzle) if is_sum else _try(lesson, rng, stage)
    rate = stage.failed_asks if thinking.endswith("no") else stage.asks
    end = ASK_MARKER if rng.random() < rate else f"<answer>{answer}</answer>"
    return f"{lesson.puzzle.question}<think>{thinking}</think>{end}{EOS}"


def _reckon(puzzle: Puzzle) -> tuple[str, str]:
    program = read_sum(puzzle.question)
    steps = evaluate(program, program.sink.name)
    lines = [f"{step.sum_text.replace(' ', '')}={format_value(step.value)}" for step in steps]
    return ",".join(lines), puzzle.answer


def _try(lesson: Lesson, rng: random.Random, stage: Stage) -> tuple[str, str]:
    is_last = rng.random() < stage.last
    attempts = MAX_ATTEMPTS if is_last else rng.randint(1, MAX_ATTEMPTS - 1)
    gives_up = is_last and rng.random() < stage.fails
    tried = [rng.choice(lesson.others) for _ in range(attempts)]
    if not gives_up:
        tried[-1] = rng.choice(lesson.solutions)
    lines = [_moves(chain) + " no" for chain in tried[:-1]]
    lines.append(_moves(tried[-1]) + (" no" if gives_up else " ok"))
    return ";".join(lines), write_chain(tried[-1])


def _moves(chain: Chain) -> str:
    return ",".join(f"{left}{sign}{right}={result}" for left, sign, right, result in chain)


def lessons(n: int, *, seed: int) -> Iterator[Lesson]:
    """Work out about `n` puzzles."""
    rng = random.Random(f"lessons/{seed}")
    return (lesson(puzzle, rng) for puzzle in training_puzzles(n, seed=seed))


def save_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Write the tokenizer into a model's folder."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    return tokenizer
