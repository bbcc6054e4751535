"""What a language model has to read to help somebody with this package: `llms.txt`, in two lengths.

The short one, by the form of llmstxt.org, is kept in the repository: what the package is, code to
start from, all public names, and where to read more. The long one is the whole documentation, and
is written when the site is built.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.hooks import parts, sources

HEAD = Path(__file__).with_name("llms_head.md")

MAIN = ("RoutedChatModel", "Budget", "Limits", "Scope", "Window", "Pacing", "HybridFlowGraph")

HOW = {
    "index.md": "install, and the first five minutes",
    "concepts.md": "plans and dataflow, routing, budgets, learning, escalation, privacy",
    "budgets.md": "limits, windows, scopes, stores, pacing, alerts",
    "chat_model.md": "what happens to a call: checks, time-outs, circuit breaker, conversations",
    "metadata.md": "the keys of `response_metadata['hybridflow']`, of reports, events and spans",
    "profile.md": "get outcomes of both tiers on your own questions",
    "self-routing.md": "the edge tries first, and answers or asks for the cloud",
    "router.md": "train, tune, evaluate and use a learned router",
    "posttrain.md": "teach an edge model of your own when to ask (GAPG)",
    "tiny-model.md": "a real language model in the sandbox, which knows when to ask",
    "report.md": "one HTML file of what a run did",
    "serve.md": "behind LangServe's routes and an OpenAI-compatible endpoint",
    "studio.md": "in LangGraph Studio",
    "limits.md": "what it does not do, or does less well than one might think",
    "cli.md": "every command and option of `hybridflow`",
}


def short() -> str:
    """Return `llms.txt`."""
    return "\n".join([head(), *snippets(), *arguments(), *records(), *links(), *names()])


def head() -> str:
    """Return what is to be known first."""
    return HEAD.read_text(encoding="utf-8").replace("{extras}", ", ".join(extras()))


def extras() -> Iterator[str]:
    """Yield the extras that are for users."""
    import tomllib

    project = tomllib.loads((sources.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for extra in project["project"]["optional-dependencies"]:
        if extra not in {"dev", "docs"}:
            yield f"`{extra}`"


def snippets() -> Iterator[str]:
    """Yield the page of snippets as a section; its code is run by the tests."""
    text = (sources.ROOT / "docs" / "snippets.md").read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    yield f"## {title.removeprefix('# ')}\n"
    for block in re.split(r"^(?=## )", rest, flags=re.MULTILINE)[1:]:
        yield f"#{block.strip()}\n"


def arguments() -> Iterator[str]:
    """Yield the arguments of the main classes, from their docstrings."""
    yield "## Arguments of the main classes\n"
    known = parts.linkable()
    for name in MAIN:
        text = inspect.getdoc(known[name].value) or ""
        found = re.search(r"^Args:\n((?:[ ]+.*\n|\n)+)", text, re.MULTILINE)
        told = inspect.cleandoc(found[1]) if found else ""
        yield f"`{known[name].path}`:\n\n```text\n{call(known[name].value, told)}\n\n{told}\n```\n"


def call(value: Any, told: str) -> str:
    """Return how a class is called: the arguments that its docstring names, with their defaults."""
    known = inspect.signature(value).parameters
    written = []
    for name in re.findall(r"^(\w+):", told, re.MULTILINE):
        if name in known:
            default = repr(known[name].default)
            is_needed = known[name].default is inspect.Parameter.empty
            shown = "..." if default.startswith("<") else default  # a factory, or a function
            written.append(name if is_needed else f"{name}={shown}")
    given = ", ".join(written)
    return f"{value.__name__}({given})"


def records() -> Iterator[str]:
    """Yield the tables of what comes back, from the page that tests compare with answers."""
    yield "## What comes back\n"
    text = (sources.ROOT / "docs" / "metadata.md").read_text(encoding="utf-8")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        if section.startswith(("The ", "An ")):
            yield f"### {section.strip()}\n"


def links() -> Iterator[str]:
    """Yield what there is to read, with a word on each page."""
    yield "## Documentation\n"
    for place, about in HOW.items():
        path = sources.ROOT / "docs" / place
        if path.exists():
            title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            yield f"- [{title}]({place}): {about}"
    yield ""


def names() -> Iterator[str]:
    """Yield all public names with what each is, by the module they are imported from."""
    yield "## Public names\n"
    yield "Those of `langchain_hybridflow` itself: " + ", ".join(
        f"`{name}`" for name in __import__(parts.PACKAGE).__all__
    )
    for part in parts.PARTS:
        yield f"\n### {part.title}"
        module = ""
        for one in sorted(part.names(), key=lambda one: part_order(part, one)):
            if one.module != module:
                module = one.module
                yield f"\nIn `{module}`:\n"
            yield f"- `{one.name}`: {one.summary}"
    yield ""


def part_order(part: parts.Part, one: parts.Name) -> int:
    """Keep the names of a module together, else as they are."""
    return part.modules.index(one.module.removeprefix(f"{parts.PACKAGE}."))


def full() -> str:
    """Return `llms-full.txt`: the pages, and every public name with its signature and docstring."""
    return "\n\n".join(
        [
            head(),
            *(page.strip() for page in pages()),
            "# Python reference",
            *(entry(one) for part in parts.PARTS for one in part.names()),
        ]
    )


def pages() -> Iterator[str]:
    """Yield the text of all pages under docs, with the decisions at the end."""
    docs = sources.ROOT / "docs"
    first = [docs / place for place in ("snippets.md", *HOW)]
    others = (path for path in sorted(docs.rglob("*.md")) if path.parent != HEAD.parent)
    for path in dict.fromkeys([*first, *others]):
        if path.exists():
            yield path.read_text(encoding="utf-8")


def entry(one: parts.Name) -> str:
    """Describe a name in full."""
    if not one.has_docstring:
        return f"## {one.path}\n\n{one.summary}"
    return f"## {one.path}{signature(one.value)}\n\n{inspect.getdoc(one.value)}"


def signature(value: Any) -> str:
    """Return how a class or function is called; nothing for those that nobody calls."""
    try:
        return str(inspect.signature(value))
    except (TypeError, ValueError):
        return ""
