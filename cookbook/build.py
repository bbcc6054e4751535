"""Makes the notebooks of this folder from the scripts beside them.

    python cookbook/build.py             run all scripts, and write the notebooks with their outputs
    python cookbook/build.py 04 07       only these
    python cookbook/build.py --check 04  write nothing; exit with 1 if the notebook would change

A script is the source of its notebook: cells begin with `# %%`, text is in `# %% [markdown]`. Each
runs in a kernel of its own, in an empty folder beside a copy of `templates`, where no connection
leads anywhere but to 127.0.0.1.

A notebook is left as it is if what it says is the same: code, text and outputs to the letter, but
pictures only by kind and by size (within a quarter), as fonts and the heights of bars may differ.
"""

from __future__ import annotations

import argparse
import base64
import difflib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 120
GENERATED = ("__pycache__", ".pytest_cache", ".langgraph_api", ".venv", ".env", "*.db*")
PICTURES = ("image/png", "image/svg+xml")
SIZE_TOLERANCE = 0.25

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

# Python imports it at its start, in the kernel and in all processes that a notebook starts.
CLOSED_WORLD = """
import socket


def _closed(function, place):
    def checked(*arguments, **options):
        address = arguments[place] if len(arguments) > place else options.get("host")
        host = address[0] if isinstance(address, tuple) else address
        is_path = function.__name__ != "getaddrinfo" and isinstance(address, (str, bytes))
        if host not in (None, "", "127.0.0.1", "localhost") and not is_path:
            raise PermissionError(f"The cookbook runs offline; it wanted to reach {host}.")
        return function(*arguments, **options)

    return checked


socket.socket.connect = _closed(socket.socket.connect, 1)
socket.socket.connect_ex = _closed(socket.socket.connect_ex, 1)
socket.getaddrinfo = _closed(socket.getaddrinfo, 0)
"""

# What would tell where and by whom a notebook was run.
TELLING = re.compile(r"/(?:home|root|tmp|Users|var)/|file://|\bat 0x[0-9a-f]{6,}|site-packages")


def sources(chosen: list[str]) -> list[Path]:
    """Find the scripts whose names begin with one of these; all of them if there is none."""
    found = sorted(HERE.glob("[0-9][0-9]_*.py"))
    unknown = [one for one in chosen if not any(path.stem.startswith(one) for path in found)]
    if unknown:
        raise SystemExit(f"There is no script {', '.join(unknown)} in {HERE.name}/.")
    return [path for path in found if not chosen or path.stem.startswith(tuple(chosen))]


def read_source(source: Path) -> nbformat.NotebookNode:
    """Read a script as a notebook without outputs, the same one each time."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.update(metadata=METADATA, nbformat=4, nbformat_minor=5)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.update(id=f"cell-{number:02}", metadata={})
    return notebook


def run(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run all cells in a fresh kernel, and keep of the outputs what does not change.

    Raises:
        CellExecutionError: A cell has failed.
        SystemExit: An output warns of something, or tells about this machine.
    """
    with closed_world() as (folder, environment):
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT_S,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
            # It warns that its port on 127.0.0.1 is not encrypted.
            extra_arguments=["--log-level=ERROR"],
        )
        client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            output.pop("metadata", None) if output.output_type == "stream" else None
            check_output(output)
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


@contextmanager
def closed_world() -> Iterator[tuple[Path, dict[str, str]]]:
    """Make an empty folder `cookbook` beside `templates`, and an environment that stays at home."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        root = Path(place)
        ignored = shutil.ignore_patterns(*GENERATED)
        shutil.copytree(HERE.parent / "templates", root / "templates", ignore=ignored)
        for name in ("cookbook", "guard", "jupyter", "tmp"):
            (root / name).mkdir()
        (root / "guard" / "sitecustomize.py").write_text(CLOSED_WORLD, encoding="utf-8")
        kept = {name: it for name, it in os.environ.items() if not name.startswith("HYBRIDFLOW")}
        environment = kept | {
            "PYTHONPATH": str(root / "guard"),
            "IPYTHONDIR": str(root / "jupyter"),
            "JUPYTER_CONFIG_DIR": str(root / "jupyter"),
            "JUPYTER_DATA_DIR": str(root / "jupyter"),
            "TMPDIR": str(root / "tmp"),
            "SERVE_PYTHON": str(serve_python()),
            "LANGSMITH_TRACING": "false",
            "LANGCHAIN_TRACING_V2": "false",
        }
        yield root / "cookbook", environment


def serve_python() -> Path:
    """The interpreter of `.envs/serve` (`make environments`), which has what a server needs."""
    chosen = os.environ.get("HYBRIDFLOW_ENV_SERVE")
    python = Path(chosen) if chosen else HERE.parent / ".envs" / "serve" / "bin" / "python"
    return python if python.exists() else Path(sys.executable)


def check_output(output: Mapping[str, Any]) -> None:
    """Refuse warnings, and whatever tells about this machine."""
    text = "\n".join(told_of_output(output))
    if output.get("name") == "stderr":
        raise SystemExit(f"A cell writes to standard error:\n{text}")
    if TELLING.search(text) or str(HERE.parent) in text:
        raise SystemExit(f"A cell tells about this machine:\n{text}")


def told(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what a notebook says, line by line: code, text and outputs; pictures by their kind."""
    lines: list[str] = []
    for cell in notebook.cells:
        lines += [f"[{cell.cell_type}]", *cell.source.splitlines()]
        for output in cell.get("outputs", ()):
            lines += [f"[{output.output_type}]", *told_of_output(output)]
    return lines


def told_of_output(output: Mapping[str, Any]) -> list[str]:
    """Return the text of an output; a picture's is its kind."""
    if output["output_type"] == "stream":
        return str(output["text"]).splitlines()
    data = output.get("data", {})
    pictures = [f"[{kind}]" for kind in PICTURES if kind in data]
    return pictures or [
        line for kind in sorted(data) for line in (f"[{kind}]", *str(data[kind]).splitlines())
    ]


def picture_sizes(notebook: nbformat.NotebookNode) -> list[int]:
    """Return the sizes of all pictures, in bytes."""
    return [
        len(base64.b64decode(data[kind])) if kind == "image/png" else len(data[kind])
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        for data in [output.get("data", {})]
        for kind in PICTURES
        if kind in data
    ]


def difference(before: nbformat.NotebookNode, after: nbformat.NotebookNode) -> str:
    """Return how what two notebooks say differs, as a diff; empty if it does not."""
    lines = difflib.unified_diff(told(before), told(after), "committed", "made anew", lineterm="")
    if found := "\n".join(lines):
        return found
    for number, (old, new) in enumerate(
        zip(picture_sizes(before), picture_sizes(after), strict=True), start=1
    ):
        if abs(new - old) > SIZE_TOLERANCE * old:
            return f"Picture {number} had {old:,} bytes, and now has {new:,}."
    return ""


def committed(target: Path) -> nbformat.NotebookNode:
    """Read a notebook; one that is not there is empty."""
    return nbformat.read(target, as_version=4) if target.exists() else nbformat.v4.new_notebook()


def build(source: Path, *, check: bool) -> bool:
    """Run a script; write its notebook, or say how it would change. Returns whether it changed."""
    target = source.with_suffix(".ipynb")
    try:
        fresh = run(read_source(source))
    except CellExecutionError as error:
        raise SystemExit(f"{source.name} fails:\n{error}") from error
    changed = difference(committed(target), fresh)
    if changed and check:
        print(f"{target.name} is not what {source.name} gives:\n\n{changed}\n")
        print("Run `make cookbook`, and look at the diff.")
    elif changed:
        nbformat.write(fresh, target)
    if not check:
        print(f"{target.name}: {'written' if changed else 'as it was'}")
    return bool(changed)


def main() -> None:
    """Read the command line, and build or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chosen", nargs="*", help="how the names begin, such as 04; default: all")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    given = parser.parse_args()
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    changed = [build(source, check=given.check) for source in sources(given.chosen)]
    sys.exit(given.check and any(changed))


if __name__ == "__main__":
    main()
