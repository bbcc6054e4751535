"""Chat models by name, as they are given on the command line.

```
openai:gpt-4.1                        OpenAI; the key is in OPENAI_API_KEY
ollama:llama3.2:3b                    Ollama on this machine
http://localhost:8000/v1#my-model     any OpenAI-compatible server; its key in HYBRIDFLOW_API_KEY
sandbox                               the offline sandbox's own model for the place it is used in
sandbox:tiny                          a real small language model, which knows a few puzzles
anthropic:claude-...                  any provider that the package `langchain` knows
```
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import SplitResult, urlsplit

from langchain_hybridflow.errors import ConfigurationError, ModelSpecError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from langchain_hybridflow.budget import Price

__all__ = ["FORMS", "ModelSpec", "read_prices"]

FORMS: Final = (
    "openai:NAME, ollama:NAME, PROVIDER:NAME, http://HOST:PORT/v1#NAME for any "
    "OpenAI-compatible server, sandbox, or sandbox:tiny"
)

_OLLAMA_URL: Final = "http://localhost:11434/v1"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as it is named on the command line.

    Args:
        provider: `"openai"`, `"ollama"`, `"http"`, `"sandbox"`, or another provider's name.
        name: The model's name with its provider.
        base_url: Where an OpenAI-compatible server is; empty for all others.

    Example:
        >>> ModelSpec.parse("ollama:llama3.2:3b").name
        'llama3.2:3b'
        >>> ModelSpec.parse("http://localhost:8000/v1#qwen").base_url
        'http://localhost:8000/v1'
    """

    provider: str
    name: str
    base_url: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Read a model's name.

        Raises:
            ModelSpecError: It has none of the known forms.
        """
        text = text.strip()
        if text == "sandbox":
            return cls("sandbox", "sandbox")
        if text.lower().startswith(("http://", "https://")):
            return cls._parse_url(text)
        provider, colon, name = text.partition(":")
        if not (colon and name and provider.replace("_", "").replace("-", "").isalnum()):
            raise ModelSpecError(f"{text!r} does not name a model. Write {FORMS}.")
        if provider == "sandbox" and name != "tiny":
            raise ModelSpecError(
                f"The sandbox has no model {name!r}. Write sandbox or sandbox:tiny."
            )
        if provider == "ollama":
            return cls("ollama", name, _OLLAMA_URL)
        return cls(provider, name)

    @classmethod
    def _parse_url(cls, text: str) -> ModelSpec:
        # The URL itself is not repeated in errors: it may hold a password.
        base_url, _, name = text.partition("#")
        try:
            url = urlsplit(base_url)
            usable = bool(url.hostname) and (url.port is None or url.port > 0)
        except ValueError:
            usable, url = False, SplitResult("", "", "", "", "")
        if not usable:
            raise ModelSpecError(
                "The model's URL cannot be read. Write it as http://HOST:PORT/v1#NAME."
            )
        if url.username or url.password or url.query:
            raise ModelSpecError(
                "A model's URL must not hold a user, a password or a query: it is shown in "
                "process lists and logs. Put the key into HYBRIDFLOW_API_KEY."
            )
        if not name:
            raise ModelSpecError(
                f"The URL does not say which model of the server is meant. Append #NAME: "
                f"{base_url}#NAME. GET {base_url.rstrip('/')}/models lists the names."
            )
        return cls("http", name, base_url.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether the model runs on this machine, where nobody bills it."""
        on_loopback = urlsplit(self.base_url).hostname in _LOOPBACK
        return self.provider == "sandbox" or on_loopback

    def build(
        self,
        place: Literal["edge", "cloud"],
        *,
        timeout_s: float = 120.0,
        time_scale: float = 1.0,
        seed: int = 0,
        environ: Mapping[str, str] = os.environ,
    ) -> BaseChatModel:
        """Make the chat model. No network is used before its first call.

        Args:
            place: Which of the sandbox's two models `sandbox` is.
            timeout_s: Longest silence of a server, in seconds.
            time_scale: Speed of the sandbox's models; 1 is real time, 0 does not wait.
            seed: Of the sandbox's models.
            environ: Where the keys are.

        Raises:
            ModelSpecError: A key or a package is missing, or the provider is unknown.
            MissingExtraError: The extra `tiny` is not installed.
        """
        if self.provider == "sandbox":
            return self._build_sandbox(place, time_scale=time_scale, seed=seed)
        if self.provider in ("openai", "ollama", "http"):
            return self._build_openai(environ, timeout_s)
        return self._build_by_provider(timeout_s)

    def _build_sandbox(self, place: str, *, time_scale: float, seed: int) -> BaseChatModel:
        from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge

        if self.name == "tiny":
            from langchain_hybridflow.sandbox.tiny import sandbox_tiny_edge

            return sandbox_tiny_edge(seed=seed, time_scale=time_scale)
        make = sandbox_edge if place == "edge" else sandbox_cloud
        return make(seed=seed, time_scale=time_scale)

    def _build_openai(self, environ: Mapping[str, str], timeout_s: float) -> BaseChatModel:
        from langchain_openai import ChatOpenAI
        from pydantic import SecretStr

        key = self.key(environ)
        if not key:
            raise ModelSpecError(
                f"Model openai:{self.name} needs a key. Put it into the environment variable "
                f"OPENAI_API_KEY."
            )
        return ChatOpenAI(
            model=self.name,
            base_url=self.base_url or None,
            api_key=SecretStr(key),
            timeout=timeout_s,
            max_retries=0,  # hidden retries would be calls that no budget knows of
            stream_usage=True,
        )

    def key(self, environ: Mapping[str, str]) -> str:
        """Find the key; OpenAI's own goes to other servers only where nobody can listen."""
        openai_key = environ.get("OPENAI_API_KEY", "").strip()
        if self.provider == "openai":
            return openai_key
        if self.provider == "ollama":
            return "none"
        is_safe = self.base_url.lower().startswith("https://") or self.is_local
        own_key = environ.get("HYBRIDFLOW_API_KEY", "").strip()
        return own_key or (openai_key if is_safe else "") or "none"

    def _build_by_provider(self, timeout_s: float) -> BaseChatModel:
        if find_spec("langchain") is None:
            raise ModelSpecError(
                f"Provider {self.provider!r} needs the package langchain and the provider's own: "
                f"pip install langchain langchain-{self.provider.replace('_', '-')}. Without "
                f"them a model is {FORMS}."
            )
        init_chat_model = import_module("langchain.chat_models").init_chat_model
        try:
            model: BaseChatModel = init_chat_model(
                self.name, model_provider=self.provider, max_retries=0, timeout=timeout_s
            )
        except (ImportError, TypeError, ValueError) as error:
            from langchain_hybridflow.calls import describe_error

            raise ModelSpecError(
                f"Model {self.provider}:{self.name} cannot be built: {describe_error(error)}"
            ) from error
        return model


def read_prices(texts: Iterable[str]) -> dict[str, Price]:
    """Read prices given as `MODEL=IN,OUT`, in USD per million tokens.

    MODEL is a model's name, with or without what stands before it in a `ModelSpec`.

    Raises:
        ConfigurationError: A price cannot be read.

    Example:
        >>> read_prices(["http://localhost:8000/v1#qwen=0.2,0.8"])["qwen"].output_usd_per_mtok
        Decimal('0.8')
    """
    from langchain_hybridflow.budget import Price

    prices: dict[str, Price] = {}
    for text in texts:
        model, equals, amounts = text.rpartition("=")
        parts = amounts.split(",")
        if not (equals and model.strip() and len(parts) == 2):
            raise ConfigurationError(
                f"A price is MODEL=IN,OUT in USD per million tokens, such as my-model=0.5,1.5; "
                f"got {text!r}."
            )
        name = model.strip()
        if "#" in name or name.startswith(("openai:", "ollama:")):
            name = ModelSpec.parse(name).name
        prices[name] = Price(*parts)
    return prices
