"""Save what was learnt as a directory, and load it again without trusting it more than needed.

The directory holds a file for each object, `manifest.json`, and `MODEL_CARD.md` for people. The
manifest has the sha256 of each file; the bytes that were hashed are the bytes that are loaded.

- skops is the default: it builds objects of known types from data and runs no code. What may be
  built is a fixed list in this module; no file can add to it.
- joblib takes any object, and loading it runs whatever code is in the file. It is loaded only with
  `trust=True`, and never because something else failed.

A hash in a manifest that lies beside the file protects from damage and mix-ups, not from somebody
who may write to the directory. Against that, keep the manifest's own hash, which saving returns,
and give it when loading.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final, Literal, TypeAlias, get_args

from langchain_hybridflow.errors import ArtifactError, ConfigurationError, MissingExtraError
from langchain_hybridflow.learning._manifest import NAME_PATTERN, FileEntry, Manifest
from langchain_hybridflow.learning.model_card import model_card

__all__ = ["Artifact", "Format", "Manifest", "Saved", "load_artifact", "save_artifact"]

Format: TypeAlias = Literal["skops", "joblib"]
"""How objects are written."""

_MANIFEST: Final = "manifest.json"
_CARD: Final = "MODEL_CARD.md"
_MAX_MANIFEST_BYTES: Final = 1_000_000
_MAX_BYTES: Final = 500_000_000

# Not blocking: opening a pipe would wait for a writer before anybody could see what it is.
_OPEN_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC")
)

# Beyond what skops trusts by itself (numpy, and scikit-learn's public estimators). These run no
# code when built. Nothing checks the indices inside of trees made by somebody else, so that a
# forged one could end the process: another reason to keep the manifest's hash.
_TRUSTED: Final = (
    "scipy.sparse._csr.csr_matrix",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written.

    Attributes:
        directory: Where.
        manifest: The manifest as it was written.
        sha256: The hash of the manifest's bytes: it vouches for all the rest.
    """

    directory: Path
    manifest: Manifest
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """What was loaded.

    Attributes:
        objects: The objects by name.
        manifest: What is known of them.
    """

    objects: Mapping[str, Any] = field(repr=False)
    manifest: Manifest


def save_artifact(
    directory: Path | str,
    objects: Mapping[str, object],
    manifest: Manifest,
    *,
    file_format: Format = "skops",
) -> Saved:
    """Write objects, the manifest that vouches for them, and a model card.

    Objects may be anything of numpy, scipy and scikit-learn (pipelines, arrays), and lists,
    tuples and dicts of it. A directory that holds an earlier version goes over to the new one in
    one step: until the manifest is replaced the old one holds.

    Args:
        directory: Where; it is made if it does not exist.
        objects: What to save, by name.
        manifest: What is known of them; files and versions are filled in.
        file_format: "skops", or "joblib" for objects that skops cannot write.

    Raises:
        ArtifactError: An object cannot be written, or what was written could not be loaded
            again: it holds a type that is not on the list.
        ConfigurationError: A name is not made of 1 to 40 lower-case letters, digits and
            underscores.
        MissingExtraError: The extra `learning` is not installed.
        OSError: The directory cannot be written to.
    """
    if file_format not in get_args(Format):
        raise ConfigurationError(f"file_format is 'skops' or 'joblib', got {file_format!r}.")
    contents: dict[str, bytes] = {}
    entries: list[FileEntry] = []
    for name, value in sorted(objects.items()):
        if not NAME_PATTERN.fullmatch(name):
            raise ConfigurationError(
                f"Objects have names of 1 to 40 lower-case letters, digits and underscores, got "
                f"{name!r}."
            )
        content = _skops_bytes(name, value) if file_format == "skops" else _joblib_bytes(value)
        digest = hashlib.sha256(content).hexdigest()
        # The hash in the name: a new version never writes over the files of the one that holds.
        entry = FileEntry(name, f"{name}-{digest[:16]}.{file_format}", digest, len(content))
        contents[entry.file] = content
        entries.append(entry)
    complete = replace(
        manifest, file_format=file_format, files=tuple(entries), versions=_versions()
    )
    text = json.dumps(complete.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n"
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        _write(place / file, content)
    _write(place / _MANIFEST, text.encode())
    _write(place / _CARD, model_card(complete).encode())
    _remove_old(place, keep=set(contents))
    return Saved(place, complete, hashlib.sha256(text.encode()).hexdigest())


def load_artifact(
    directory: Path | str,
    *,
    feature_schema: int,
    trust: bool = False,
    any_version: bool = False,
    manifest_sha256: str | None = None,
    max_bytes: int = _MAX_BYTES,
) -> Artifact:
    """Load what `save_artifact` wrote, if it is unharmed, fits, and may be trusted.

    Args:
        directory: Where it is.
        feature_schema: Version of the features that the caller computes.
        trust: Whether to load joblib files, which run code. Only for files that you made yourself,
            or had from somebody you would let run programs on this machine.
        any_version: Whether to load what another scikit-learn (major.minor) has written; its
            predictions may be others, or it may fail later.
        manifest_sha256: The manifest's hash, from a place that is safer than the directory.
        max_bytes: Largest file, also when unpacked.

    Raises:
        ArtifactError: Something is missing, damaged, of another version, or not to be trusted;
            the message says which and what to do.
        MissingExtraError: The extra `learning` is not installed.
    """
    place = Path(directory)
    content = _read(place, _MANIFEST, _MAX_MANIFEST_BYTES)
    if manifest_sha256 is not None:
        _check_hash(_MANIFEST, content, manifest_sha256)
    manifest = Manifest.from_json(_parsed(content))
    if manifest.feature_schema != feature_schema:
        raise ArtifactError(
            f"{place.name} was trained on features of schema {manifest.feature_schema!r}, and this "
            f"version of the package computes {feature_schema!r}. Train it again, or install the "
            f"version that it was made with (langchain-hybridflow "
            f"{manifest.versions.get('langchain-hybridflow', 'unknown')})."
        )
    if manifest.file_format == "joblib" and not trust:
        raise ArtifactError(
            f"{place.name} holds joblib files, and loading one runs the code that is in it. If you "
            f"made it yourself or trust who did, load it with trust=True; or save it as skops."
        )
    if not any_version:
        _check_version(place.name, manifest)
    objects: dict[str, Any] = {}
    for entry in manifest.files:
        if entry.bytes > max_bytes:
            raise ArtifactError(
                f"{entry.file} has {entry.bytes:,} bytes, and max_bytes is {max_bytes:,}."
            )
        data = _read(place, entry.file, entry.bytes)
        _check_hash(entry.file, data, entry.sha256)
        if manifest.file_format == "skops":
            objects[entry.name] = _from_skops(entry.file, data, max_bytes)
        else:
            objects[entry.name] = _from_joblib(entry.file, data)
    return Artifact(objects, manifest)


# Files


def _write(path: Path, content: bytes) -> None:
    """Write a file at once: nobody sees half of it."""
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary = Path(file.name)
    try:
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _remove_old(place: Path, *, keep: set[str]) -> None:
    for path in place.iterdir():
        ours = FileEntry.matches(path.name)
        if ours and path.name not in keep:
            path.unlink()


def _read(place: Path, name: str, most: int) -> bytes:
    """Read a regular file of the directory; no link is followed out of it."""
    try:
        descriptor = os.open(place / name, _OPEN_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ArtifactError(f"{name} in {place.name} is no regular file.")
            content = file.read(most + 1)
    except OSError as error:
        raise ArtifactError(
            f"{name} in {place.name} cannot be read ({error.strerror}); links are not followed. "
            f"Give the directory that save_artifact wrote."
        ) from error
    if len(content) > most:
        raise ArtifactError(f"{name} in {place.name} is longer than the {most:,} bytes expected.")
    return content


def _check_hash(name: str, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ArtifactError(
            f"{name} is not what was saved: its sha256 is {found[:16]}..., expected "
            f"{expected[:16]}.... It was damaged or exchanged; take it from where it was made."
        )


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{_MANIFEST} is not JSON: {error}") from error


# Versions


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("langchain-hybridflow", "scikit-learn", "numpy", "scipy", "skops", "joblib"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _check_version(name: str, manifest: Manifest) -> None:
    made, here = manifest.versions.get("scikit-learn"), _versions().get("scikit-learn")
    if made and here and made.split(".")[:2] != here.split(".")[:2]:
        raise ArtifactError(
            f"{name} was made with scikit-learn {made}, and {here} is installed. Train it again, "
            f"install scikit-learn {'.'.join(made.split('.')[:2])}, or take the risk with "
            f"any_version=True."
        )


# Formats


def _skops_bytes(name: str, value: object) -> bytes:
    skops = _extra("skops.io")
    try:
        content: bytes = skops.dumps(value)
    except Exception as error:
        raise ArtifactError(f"skops cannot write {name!r} ({error}). Use joblib.") from error
    strange = sorted(set(skops.get_untrusted_types(data=content)) - set(_TRUSTED))
    if strange:
        raise ArtifactError(
            f"{name!r} holds types that would not be loaded again: {', '.join(strange)}. Save "
            f"their arrays and numbers instead, or use joblib."
        )
    return content


def _from_skops(file: str, content: bytes, max_bytes: int) -> Any:
    skops = _extra("skops.io")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            unpacked = sum(entry.file_size for entry in packed.infolist())
        if unpacked > max_bytes:
            raise ArtifactError(
                f"{file} has {unpacked:,} bytes when unpacked, and max_bytes is {max_bytes:,}."
            )
        strange = sorted(set(skops.get_untrusted_types(data=content)) - set(_TRUSTED))
        if strange:
            raise ArtifactError(
                f"{file} wants to build {', '.join(strange)}, which is not on the list of types "
                f"that a saved router is made of. Do not load it."
            )
        return skops.loads(content, trusted=list(_TRUSTED))
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(f"{file} is no skops file that can be loaded: {error}") from error


def _joblib_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    _extra("joblib").dump(value, buffer)
    return buffer.getvalue()


def _from_joblib(file: str, content: bytes) -> Any:
    joblib = _extra("joblib")
    try:
        return joblib.load(io.BytesIO(content))
    except Exception as error:
        raise ArtifactError(f"{file} cannot be loaded with joblib: {error}") from error


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError("Saving and loading what was learnt", "learning") from error
