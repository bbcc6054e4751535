"""The shape of the house: floors, names, and an import that costs nothing."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import langchain_hybridflow

ROOT = Path(langchain_hybridflow.__file__).parent
NAME = ROOT.name

# Ground floor first. A module imports only from floors below its own, and from its own part;
# parts that share a floor do not know each other.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"answer_or_ask", "delimiters", "errors", "leaving"}),
    frozenset({"openai_wire", "plan", "telemetry"}),
    frozenset({"budget"}),
    frozenset({"routing", "sandbox"}),
    frozenset({"calls", "learning"}),
    frozenset({"verify"}),
    frozenset({"chat_models"}),
    frozenset({"planner"}),
    frozenset({"agents", "graph"}),
    frozenset({"profiling", "report", "serving"}),
    frozenset({"posttrain"}),
    frozenset({"cli", "testing"}),
)
FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts}

# Whatever takes long to import, or wants an extra.
HEAVY = (
    "langchain_core",
    "langchain_openai",
    "langgraph",
    "matplotlib",
    "openai",
    "opentelemetry",
    "pydantic",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}

PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]


def part_of(module: str) -> str:
    """The floor's tenant that a module belongs to: `plan` for `langchain_hybridflow.plan.parse`."""
    return module.split(".")[1]


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this one, without what only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from runtime_nodes(child)


def imported_modules(tree: ast.AST) -> set[str]:
    """The modules of this package that a tree imports when it runs."""
    found: set[str] = set()
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & MODULES.keys() or {node.module})
    return {module for module in found if module in MODULES and module != NAME}


def top_level_imports(path: Path) -> set[str]:
    """What is imported while the module itself is being imported: not inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = []
    return imported_modules(tree)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("module", [name for name in MODULES if name != NAME])
def test_module_imports_only_from_lower_floors(module: str) -> None:
    own = part_of(module)
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    others = {part_of(name) for name in imported_modules(tree)} - {own}
    homeless = {own, *others} - FLOOR_OF.keys()
    assert not homeless, f"give {sorted(homeless)} a floor in FLOORS"
    upward = {part for part in others if FLOOR_OF[part] >= FLOOR_OF[own]}
    assert not upward, f"{module} imports from {sorted(upward)}, not below {own!r}"


def test_modules_form_no_import_cycle() -> None:
    imports = {module: top_level_imports(path) - {module} for module, path in MODULES.items()}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_all_lists_sorted_names_that_exist(module: str) -> None:
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", [])
    # Constants, then classes, then functions: the order that ruff keeps.
    by_kind = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert list(names) == by_kind
    missing = [name for name in names if not hasattr(loaded, name)]
    assert not missing


@pytest.mark.parametrize("module", PACKAGES)
def test_package_says_what_is_public(module: str) -> None:
    assert importlib.import_module(module).__all__


def test_import_is_silent_and_loads_nothing_heavy() -> None:
    report = f"print(sorted({set(HEAVY)!r} & set(sys.modules)))"
    run = run_python(f"import sys, {NAME}; {report}")
    assert (run.stdout.strip(), run.stderr, run.returncode) == ("[]", "", 0)


def test_public_names_are_offered_by_dir_before_they_are_loaded() -> None:
    run = run_python(f"import {NAME} as p; print(set(p.__all__) <= set(dir(p)))")
    assert (run.stdout.strip(), run.stderr) == ("True", "")


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = langchain_hybridflow.no_such_name  # type: ignore[attr-defined]


def test_every_public_name_has_a_home() -> None:
    assert sorted(langchain_hybridflow._HOME_OF) == sorted(langchain_hybridflow.__all__)
