"""The demo in front of a person: a real (pseudo) terminal of 80 columns and 24 rows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langchain_hybridflow.sandbox import generate_problems

MAIN = "from langchain_hybridflow.cli import main; main()"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOR = re.compile(r"\x1b\[(?:\d+;)*3[0-7](?:;\d+)*m")


@contextmanager
def terminal(*args: str, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the program in a terminal of its own; yields the process and what the person sees."""
    person, program = pty.openpty()
    fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    ours = ("COLUMNS", "LINES", "NO_COLOR")  # what a CI sets is not what a person has
    inherited = {key: value for key, value in os.environ.items() if key not in ours}
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *args],
        stdin=program,
        stdout=program,
        stderr=program,
        env=inherited | {"TERM": "xterm-256color"} | environ,
        start_new_session=True,
    )
    os.close(program)
    try:
        yield process, person
    finally:
        process.kill()
        process.wait()
        os.close(person)


def read(person: int) -> Iterator[str]:
    """What appears on the screen, until the program has ended."""
    while True:
        try:
            data = os.read(person, 65_536)
        except OSError:  # how Linux says that nobody is at the other end any more
            return
        if not data:
            return
        yield data.decode("utf-8", "replace")


def demo(tmp_path: Path, *, problems: int) -> tuple[str, ...]:
    picture = str(tmp_path / "p.png")
    return ("demo", "--problems", f"{problems}", "--time-scale", "0", "--picture", picture)


def test_demo_moves_and_is_coloured_in_a_terminal(tmp_path: Path) -> None:
    with terminal(*demo(tmp_path, problems=3)) as (process, person):
        seen = "".join(read(person))
        assert process.wait(timeout=60) == 0
    assert COLOR.search(seen)
    assert "0/3" in seen
    assert "being written" in seen
    last = ESCAPE.sub("", seen).replace("\r", "").splitlines()
    assert any("HybridFlow" in line and "/3" in line for line in last)
    for line in last:
        if "━" in line:  # redrawn in place: one line of text is several on the screen
            continue
        assert len(line.replace(str(tmp_path), "")) <= 80


def test_demo_has_no_colours_when_they_are_not_wanted(tmp_path: Path) -> None:
    with terminal(*demo(tmp_path, problems=2), NO_COLOR="1") as (process, person):
        seen = "".join(read(person))
        assert process.wait(timeout=60) == 0
    assert not COLOR.search(seen)


def test_demo_stands_still_in_a_dumb_terminal(tmp_path: Path) -> None:
    with terminal(*demo(tmp_path, problems=2), TERM="dumb") as (process, person):
        seen = "".join(read(person))
        assert process.wait(timeout=60) == 0
    assert "\x1b" not in seen


def test_demo_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    seen, pressed = "", False
    with terminal(*demo(tmp_path, problems=400)) as (process, person):
        for text in read(person):
            seen += text
            if not pressed and re.search(r"[1-9]\d*/400", seen):
                process.send_signal(signal.SIGINT)
                pressed = True
        assert process.wait(timeout=60) == 130
    assert "hybridflow: Interrupted." in seen
    assert "Traceback" not in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")  # the cursor is visible again


def ask(*options: str) -> tuple[str, ...]:
    question = generate_problems(3)[2].question
    return ("ask", question, "--edge", "sandbox", "--cloud", "sandbox", *options)


def test_ask_draws_the_run_while_it_runs(tmp_path: Path) -> None:
    options = ("--time-scale", "0.1", "--limit-usd", "0.05", "--deadline-s", "60")
    with terminal(*ask(*options)) as (process, person):
        seen = "".join(read(person))
        assert process.wait(timeout=60) == 0
    assert re.search(r"[1-9] of \d done · [\d.]+ s · [\d.]+ s left · spent \$0\.00", seen)
    assert "working, " in seen
    left = seen[seen.rindex("\x1b[?25h") :]  # what stays: the plan, the answer, the cost
    assert "being written" not in left
    assert "Answer: " in left


def test_ask_asks_a_person_between_two_drawings() -> None:
    options = ("--time-scale", "0", "--approve-cloud")
    answered, seen = 0, ""
    with terminal(*ask(*options)) as (process, person):
        for text in read(person):
            seen += text
            while seen.count("Allow it? [y/N]: ") > answered:
                os.write(person, b"y\n")
                answered += 1
        assert process.wait(timeout=60) == 0
    assert answered > 1
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")
    assert f"cloud calls: {answered}" in seen


def test_ask_gives_the_cursor_back_on_ctrl_c() -> None:
    seen, pressed = "", False
    with terminal(*ask("--time-scale", "0.3")) as (process, person):
        for text in read(person):
            seen += text
            if not pressed and " done · " in seen:
                process.send_signal(signal.SIGINT)
                pressed = True
        assert process.wait(timeout=60) == 130
    assert "Interrupted. Booked so far" in seen
    assert "Traceback" not in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")
