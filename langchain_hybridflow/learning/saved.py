"""A trained router in a directory: the predictor, the operating point, and what it has seen.

What it has seen are hashes of the questions' texts, never the texts: enough to notice that a
router is measured on what it was trained on. Whoever has a question can find out whether it was
among them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.errors import ArtifactError, ConfigurationError
from langchain_hybridflow.learning._manifest import Manifest
from langchain_hybridflow.learning.dataset import Dataset
from langchain_hybridflow.learning.features import FEATURE_SCHEMA
from langchain_hybridflow.learning.persistence import (
    Artifact,
    Format,
    Saved,
    load_artifact,
    save_artifact,
)
from langchain_hybridflow.learning.predictor import TrainedPredictor
from langchain_hybridflow.learning.state import from_state, to_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

__all__ = ["SavedRouter", "check_free", "load_router", "save_router"]

_MIN_GAIN: Final = "min_gain"
_AFTER_EDGE: Final = "after_edge_"


@dataclass(frozen=True, slots=True)
class SavedRouter:
    """A router as it was saved.

    Attributes:
        predictor: What it foresees gains with.
        manifest: What is known of it.
        seen: Hashes of the questions it was trained on, see `Dataset.fingerprints`.
    """

    predictor: TrainedPredictor = field(repr=False)
    manifest: Manifest
    seen: Hashes = field(repr=False)

    @property
    def min_gain(self) -> float:
        """Its operating point: the gain that a cloud call must promise whatever it costs."""
        return float(self.manifest.parameters[_MIN_GAIN])

    @property
    def after_edge_min_gain(self) -> float:
        """The same for decisions made once the edge has answered; 0 until it is tuned."""
        return float(self.manifest.parameters.get(f"{_AFTER_EDGE}{_MIN_GAIN}", 0.0))

    def unseen(self, data: Dataset) -> NDArray[np.bool_]:
        """Say for each row, shape (n,), whether it was not trained on."""
        import numpy as np

        return ~np.isin(data.fingerprints(), self.seen)

    def tuned(
        self, min_gain: float, found: Mapping[str, Any], *, after_edge: bool = False
    ) -> SavedRouter:
        """Return it at another operating point.

        Args:
            min_gain: The gain that a cloud call must promise whatever it costs.
            found: How that was found, in plain JSON; goes into the manifest.
            after_edge: Whether the point is for decisions made once the edge has answered.
        """
        before = _AFTER_EDGE if after_edge else ""
        point = {f"{before}{_MIN_GAIN}": min_gain, f"{before}tuning": dict(found)}
        parameters = {**self.manifest.parameters, **point}
        return replace(self, manifest=replace(self.manifest, parameters=parameters))

    def save(self, directory: Path | str, *, file_format: Format | None = None) -> Saved:
        """Write it, all or nothing: a new directory appears with everything in it.

        A directory that holds a router already goes over to the new one in one step.

        Args:
            directory: Where.
            file_format: "skops" or "joblib"; the one it was loaded from if not given.

        Raises:
            ConfigurationError: The directory holds something that is no router.
            ArtifactError: Something of it cannot be written.
            OSError: The directory cannot be written to.
        """
        place = Path(directory)
        check_free(place)
        objects = {"predictor": to_state(self.predictor), "seen": self.seen}
        chosen = file_format or self.manifest.file_format
        if place.exists() and any(place.iterdir()):
            return save_artifact(place, objects, self.manifest, file_format=chosen)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Beside it and not in /tmp: only within one file system is renaming a single step.
        beside = Path(mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            saved = save_artifact(beside, objects, self.manifest, file_format=chosen)
            beside.chmod(0o755)
            beside.replace(place)
        except BaseException:
            for path in beside.iterdir():
                path.unlink()
            beside.rmdir()
            raise
        return replace(saved, directory=place)


def check_free(directory: Path | str) -> None:
    """Refuse a place where no router can be saved; better before the training than after it.

    Raises:
        ConfigurationError: It is a file, a directory with something that is no router, or in a
            place that cannot be written to.
    """
    place = Path(directory)
    if place.is_dir():
        if any(place.iterdir()) and not (place / "manifest.json").is_file():
            raise ConfigurationError(
                f"{place} holds files that are no router. Name a new or an empty directory, or "
                f"one with a router to replace."
            )
    elif place.exists():
        raise ConfigurationError(f"{place} is a file; a router is a directory.")
    above = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ConfigurationError(f"Nothing can be written to {above}. Name another directory.")


def save_router(
    directory: Path | str,
    predictor: TrainedPredictor,
    *,
    data: Dataset,
    data_sha256: str,
    training_data: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    min_gain: float = 0.0,
    about: str = "",
    file_format: Format = "skops",
) -> Saved:
    """Write a trained predictor as a router that `LearnedRouter.load` takes.

    Args:
        directory: Where; a router that is there already is replaced in one step.
        predictor: A predictor of `train`.
        data: What it was trained on; hashes of its questions are kept.
        data_sha256: Hash of the file that they came from, 64 hexadecimal digits.
        training_data: What the data were, in plain JSON.
        metrics: What it reached on held-out data, by name.
        min_gain: Its operating point.
        about: Purpose and limits in words, for the model card.
        file_format: "skops", or "joblib".

    Raises:
        ConfigurationError: The directory holds something that is no router.
        ArtifactError: Something of it cannot be written.
        OSError: The directory cannot be written to.
    """
    import numpy as np

    manifest = Manifest(
        feature_schema=predictor.schema,
        training_data_sha256=data_sha256,
        training_data=dict(training_data or {}),
        metrics=dict(metrics or {}),
        parameters={_MIN_GAIN: min_gain},
        about=about,
        file_format=file_format,
    )
    return SavedRouter(predictor, manifest, np.unique(data.fingerprints())).save(directory)


def load_router(
    directory: Path | str,
    *,
    trust: bool = False,
    any_version: bool = False,
    manifest_sha256: str | None = None,
) -> SavedRouter:
    """Load what `save_router` wrote; see `load_artifact` for the arguments.

    Raises:
        ArtifactError: Something is missing, damaged, of another version, or not to be trusted.
        MissingExtraError: The extra `learning` is not installed.
    """
    artifact = load_artifact(
        directory,
        feature_schema=FEATURE_SCHEMA,
        trust=trust,
        any_version=any_version,
        manifest_sha256=manifest_sha256,
    )
    return _router(artifact, Path(directory).name)


def _router(artifact: Artifact, name: str) -> SavedRouter:
    import numpy as np

    state, seen = artifact.objects.get("predictor"), artifact.objects.get("seen")
    min_gain = artifact.manifest.parameters.get(_MIN_GAIN)
    late = artifact.manifest.parameters.get(f"{_AFTER_EDGE}{_MIN_GAIN}", 0.0)
    is_number = all(
        isinstance(value, int | float) and -1 <= value <= 1 for value in (min_gain, late)
    )
    if not isinstance(state, dict) or not isinstance(seen, np.ndarray) or not is_number:
        raise ArtifactError(f"{name} holds something else than a router.")
    return SavedRouter(from_state(state), artifact.manifest, seen)
