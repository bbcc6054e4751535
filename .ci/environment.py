"""Makes `.envs/NAME`: an environment with the built wheel, and what a project beside it asks for.

    python .ci/environment.py studio --wheel dist --extras studio --needs templates/studio-agent

The package comes from its wheel, as its users get it. A second call installs nothing when nothing
has changed; a new wheel with the same requirements replaces the old one alone. uv does it,
from the indexes that pip is configured for; where uv cannot, pip does.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".envs"
# tests/integration/environments.py reads both. The one is written when the environment is whole,
# the other when this machine does not have the Python that it was to be made of.
STAMP = ".made"
ABSENT = ".absent"
# Where torch is to be had without CUDA, for machines that have no such build at hand.
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
# The extras for those who work on the package itself: they may always be the newest.
OWN_EXTRAS = frozenset({"dev", "docs"})


def main() -> int:
    """Make or refresh one environment; return the exit status."""
    options = parse_arguments()
    wheel = only_wheel(options.wheel)
    home = ENVIRONMENTS / options.name
    python = find_python(options.python)
    if python is None:
        home.mkdir(parents=True, exist_ok=True)
        (home / ABSENT).touch()
        print(f"There is no Python {options.python} here: {shown(home)} is not made.")
        return 0
    torch = [f"torch=={options.torch}"] if options.torch else []
    requirements = [*torch, *options.require, *project_needs(options.needs)]
    constraints = lower_bounds(options.extras.split(",")) if options.lowest else []
    wanted = {
        "python": version_of(python),
        "requirements": digest([*requirements, *constraints, options.extras, *needs_of(wheel)]),
        "wheel": hashlib.sha256(wheel.read_bytes()).hexdigest(),
    }
    (home / ABSENT).unlink(missing_ok=True)
    present = stamp_of(home)
    if present == wanted:
        return 0
    (home / STAMP).unlink(missing_ok=True)
    try:
        if {**present, "wheel": ""} == {**wanted, "wheel": ""}:
            install(home, "--no-deps", "--force-reinstall", str(wheel))
        else:
            print(f"Making {shown(home)} (about a minute, once) ...", flush=True)
            made = [python, "-m", "venv", "--clear", "--without-pip", str(home)]
            subprocess.run(made, check=True)
            for one in torch:
                install_torch(home, one)
            package = f"{wheel}[{options.extras}]" if options.extras else str(wheel)
            install(home, package, *requirements, *constrained(home, constraints))
    except subprocess.CalledProcessError as error:
        print(f"{shown(home)} could not be made: {error}", file=sys.stderr)
        return 1
    (home / STAMP).write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    return 0


def parse_arguments() -> argparse.Namespace:
    """What to make, and of what."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--wheel", type=Path, required=True, help="the folder the wheel is in")
    parser.add_argument("--python", default=sys.executable, help="3.12, or a path (default: this)")
    parser.add_argument("--extras", default="", help="extras of the package, with commas")
    parser.add_argument("--require", action="append", default=[], help="one more requirement")
    parser.add_argument("--torch", help="this version of torch, built for the CPU, before the rest")
    parser.add_argument(
        "--needs", type=Path, help="a project: its dependencies and all its extras are installed"
    )
    parser.add_argument(
        "--lowest", action="store_true", help="what pyproject.toml names, at its lower bound"
    )
    return parser.parse_args()


def find_python(wanted: str) -> str | None:
    """An interpreter by its path, or the first of a version, such as 3.12, that really starts."""
    if not re.fullmatch(r"\d+\.\d+", wanted):
        return shutil.which(wanted)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    managed = Path.home() / ".local/share/uv/python"
    candidates = [
        sys.executable,
        f"python{wanted}",
        *map(str, pyenv.glob(f"versions/{wanted}.*/bin/python")),
        *map(str, managed.glob(f"cpython-{wanted}.*/bin/python{wanted}")),
    ]
    return next((path for path in candidates if version_of(path).startswith(f"{wanted}.")), None)


def only_wheel(folder: Path) -> Path:
    """The one wheel in a folder."""
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"One wheel is expected in {folder}, found {len(wheels)}: run `make wheel`.")
    return wheels[0].resolve()


def needs_of(wheel: Path) -> list[str]:
    """What the wheel's metadata asks for: when that changes, the environment is made anew."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    return [f"Python {metadata['Requires-Python']}", *metadata.get_all("Requires-Dist", [])]


def project_needs(project: Path | None) -> list[str]:
    """All requirements of a project, those of its extras and dependency groups included."""
    if project is None or not (project / "pyproject.toml").exists():
        return []
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    table = declared.get("project", {})
    lists = [
        table.get("dependencies", []),
        *table.get("optional-dependencies", {}).values(),
        *declared.get("dependency-groups", {}).values(),
    ]
    own = canonical(table.get("name", ""))
    flat = [need for needs in lists for need in needs if isinstance(need, str)]
    return sorted({need for need in flat if canonical(name_of(need)) != own})


def lower_bounds(extras: list[str]) -> list[str]:
    """`name==1.2` for each `name>=1.2` that pyproject.toml declares for users of these extras.

    Strict on purpose: a lower bound that is no release, or that another one rules out, is an error
    and not rounded up in silence.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared, open_extras = list(project["dependencies"]), list(extras)
    while open_extras:
        extra = open_extras.pop()
        for need in project["optional-dependencies"][extra]:
            if canonical(name_of(need)) == canonical(project["name"]):
                open_extras += need.partition("[")[2].rstrip("]").split(",")
            elif extra not in OWN_EXTRAS:
                declared.append(need)
    bounds = {
        canonical(name_of(need)): found[1]
        for need in declared
        if (found := re.search(r">=\s*([\w.]+)", need))
    }
    return [f"{name}=={version}" for name, version in sorted(bounds.items())]


def constrained(home: Path, constraints: Iterable[str]) -> list[str]:
    """The arguments that hold pip to the constraints, which are left beside the environment."""
    lines = list(constraints)
    if not lines:
        return []
    file = home / "constraints.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["--constraint", str(file)]


def name_of(requirement: str) -> str:
    """The distribution that a requirement names."""
    found = re.match(r"\s*([A-Za-z0-9][\w.-]*)", requirement)
    return found[1] if found else ""


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def digest(lines: Iterable[str]) -> str:
    """A short name for a list of requirements."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def stamp_of(home: Path) -> dict[str, str]:
    """What the environment was made of, empty if it is not whole."""
    try:
        stamp: dict[str, str] = json.loads((home / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if (home / "bin" / "python").exists() else {}


def version_of(python: str) -> str:
    """An interpreter's version, empty if it does not start (a shim may stand for nothing)."""
    asked = [python, "-c", "import platform; print(platform.python_version())"]
    try:
        answer = subprocess.run(asked, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()


def install(home: Path, *arguments: str) -> None:
    """Install into an environment, as pip is configured."""
    into = ["--python", str(home / "bin" / "python")]
    # Compiled at once: where Python may not write bytecode, each start would compile all again.
    with_uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--compile-bytecode", *into]
    if subprocess.run([*with_uv, *arguments], check=False, env=environment_of_uv()).returncode != 0:
        print(f"uv could not install into {shown(home)}; trying pip ...", flush=True)
        subprocess.run([*own_pip(home), "-qq", "install", *arguments], check=True)


def install_torch(home: Path, requirement: str) -> None:
    """Install a build of torch without CUDA, which whatever asks for torch later is content with.

    Linux gets one with CUDA from PyPI, several GB of it. pip looks where it is configured to, and
    then at torch's own index.

    Raises:
        CalledProcessError: There is no build for the CPU, or it cannot be installed.
    """
    for index in ((), ("--extra-index-url", CPU_BUILDS)):
        asked = [*own_pip(home), "install", "-qq", *index, requirement]
        asking = [*asked, "--no-deps", "--dry-run", "--report", "-"]
        report = subprocess.run(asking, check=False, stdout=subprocess.PIPE, text=True)
        found = json.loads(report.stdout)["install"] if report.returncode == 0 else []
        versions = [one["metadata"]["version"] for one in found]
        if versions and (sys.platform != "linux" or versions[0].endswith("+cpu")):
            subprocess.run(asked, check=True)
            return
    print(f"No index has a build of {requirement} for the CPU.", file=sys.stderr)
    raise subprocess.CalledProcessError(1, requirement)


def own_pip(home: Path) -> list[str]:
    """This environment's pip, at work on another environment."""
    into = ["--python", str(home / "bin" / "python")]
    return [sys.executable, "-m", "pip", *into, "--disable-pip-version-check"]


def environment_of_uv() -> dict[str, str]:
    """What pip's configuration says of indexes and certificates, in the words of uv.

    uv does not read it. What is said to uv itself in the environment comes first.
    """
    options = pip_configuration()
    said = {
        "UV_DEFAULT_INDEX": options.get("index-url", ""),
        "UV_INDEX": " ".join(options.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(options.get("find-links", "").split()),
        "UV_NO_INDEX": options.get("no-index", ""),
        "UV_INSECURE_HOST": " ".join(options.get("trusted-host", "").split()),
        "SSL_CERT_FILE": options.get("cert", ""),
        "ALL_PROXY": options.get("proxy", ""),
        # As pip has it: all indexes count the same, the newest release of any of them is taken.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    return {name: value for name, value in said.items() if value} | dict(os.environ)


def pip_configuration() -> dict[str, str]:
    """The options of `pip install` in pip's files and variables, the more particular ones last."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    options: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(.*)$", listing, re.MULTILINE):
            options[name] = str(ast.literal_eval(value))
    return options


def shown(home: Path) -> str:
    """An environment's folder as one would type it."""
    return str(home.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
