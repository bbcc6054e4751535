"""How fast the web service of templates/serve-api is, and whether it stays as small as it was.

    python benchmarks/serving.py            # needs the extra `serve`, beside the package itself

One process serves; another asks. In one run the same server has the routed pair and, under the same
routes, the bare model that answers inside it (`edge`, zero latency), so that their ratio is what
routing and the budget cost. The first token's way is timed by the model itself: it writes the
reading of the monotonic clock, which all processes share, into its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

TEMPLATE = Path(__file__).resolve().parents[1] / "templates" / "serve-api"
sys.path.insert(0, str(TEMPLATE))

BODIES: dict[str, Any] = {
    "/model/invoke": {"input": "What is 12 * 14?"},
    "/bare/invoke": {"input": "What is 12 * 14?"},
    "/v1/chat/completions routed": {"model": "hybridflow", "messages": []},
    "/v1/chat/completions bare": {"model": "bare", "messages": []},
}
# The model's clock, in the only text of that many digits that an answer holds.
STAMP = re.compile(rb'"content": ?"(\d{10,}) "')
MESSAGES = [{"role": "user", "content": "What is 12 * 14?"}]
PAIRS = {
    "/invoke": ("/model/invoke", "/bare/invoke"),
    "/v1/chat/completions": ("/v1/chat/completions routed", "/v1/chat/completions bare"),
}


def create_app() -> Any:
    """The template's application with a zero-latency pair, and the bare inner model beside it."""
    import serve_api.app as template  # type: ignore[import-not-found]
    from fastapi import FastAPI
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from serve_api.app import create_app as create_template  # type: ignore[import-not-found]
    from serve_api.models import make_model  # type: ignore[import-not-found]
    from serve_api.settings import Settings  # type: ignore[import-not-found]
    from starlette.middleware import Middleware

    from langchain_hybridflow.routing import AlwaysCloud
    from langchain_hybridflow.serving import Gate, Service, add_langserve_routes, add_openai_routes

    class Instant(BaseChatModel):
        """Answers at once, with the time at which it does."""

        pieces: int = 8

        def _usage(self) -> dict[str, int]:
            return {
                "input_tokens": 8,
                "output_tokens": self.pieces,
                "total_tokens": 8 + self.pieces,
            }

        def _generate(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any
        ) -> Any:
            usage: Any = self._usage()
            message = AIMessage("168 " * self.pieces, usage_metadata=usage)
            return ChatResult(generations=[ChatGeneration(message=message)])

        async def _agenerate(self, messages: Any, *args: Any, **options: Any) -> Any:
            return self._generate(messages)

        async def _astream(self, messages: Any, *args: Any, **options: Any) -> AsyncIterator[Any]:
            for number in range(self.pieces):
                usage: Any = self._usage() if number == self.pieces - 1 else None
                text = f"{time.monotonic_ns()} "
                message = AIMessageChunk(text, usage_metadata=usage)
                yield ChatGenerationChunk(message=message)
                await asyncio.sleep(0.02)  # the client is done with it before the next

        @property
        def _llm_type(self) -> str:
            return "instant"

    def instant_pair(settings: Any) -> Any:
        routed = make_model(settings)
        pair = {"edge": Instant(), "cloud": Instant(), "router": AlwaysCloud()}
        return type(routed)(budget=routed.budget, **pair)

    template.make_model = instant_pair
    settings = Settings.from_environment()
    app: FastAPI = create_template(settings)
    service = Service(instant_pair(settings).budget)
    add_langserve_routes(app, Instant(), path="/bare", service=service)
    add_openai_routes(app, {"bare": Instant()}, service=service, prefix="/bare/v1")
    assert any(one.cls is Gate for one in app.user_middleware if isinstance(one, Middleware))
    return app


def serve(folder: Path, port: int, workers: int) -> subprocess.Popen[bytes]:
    """Start it, and wait until it answers."""
    settings = {
        "HYBRIDFLOW_STORE": f"sqlite:///{folder}/budget.db",
        "HYBRIDFLOW_PRICES": "Instant=1,1 instant=1,1",
        "HYBRIDFLOW_LIMIT_USD": "100000",
        "HYBRIDFLOW_USER_LIMIT_USD": "100000",
        "HYBRIDFLOW_REQUESTS_PER_MINUTE": "100000000",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.serving:create_app"]
    command += ["--port", str(port), "--workers", str(workers), "--log-level", "warning"]
    command += ["--timeout-keep-alive", "75"]
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, cwd=TEMPLATE.parents[1], env={**os.environ, **settings}, start_new_session=True
    )
    for _ in range(600):
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=2)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return process
    raise RuntimeError("The server did not start.")


def request_of(name: str) -> tuple[str, dict[str, Any]]:
    """The path and the body of a thing that is timed."""
    path, _, which = name.partition(" ")
    body = dict(BODIES[name])
    if which:
        body["messages"] = MESSAGES
        path = f"/bare{path}" if which == "bare" else path
    return path, body


async def load(client: httpx.AsyncClient, name: str, *, requests: int, clients: int) -> list[float]:
    """Seconds of each of so many requests, by so many clients at once."""
    path, body = request_of(name)
    seconds: list[float] = []

    async def ask() -> None:
        while len(seconds) + clients <= requests:
            since = time.perf_counter()
            said = await client.post(path, json=body)
            seconds.append(time.perf_counter() - since)
            assert said.status_code == 200, said.text

    await asyncio.gather(*(ask() for _ in range(clients)))
    return seconds


async def compare(
    client: httpx.AsyncClient, pid: int, *, rounds: int, requests: int, clients: int
) -> None:
    """Print requests per second, p99 and CPU of the routed and the bare model, turn by turn."""
    print(f"\n{clients} clients at once, {rounds} rounds of {requests} requests each, alternating")
    print(f"{'':24}{'routed':>22}{'bare':>22}{'ratio':>16}")
    for label, names in PAIRS.items():
        rates: dict[str, list[float]] = {name: [] for name in names}
        tails: dict[str, list[float]] = {name: [] for name in names}
        works: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            await load(client, name, requests=clients * 4, clients=clients)  # warm
        for _ in range(rounds):
            for name in names:
                since, before = time.perf_counter(), _cpu_s(pid)
                seconds = await load(client, name, requests=requests, clients=clients)
                works[name].append((_cpu_s(pid) - before) / len(seconds) * 1000)
                rates[name].append(len(seconds) / (time.perf_counter() - since))
                tails[name].append(statistics.quantiles(seconds, n=100)[98] * 1000)
        (routed, bare) = (statistics.median(rates[name]) for name in names)
        (late, soon) = (statistics.median(tails[name]) for name in names)
        (much, little) = (statistics.median(works[name]) for name in names)
        print(f"{label:24}{routed:>16,.0f} req/s{bare:>16,.0f} req/s{routed / bare:>16.2f}")
        print(f"{'  p99':24}{late:>19,.1f} ms{soon:>19,.1f} ms{late / soon:>16.2f}")
        print(f"{'  CPU a request':24}{much:>19,.2f} ms{little:>19,.2f} ms{much / little:>16.2f}")


async def first_tokens(port: int, *, streams: int) -> None:
    """Print how long the first token of a stream is under way, from the model to the client.

    The client is a bare socket: what a client library takes to read an answer is not the server's.
    """
    print(f"\nFirst token, from leaving the model to its arrival at the client, {streams} streams")
    for name, path, body in (
        ("/v1/chat/completions", "/v1/chat/completions", {"model": "hybridflow", "stream": True}),
        ("/stream", "/model/stream", {"input": "What is 12 * 14?"}),
    ):
        asked = {**body, "messages": MESSAGES} if "model" in body else body
        delays = [await _first_token_ms(port, path, asked) for _ in range(streams)]
        cuts = statistics.quantiles(delays, n=100)
        within = sum(one <= 5 for one in delays) / len(delays)
        print(
            f"{name:24}median {cuts[49]:.2f} ms   p99 {cuts[98]:.2f} ms   max {max(delays):.2f} ms"
            f"   within 5 ms {within:.0%}"
        )


async def _first_token_ms(port: int, path: str, body: dict[str, Any]) -> float:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    seen = b""
    while True:
        part = await reader.read(65_536)
        arrived = time.monotonic_ns()
        assert part, seen
        seen += part
        stamp = STAMP.search(seen)
        if stamp:
            writer.close()
            return (arrived - int(stamp[1])) / 1e6


async def memory(client: httpx.AsyncClient, pid: int, *, runs: int) -> None:
    """Print the server's resident memory over many runs, half of them streamed."""
    print(f"\nResident memory of the server over {runs:,} runs (half of them streams, some left)")
    step = runs // 10
    for done in range(0, runs + 1, step):
        print(f"{done:>8,} runs {_rss_mb(pid):>8.1f} MB", flush=True)
        if done == runs:
            break
        for first in range(0, step, 100):
            numbers = range(first, min(first + 100, step))
            await asyncio.gather(*(_one_run(client, number) for number in numbers))


async def _one_run(client: httpx.AsyncClient, number: int) -> None:
    if number % 2:
        path, body = request_of(
            "/v1/chat/completions routed" if number % 4 == 1 else "/model/invoke"
        )
        await client.post(path, json=body)
        return
    path, body = "/model/stream", {"input": "What is 12 * 14?"}
    async with client.stream("POST", path, json=body) as said:
        async for _line in said.aiter_lines():
            if number % 10 == 0:
                break  # it leaves


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--runs", type=int, default=10_000)
    return parser.parse_args()


async def _measure(given: argparse.Namespace, pid: int) -> None:
    url, limits = f"http://127.0.0.1:{given.port}", httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await first_tokens(given.port, streams=given.streams)
        await compare(
            client, pid, rounds=given.rounds, requests=given.requests, clients=given.clients
        )
        if given.runs:
            await memory(client, pid, runs=given.runs)


def main() -> None:
    """Measure all of it."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        process = serve(Path(folder), given.port, workers=1)
        try:
            asyncio.run(_measure(given, process.pid))
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
