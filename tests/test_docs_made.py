"""Pages that are made from the code say what the code says, and commands in pages are real ones."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from docs.hooks import refresh
from docs.hooks.command_line import commands
from docs.hooks.llms import short
from docs.hooks.parts import PACKAGE, PARTS
from langchain_hybridflow.cli import app

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "templates").glob("*/README.md")),
    ]
}
FENCE = re.compile(
    r"(?P<needs><!--\s*needs:[^\n]*-->\s*\n)?^```(?:sh|console|bash)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
IN_LINE = re.compile(r"`(?P<code>hybridflow [^`\n]+)`")
PYTHON = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
ANY_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LIST_ITEM = re.compile(r"(?P<indent> *)([-*]|\d+\.) ")
COMMANDS = dict(commands())
LONGEST_NAME = max(len(path.split()) for path in COMMANDS)

# Commands that do not end by themselves, or take a minute.
NOT_RUN = {"hybridflow demo", "hybridflow sandbox serve", "hybridflow budget watch"}


@dataclass(frozen=True)
class Line:
    """A command in a page: its words, and whether it is said to need something."""

    words: tuple[str, ...]
    needs_more: bool

    @property
    def path(self) -> str:
        """The command's whole name, such as `hybridflow router show`."""
        for length in range(LONGEST_NAME, 0, -1):
            if (path := " ".join(self.words[:length])) in COMMANDS:
                return path
        return ""

    @property
    def arguments(self) -> list[str]:
        return list(self.words[len(self.path.split()) :])


def lines(text: str) -> Iterator[Line]:
    """Yield the calls of `hybridflow` in a page's blocks; a pipe's parts each for itself."""
    for block in FENCE.finditer(text):
        code = block["code"].replace("\\\n", " ")
        prompts = [line[2:] for line in code.splitlines() if line.startswith("$ ")]
        for line in prompts or code.splitlines():
            yield from parts_of(line, needs_more=block["needs"] is not None)


def parts_of(line: str, *, needs_more: bool) -> Iterator[Line]:
    words = shlex.split(line, comments=True)
    redirected = words.index(">") if ">" in words else len(words)
    part: list[str] = []
    for word in [*words[:redirected], "|"]:
        if word in {"|", "&&", ";"}:
            while part and re.fullmatch(r"[A-Z_]+=.*", part[0]):
                del part[0]
            if part and part[0] == "hybridflow":
                yield Line(tuple(part), needs_more or redirected < len(words))
            part = []
        else:
            part.append(word)


LINES = {name: found for name, text in PAGES.items() if (found := list(lines(text)))}


def test_made_pages_are_fresh() -> None:
    for place, made in refresh.MADE.items():
        is_fresh = (ROOT / place).read_text(encoding="utf-8") == made()
        assert is_fresh, f"{place} is out of date: run `python docs/hooks/refresh.py`"


def test_command_line_page_has_every_command_and_option() -> None:
    page = PAGES["docs/cli.md"]
    runner = CliRunner()
    for path, command in COMMANDS.items():
        section = page.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
        assert section, path
        helped = runner.invoke(app, [*path.split()[1:], "--help"]).output
        options = set(re.findall(r"--[a-z][a-z-]+", helped)) - {"--help"}
        assert options <= set(re.findall(r"--[a-z][a-z-]+", section)), path
        assert options, path
        assert all(parameter.name for parameter in command.params)


def test_lines_are_found_in_blocks_with_prompts_pipes_and_comments() -> None:
    page = (
        "```console\n$ A=b hybridflow plan \\\n  'x y' --json  # why\nout\n"
        "$ ls | hybridflow ask\n```\n"
    )
    assert [line.words for line in lines(page)] == [
        ("hybridflow", "plan", "x y", "--json"),
        ("hybridflow", "ask"),
    ]


@pytest.mark.parametrize("name", LINES)
def test_commands_in_blocks_have_the_options_that_they_are_given(name: str) -> None:
    for line in LINES[name]:
        if line.words[1:] in {("--help",), ("--version",)}:
            continue
        assert line.path, f"{name}: there is no command {' '.join(line.words)}"
        command = COMMANDS[line.path]
        with command.context_class(command, info_name=line.path) as context:
            parser = command.make_parser(context)
            _, left, _ = parser.parse_args(args=line.arguments)  # an unknown option is an error
        assert not left, f"{name}: {line.path} does not take {left}"


def test_unknown_options_would_be_found() -> None:
    command = COMMANDS["hybridflow plan"]
    with (
        command.context_class(command, info_name="hybridflow plan") as context,
        pytest.raises(Exception, match="--colour"),
    ):
        command.make_parser(context).parse_args(args=["question", "--colour"])


def test_options_named_in_text_exist() -> None:
    for name, text in PAGES.items():
        for match in IN_LINE.finditer(text):
            words = match["code"].replace("\\|", "|").split()
            named = Line(tuple(words), needs_more=True)
            if named.path:
                known = {one for each in COMMANDS[named.path].params for one in option_names(each)}
                given = {word.partition("=")[0] for word in words if word.startswith("--")}
                assert given <= known | {"--help"}, f"{name}: {match['code']}"


def option_names(parameter: object) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]  # type: ignore[attr-defined]


def is_offline(line: Line, folder: Path) -> bool:
    """Whether a command needs nothing but the sandbox, and files that are there by now."""
    if line.needs_more or "..." in line.words or line.path in NOT_RUN or not line.path:
        return False
    given = dict(zip(line.words, [*line.words[1:], ""], strict=True))
    models = [given[tier] for tier in ("--edge", "--cloud") if tier in given]
    if line.path.split()[1] in {"ask", "plan", "profile"} and models != ["sandbox", "sandbox"]:
        return False
    inputs = [
        given[one] for one in ("--data", "--router", "--runs", "--evaluation") if one in given
    ]
    inputs += [one for one in line.arguments if one.endswith((".json", ".jsonl", "router/"))]
    outputs = {given.get("--run-out"), given.get("--out")}
    return "--embeddings" not in given and all(
        one.startswith("sandbox:") or one in outputs or (folder / one).exists() for one in inputs
    )


def smaller(arguments: tuple[str, ...]) -> list[str]:
    """Ask for as many of the sandbox's questions as training needs, and no more."""
    enough = 14 if "subtasks" in arguments else 60
    return [re.sub(r"^sandbox:\d+$", f"sandbox:{enough}", one) for one in arguments]


@pytest.mark.parametrize(
    ("name", "fewest"),
    [("docs/index.md", 1), ("docs/snippets.md", 3), ("docs/profile.md", 4), ("docs/report.md", 2)],
)
def test_commands_that_need_nothing_run(
    name: str, fewest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for line in LINES[name]:
        if is_offline(line, tmp_path):
            arguments = smaller(line.words[1:])
            options = {one for each in COMMANDS[line.path].params for one in option_names(each)}
            if "--time-scale" in options and "--time-scale" not in arguments:
                arguments += ["--time-scale", "0"]
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, f"{name}: {' '.join(line.words)}\n{done.output}"
            ran += 1
    assert ran >= fewest, "commands that used to run are not found, or are said to need something"


def imported(text: str) -> Iterator[tuple[str, str]]:
    """Yield what the code of a page imports from the package."""
    for block in PYTHON.finditer(text):
        for node in ast.walk(ast.parse(block["code"])):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                for alias in node.names:
                    yield node.module or "", alias.name


def test_pages_import_what_the_reference_documents() -> None:
    documented = {f"{PACKAGE}.{short}" for part in PARTS for short in part.modules} | {PACKAGE}
    for name, text in PAGES.items():
        for module, imported_name in imported(text):
            assert module in documented, f"{name} imports {imported_name} of {module}"


def test_llms_text_has_the_form_that_is_expected() -> None:
    text = short()
    head, quote = text.splitlines()[0], text.splitlines()[2]
    assert head == "# langchain-hybridflow"
    assert quote.startswith("> ")
    assert len(re.findall(r"^### \d+\. ", text, re.MULTILINE)) == 10
    assert "verify: Looks at each edge answer" in text, "the arguments of the main classes"
    assert "| `escalated` | boolean |" in text, "the keys of what comes back"
    assert len(text) < 80_000, "it is to be read at once"


def test_links_of_llms_text_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)", short())
    assert targets
    assert all((ROOT / "docs" / target).exists() for target in targets)


def test_llms_text_has_every_public_name() -> None:
    text = short()
    assert all(f"- `{one.name}`: " in text for part in PARTS for one in part.names())


@pytest.mark.parametrize("name", PAGES)
def test_lists_are_read_alike_in_the_repository_and_on_the_site(name: str) -> None:
    # Python's Markdown wants an empty line before a list, and four spaces before one in it.
    text = ANY_BLOCK.sub("", PAGES[name])
    for before, line in itertools.pairwise(text.splitlines()):
        if item := LIST_ITEM.match(line):
            goes_on = LIST_ITEM.match(before) or before.startswith(" ") or not before.strip()
            assert goes_on, f"{name}: an empty line is wanted before {line[:60]!r}"
            assert len(item["indent"]) % 4 == 0, f"{name}: {line[:60]!r}"


def test_command_line_of_the_package_is_typer() -> None:
    # The page is made from its commands; another library would want another way.
    assert isinstance(app, typer.Typer)
