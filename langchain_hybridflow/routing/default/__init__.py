"""The small router that ships trained, for when nobody has given one."""

from __future__ import annotations

from langchain_hybridflow.routing.default.artefact import DefaultArtefact, load_default
from langchain_hybridflow.routing.default.router import DefaultRouter

__all__ = ["DefaultArtefact", "DefaultRouter", "load_default"]
