"""What faults cost a budget: units lost, and limits passed. Both are to be 0.

    python -m benchmarks.faults [--section FILE]

It runs `tests/integration/test_ledger_faults.py`, which starts real servers, kills them, cuts their
lines, kills processes and cancels calls, and makes a table of what came of it. It ends with the
tests' own exit code.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from tests.integration.fault_report import FOUND, Found

TESTS = Path(__file__).resolve().parents[1] / "tests" / "integration" / "test_ledger_faults.py"

EXPLAINED = """\
A unit is a cloud call. It is lost if it was made and is in no counter when all leases have ended.
The overshoot is by how many calls the limit was passed then, what was declared as overdraft apart.
Charged and not made are calls whose fate nobody can know: their lease expired, and expiry charges.\
"""


def section(found: list[Found]) -> str:
    """Write it as Markdown: a line for each fault, summed over the stores."""
    lines = ["## Faults: `python -m benchmarks.faults`", "", *EXPLAINED.splitlines(), ""]
    lines += [
        "| fault | on | tried | units lost | overshoot | charged, not made |",
        "|---|---|---|---|---|---|",
    ]
    for fault in dict.fromkeys(one.fault for one in found):
        some = [one for one in found if one.fault == fault]
        stores = ", ".join(dict.fromkeys(one.store for one in some))
        lines.append(f"| {fault} | {stores} | {' | '.join(_sums(some))} |")
    bold = (f"**{number}**" for number in _sums(found))
    lines.append(f"| **all** | | {' | '.join(bold)} |")
    return "\n".join(lines) + "\n"


def _sums(found: list[Found]) -> list[str]:
    names = ("tried", "lost", "overshoot", "charged")
    return [f"{sum(getattr(one, name) for one in found):,}" for name in names]


def main() -> None:
    """Run the tests, and print the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--section", type=Path, help="write the Markdown there")
    options = parser.parse_args()
    code = pytest.main([str(TESTS), "-q", "-p", "no:cacheprovider"])
    text = section(FOUND)
    print(text)
    if options.section:
        options.section.write_text(text, encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
