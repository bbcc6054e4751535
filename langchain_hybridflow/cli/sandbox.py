"""`hybridflow sandbox serve`: the sandbox's models as a server that any OpenAI client can use."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from langchain_hybridflow.cli.display import reports_errors

__all__ = ["sandbox"]

_EXAMPLES = """\
Serving sandbox-edge and sandbox-cloud at {base_url} (Ctrl-C stops it). Try:

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
    """Serve sandbox-edge and sandbox-cloud in OpenAI's format, on 127.0.0.1 only."""
    from langchain_hybridflow.cli.trials import typical
    from langchain_hybridflow.sandbox import generate_problems, sandbox_cloud, sandbox_edge
    from langchain_hybridflow.sandbox.server import create_app
    from langchain_hybridflow.sandbox.server import serve as serve_app

    models = (
        sandbox_edge(seed=seed, time_scale=time_scale),
        sandbox_cloud(seed=seed, time_scale=time_scale),
    )
    app = create_app({model.model_name: model for model in models})
    example = shlex.quote(typical(generate_problems(20)).question)

    def announce(base_url: str) -> None:
        typer.echo(_EXAMPLES.format(base_url=base_url, question=example))

    serve_app(app, port=port, on_ready=announce, max_idle_s=max_idle_s)
