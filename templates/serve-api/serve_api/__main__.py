"""`python -m serve_api`: start the server."""

from __future__ import annotations

import argparse
import sys

from langchain_hybridflow import HybridFlowError
from langchain_hybridflow.serving import check_address, check_workers, run
from serve_api.settings import Settings


def main() -> None:
    """Read the command line, check that the settings are safe, and serve."""
    parser = argparse.ArgumentParser(prog="serve_api", description="Serve the models.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--grace-s", type=int, default=30, help="seconds to end requests in")
    parser.add_argument("--trusted-proxies", default="", help="addresses, separated by commas")
    given = parser.parse_args()
    try:
        settings = Settings.from_environment()
        check_address(given.host, has_tokens=settings.read_tokens() is not None)
        check_workers(given.workers, store=settings.store)
    except (HybridFlowError, ValueError) as error:
        sys.exit(f"serve_api: {error}")
    run("serve_api.app:create_app", **vars(given))


if __name__ == "__main__":
    main()
