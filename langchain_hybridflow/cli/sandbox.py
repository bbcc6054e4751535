"""`hybridflow sandbox serve`: the sandbox's models as a server that any OpenAI client can use."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_hybridflow.cli.display import reports_errors
from langchain_hybridflow.errors import MissingExtraError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["sandbox"]

_EXAMPLES = """\
Serving {names} at {base_url} (Ctrl-C stops it). Try:

hybridflow ask {question} \\
  --edge '{base_url}#sandbox-edge' \\
  --cloud '{base_url}#sandbox-cloud' --limit-usd 0.05

curl {base_url}/chat/completions -H 'content-type: application/json' \\
  -d '{{"model": "sandbox-cloud", "messages": [{{"role": "user", "content": "6 * 7?"}}]}}'"""

sandbox = typer.Typer(
    help="The offline models of the demo, for other programs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@sandbox.callback()
def _group() -> None:
    """Keep `serve` a command of its own: a group of one command would become that command."""


@sandbox.command()
@reports_errors
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8765,
    time_scale: Annotated[
        float, typer.Option(min=0, help="1 is real time, 0 does not wait.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Other seeds are wrong in other places.")] = 0,
    max_idle_s: Annotated[
        float | None, typer.Option(help="Stop after so many seconds without a request.")
    ] = None,
) -> None:
    """Serve the sandbox's models in OpenAI's format, on 127.0.0.1 only.

    They are sandbox-edge and sandbox-cloud, which are simulated, and sandbox-tiny, a real small
    language model, if the extra `tiny` is installed.
    """
    from langchain_hybridflow.cli.trials import typical
    from langchain_hybridflow.sandbox import generate_problems, sandbox_cloud, sandbox_edge
    from langchain_hybridflow.sandbox.server import create_app
    from langchain_hybridflow.sandbox.server import serve as serve_app
    from langchain_hybridflow.sandbox.tiny import sandbox_tiny_edge

    models = [make(seed=seed, time_scale=time_scale) for make in (sandbox_edge, sandbox_cloud)]
    served: dict[str, BaseChatModel] = {model.model_name: model for model in models}
    with suppress(MissingExtraError):
        tiny = sandbox_tiny_edge(seed=seed, time_scale=time_scale)
        served[tiny.model_name] = tiny
    app = create_app(served)
    *names, last = served
    example = shlex.quote(typical(generate_problems(20)).question)

    def announce(base_url: str) -> None:
        said = f"{', '.join(names)} and {last}"
        typer.echo(_EXAMPLES.format(names=said, base_url=base_url, question=example))

    serve_app(app, port=port, on_ready=announce, max_idle_s=max_idle_s)
