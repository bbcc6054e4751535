"""LangChain's own standard suites, run on `RoutedChatModel`: a closed world of two endpoints.

The suites need `langchain-tests`, part of the extra `dev`; without it they are left out, except in
CI, where nothing is.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

HERE = Path(__file__).parent
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

sys.path.insert(0, str(HERE))

if importlib.util.find_spec("langchain_tests") is None and not IN_CI:
    collect_ignore_glob = ["test_*.py"]
else:
    import standardkit

    @pytest.fixture(scope="session")
    def vcr_config() -> dict[str, object]:
        """Recordings go nowhere: the endpoints are ours, and answer live."""
        return {"record_mode": "all", "ignore_localhost": True}

    @pytest.fixture(autouse=True)
    def _media(monkeypatch: pytest.MonkeyPatch) -> None:
        """Images, sounds and documents that the suites fetch from the web come from memory."""
        monkeypatch.setattr("httpx.get", standardkit.media)
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "langchain-hybridflow-tests")

    @pytest.fixture(autouse=True)
    def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
        """Put our classes where those of LangChain's own packages are.

        `test_serdes` loads with `allowed_objects="all"`, which means all that langchain-core
        lists by name; whoever is not listed is loaded with `allowed_objects=[...]`.
        """
        loading = importlib.import_module("langchain_core.load.load")
        for listed in standardkit.CLASSES:
            path = tuple(listed.lc_id())
            monkeypatch.setitem(loading.ALL_SERIALIZABLE_MAPPINGS, path, path)
        monkeypatch.setattr(loading, "_default_class_paths_cache", {})

    @pytest.fixture(scope="session")
    def endpoints() -> Iterator[str]:
        """The base URL of a server of capable models, up for the whole session."""
        with standardkit.serving() as base_url:
            yield base_url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1"]))
            # `test_stream_time` takes the fixture, and uses it only where there is a recording.
            unused = "ignore:Benchmark fixture was not used"
            item.add_marker(pytest.mark.filterwarnings(unused))
        if pytest_asyncio.is_async_test(item) and item.path.is_relative_to(HERE):
            # langchain-openai keeps one pool of connections for each base URL, which belongs to
            # the event loop that used it first: one loop for all of these tests.
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
