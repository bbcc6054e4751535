"""Print which standard test passes in which routing: `python tests/standard/table.py`.

Runs the suites, and ends with their exit code. With `--junit FILE`, reads a report instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
COLUMNS = ("in process", "HTTP")
ROUTINGS = ("edge", "cloud", "mixed")


def outcome(case: ElementTree.Element) -> str:
    """What became of a test, in one word; skips and expected failures with their reason."""
    for kind in ("failure", "error"):
        if case.find(kind) is not None:
            return "FAILED"
    skipped = case.find("skipped")
    if skipped is None:
        return "pass"
    kind = "xfail" if skipped.get("type") == "pytest.xfail" else "skip"
    return f"{kind}: {skipped.get('message', '')}"


def column(suite: str) -> str:
    """The column of a test class, such as `TestUnitHttpMixed`."""
    place = COLUMNS["Http" in suite]
    routing = next(routing for routing in ROUTINGS if suite.endswith(routing.capitalize()))
    return f"{place} {routing}"


def rows(report: Path) -> dict[str, dict[str, str]]:
    """Outcome by test and column."""
    table: dict[str, dict[str, str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        suite = case.get("classname", "").rsplit(".", 1)[-1]
        if not suite.lower().endswith(ROUTINGS):  # another model's, which routes nothing
            continue
        prefix = "unit" if "Unit" in suite else "integration"
        test = f"{prefix} {case.get('name', '').removeprefix('test_')}"
        table.setdefault(test, {})[column(suite)] = outcome(case)
    return table


def markdown(table: dict[str, dict[str, str]]) -> str:
    """The outcomes as a Markdown table, and how many there are of each."""
    columns = [f"{place} {routing}" for place in COLUMNS for routing in ROUTINGS]
    lines = ["| test | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for test, outcomes in table.items():
        cells = [outcomes.get(name, "-") for name in columns]
        lines.append(f"| {test} | " + " | ".join(cells) + " |")
    totals = Counter(
        result.split(":")[0] for outcomes in table.values() for result in outcomes.values()
    )
    return "\n".join([*lines, "", ", ".join(f"{count} {kind}" for kind, count in totals.items())])


def main() -> int:
    """Run the suites, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--junit", type=Path, help="a JUnit report of the suites, made before")
    report, code = parser.parse_args().junit, 0
    if report is None:
        report = Path(tempfile.mkdtemp()) / "standard.xml"
        command = [sys.executable, "-m", "pytest", "-q", str(HERE), f"--junit-xml={report}"]
        code = subprocess.run(command, check=False, stdout=sys.stderr).returncode
    sys.stdout.write(markdown(rows(report)) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
