"""What a saved router says about itself; read strictly, since anybody can write one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from langchain_hybridflow.errors import ArtifactError

__all__ = ["NAME_PATTERN", "FileEntry", "Manifest"]

NAME_PATTERN: Final = re.compile(r"[a-z0-9_]{1,40}")

_FORMAT: Final = 1
_FILE = re.compile(r"[a-z0-9_]{1,40}-[0-9a-f]{16}\.(?:skops|joblib)")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the directory.

    Attributes:
        name: Name of the object in it.
        file: Name of the file; never a path.
        sha256: Hash of its bytes.
        bytes: How many they are.
    """

    name: str
    file: str
    sha256: str
    bytes: int

    @staticmethod
    def matches(file: str) -> bool:
        """Whether a file has a name such as objects are saved under."""
        return _FILE.fullmatch(file) is not None

    @classmethod
    def from_json(cls, plain: object) -> Self:
        """Read one, strictly."""
        if not isinstance(plain, Mapping) or set(plain) != {"name", "file", "sha256", "bytes"}:
            raise _faulty(f"a file is described as {plain!r}")
        name, file, digest, size = (plain[key] for key in ("name", "file", "sha256", "bytes"))
        # The pattern has no separators and no dots to go up by: no name leads out of the directory.
        fits = isinstance(file, str) and cls.matches(file) and file.startswith(f"{name}-")
        if not fits or not NAME_PATTERN.fullmatch(name):
            raise _faulty(f"{file!r} is no name of a file for {name!r}")
        if not isinstance(digest, str) or not _HASH.fullmatch(digest):
            raise _faulty(f"{digest!r} is no sha256")
        if type(size) is not int or size < 0:
            raise _faulty(f"{size!r} is no number of bytes")
        return cls(name, file, digest, size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is known of a saved router.

    Attributes:
        feature_schema: Version of the features that it was trained on.
        training_data_sha256: Hash of the training data.
        training_data: What they were, in plain JSON: rows, models, sources, licences.
        metrics: What it reached on held-out data, by name.
        parameters: Whatever else it needs to work, in plain JSON.
        about: Purpose and limits in words, for the model card.
        file_format: "skops" or "joblib"; filled in when it is saved.
        files: The files; filled in when it is saved.
        versions: Of the packages that it was made with; filled in when it is saved.
    """

    feature_schema: int
    training_data_sha256: str
    training_data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    file_format: Literal["skops", "joblib"] = "skops"
    files: tuple[FileEntry, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "format": _FORMAT,
            "feature_schema": self.feature_schema,
            "training_data_sha256": self.training_data_sha256,
            "training_data": dict(self.training_data),
            "metrics": dict(self.metrics),
            "parameters": dict(self.parameters),
            "about": self.about,
            "file_format": self.file_format,
            "files": [
                {"name": one.name, "file": one.file, "sha256": one.sha256, "bytes": one.bytes}
                for one in self.files
            ],
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, plain: object) -> Self:
        """Read one, strictly.

        Raises:
            ArtifactError: It is no manifest of this format.
        """
        if not isinstance(plain, Mapping) or plain.get("format") != _FORMAT:
            raise _faulty(f"its format is not {_FORMAT}")
        texts = ("training_data_sha256", "about", "file_format")
        objects = ("training_data", "metrics", "parameters", "versions")
        lists, numbers = ("files",), ("feature_schema",)
        for kind, names in ((str, texts), (Mapping, objects), (list, lists), (int, numbers)):
            for name in names:
                if not isinstance(plain.get(name), kind):
                    raise _faulty(f"{name} is missing or not of its type")
        if plain["file_format"] not in ("skops", "joblib"):
            raise _faulty(f"{plain['file_format']!r} is no file format")
        files = tuple(FileEntry.from_json(one) for one in plain["files"])
        if len({one.name for one in files}) < len(files):
            raise _faulty("two files have the same name")
        if any(not one.file.endswith(f".{plain['file_format']}") for one in files):
            raise _faulty("a file is not of the format that all of them have")
        return cls(files=files, **{name: plain[name] for name in (*texts, *objects, *numbers)})


def _faulty(what: str) -> ArtifactError:
    return ArtifactError(f"This is no manifest of a saved router: {what}.")
