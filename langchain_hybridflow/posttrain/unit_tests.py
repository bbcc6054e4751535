r"""Whether a program passes its unit tests, run in a process of its own.

**This is no security boundary.** The process has limits of time, memory and file size, an
environment with nothing of the user's in it, and a directory of its own, which goes away with it.
That keeps a faulty program from disturbing the training. A malicious one can still read what the
user can read, and reach the network: models that others may have tampered with, and prompts of
strangers, belong in a container.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from re import DOTALL, findall
from typing import Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.ruling import Ruling
from langchain_hybridflow.profiling.records import Item

__all__ = ["UnitTestVerifier", "code_in"]

# Told on its standard input what to run. Limits are set here, in the child: between fork and exec
# of a process with threads nothing but exec is safe.
_RUNNER: Final = """
import json, os, sys
job = json.loads(sys.stdin.buffer.read())
report = os.dup(1)
null = os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(null, number)
try:
    import resource
except ImportError:
    resource = None
if resource:
    for name, limit in job["limits"].items():
        kind = getattr(resource, name, None)
        if kind is not None:
            try:
                resource.setrlimit(kind, (limit, limit))
            except (OSError, ValueError):
                pass
def tell(what):
    os.write(report, (job["token"] + " " + what).encode("utf-8", "replace"))
    os._exit(0)
try:
    tests = compile(job["tests"], "tests", "exec")
except BaseException as error:
    tell("unverified the tests do not compile: " + str(error))
os.write(report, (job["token"] + " begun\\n").encode())
scope = {"__name__": "__main__"}
try:
    exec(compile(job["program"], "program", "exec"), scope)
    exec(tests, scope)
except BaseException as error:
    tell("wrong " + type(error).__name__ + ": " + str(error)[:200])
tell("correct")
"""

# Nothing of the user's. Threads that libraries start at import each take a part of the memory.
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

_FENCE: Final = r"```(?:python|py|Python)?[ \t]*\n(.*?)```"


def code_in(answer: str) -> str:
    r"""Return the program in an answer: its last code block, or all of it.

    Example:
        >>> code_in("Here:\n```python\nx = 1\n```\n")
        'x = 1\n'
    """
    blocks: list[str] = findall(_FENCE, answer, DOTALL)
    return blocks[-1] if blocks else answer


@dataclass(frozen=True, slots=True)
class UnitTestVerifier:
    """Runs a program, then its tests, in a new Python in isolated mode; see the module.

    The tests are Python too, in the same names: `assert add(1, 2) == 3`. A program that fails
    them, ends before they do, or takes too much time or memory, is wrong. Tests that are missing
    or do not compile, and a process that cannot be started, leave it unverified.

    Args:
        column: The column of the data that holds the tests, as text or as a list of texts.
        timeout_s: Longest time for program and tests, in seconds.
        memory_mb: Most memory of the process, in MiB; where the system can limit it.
        file_mb: Largest file that it may write, in MiB.

    Raises:
        ConfigurationError: A limit is not above 0.

    Example:
        >>> item = Item(id="1", question="Add.", extra={"tests": "assert add(1, 2) == 3"})
        >>> UnitTestVerifier().verify(item, "def add(a, b): return a + b").status
        'correct'
    """

    column: str = "tests"
    timeout_s: float = 10.0
    memory_mb: int = 1024
    file_mb: int = 16

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_mb", "file_mb"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ConfigurationError(f"{name} must be > 0 and finite, not {value!r}.")

    @property
    def name(self) -> str:
        """What it is called."""
        return "tests"

    def verify(self, item: Item, answer: str) -> Ruling:
        """Run program and tests."""
        tests = item.extra.get(self.column)
        if isinstance(tests, list | tuple):
            tests = "\n".join(map(str, tests))
        if not isinstance(tests, str) or not tests.strip():
            return Ruling("unverified", f"the column {self.column} holds no tests")
        token = secrets.token_hex(16)
        job = {
            "program": code_in(answer),
            "tests": tests,
            "token": token,
            "limits": self._limits(),
        }
        try:
            said = self._run(json.dumps(job).encode())
        except subprocess.TimeoutExpired as error:
            if not (error.output or b"").startswith(f"{token} begun\n".encode()):
                return Ruling("unverified", f"in {self.timeout_s:g} s no process had started")
            return Ruling("wrong", f"it took longer than {self.timeout_s:g} s")
        except OSError as error:
            return Ruling("unverified", f"no process could be started: {error}")
        head, began, tail = said.partition(f"{token} begun\n")
        if not began and not head.startswith(token):
            return Ruling("unverified", "the process ended before it ran anything")
        mark, _, rest = (tail if began else head).partition(" ")
        found, _, reason = rest.partition(" ")
        if mark != token:
            return Ruling("wrong", "it ended before its tests did")
        return Ruling({"correct": "correct", "wrong": "wrong"}.get(found, "unverified"), reason)  # type: ignore[arg-type]

    def _limits(self) -> dict[str, int]:
        return {
            "RLIMIT_CPU": int(self.timeout_s) + 1,
            "RLIMIT_AS": self.memory_mb << 20,
            "RLIMIT_FSIZE": self.file_mb << 20,
            "RLIMIT_CORE": 0,
        }

    def _run(self, job: bytes) -> str:
        with tempfile.TemporaryDirectory(prefix="hybridflow-", ignore_cleanup_errors=True) as place:
            # Isolated: no site of the user, no PYTHON variables, nothing of this directory.
            with subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-I", "-c", _RUNNER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=place,
                env=_ENVIRONMENT,
                start_new_session=True,
            ) as process:
                try:
                    said, _ = process.communicate(job, timeout=self.timeout_s)
                finally:
                    _end(process)
            return said.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    with suppress(ProcessLookupError, PermissionError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
