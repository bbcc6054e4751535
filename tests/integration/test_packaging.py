"""The wheel and the source archive: what is in them, and that they are made the same each time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

from tests.integration.environments import ROOT

PACKAGE = ROOT / "langchain_hybridflow"
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]

# Trained models and drawings for pages may grow; code may not.
MAX_WHEEL_BYTES = 2_000_000
MAX_WHEEL_BYTES_WITH_MODELS = 6_000_000
TRAINED = (".json", ".npz", ".onnx", ".safetensors", ".skops")

pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, into: Path, **variables: str) -> Path:
    command = ("-m", "build", "--no-isolation", f"--{kind}", "--outdir", into, source)
    run(sys.executable, *command, **variables)
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree: it stands still while the tests look at it."""
    copy = tmp_path_factory.mktemp("tree") / "tree"
    beside = shutil.ignore_patterns(
        ".*", "__pycache__", "*.pyc", "*.egg-info", "build", "dist", "site"
    )
    shutil.copytree(ROOT, copy, ignore=beside)
    shutil.copy(ROOT / ".gitignore", copy)  # hatchling leaves out what it names
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tree, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder.parent).as_posix() for path in found}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_wheel_holds_the_package_and_nothing_else(wheel: Path, tree: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_below(tree / PACKAGE.name)


@pytest.mark.parametrize(
    "name",
    ["py.typed", "budget/stores/redis.lua", "sandbox/tiny/weights/model.safetensors"],
)
def test_wheel_holds_what_is_no_module(wheel: Path, name: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert f"{PACKAGE.name}/{name}" in archive.namelist()


def test_wheel_is_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.compress_size for entry in archive.infolist()}
    assert sum(size for name, size in sizes.items() if not name.endswith(TRAINED)) < MAX_WHEEL_BYTES


def test_wheel_with_its_models_is_no_burden(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_WHEEL_BYTES_WITH_MODELS


def test_wheel_of_the_source_archive_is_that_of_the_tree(
    wheel: Path, sdist: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert digest(build("wheel", unpacked, tmp_path / "wheel")) == digest(wheel)


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_two_builds_are_the_same_to_the_byte(kind: str, tree: Path, tmp_path: Path) -> None:
    epoch = {"SOURCE_DATE_EPOCH": "1800000000"}
    one = build(kind, tree, tmp_path / "one", PYTHONHASHSEED="1", TZ="Asia/Tokyo", **epoch)
    other = build(kind, tree, tmp_path / "other", PYTHONHASHSEED="2", TZ="UTC", **epoch)
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    "folder", ["benchmarks", "cookbook", "docs", "langchain_hybridflow", "templates", "tests"]
)
def test_source_archive_holds_all_of_a_folder(folder: str, sdist: Path, tree: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {entry.name.partition("/")[2] for entry in archive if entry.isfile()}
    wanted = files_below(tree / folder)
    assert {name for name in names if name.startswith(f"{folder}/")} == wanted


def test_source_archive_holds_nothing_generated(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        parts = {part for entry in archive for part in Path(entry.name).parts}
    assert not parts & {".venv", ".envs", "__pycache__", "dist", "site", ".langgraph_api", ".env"}


def test_index_can_show_the_readme(wheel: Path, sdist: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, NO_COLOR="1")


def test_metadata_names_each_extra(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def test_metadata_names_the_pythons_that_are_tested(metadata: Message) -> None:
    versions = {"3.11", "3.12", "3.13"}
    start = "Programming Language :: Python :: 3."
    named = [line for line in metadata.get_all("Classifier", []) if line.startswith(start)]
    assert {f"3.{line.removeprefix(start)}" for line in named} == versions
    assert metadata["Requires-Python"] == ">=3.11"


def test_metadata_names_no_requirement_by_path_or_address(metadata: Message) -> None:
    # An index takes no package that asks for a file or an address.
    assert not [line for line in metadata.get_all("Requires-Dist", []) if "@" in line]


def test_serve_and_studio_are_declared_to_conflict() -> None:
    (pair,) = PYPROJECT["tool"]["uv"]["conflicts"]
    assert {one["extra"] for one in pair} == {"serve", "studio"}
