"""What the environment says. Everything has a default that works on your own machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict

from langchain_hybridflow.serving import Tokens


class Settings(BaseModel):
    """The server's settings; each is set by `HYBRIDFLOW_` and its name in capitals."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    # Models: openai:NAME, ollama:NAME, http://HOST:PORT/v1#NAME, or sandbox (offline, no key).
    edge: str = "sandbox"
    cloud: str = "sandbox"
    sandbox_time_scale: float = 1.0  # 0: the sandbox does not wait
    prices: str = ""  # MODEL=IN,OUT in USD per million tokens; several: separated by blanks

    # Money: of everybody together, and of each user, who may have a limit of their own.
    limit_usd: Decimal = Decimal(5)
    user_limit_usd: Decimal = Decimal("0.50")
    max_cloud_share: Decimal | None = None  # of all answered prompts, in 0..1; None: no cap
    window: str = "day"
    on_exhausted: Literal["edge", "raise"] = "edge"
    store: str = "sqlite:///budget.db"  # or redis://..., postgresql://...; shared by all workers

    # Who may ask: JSON, or the path of a file of it. Empty: this machine only.
    tokens: str = ""
    allowed_hosts: str = ""  # names in the Host header, separated by commas
    cors_origins: str = ""  # pages elsewhere that may ask from a browser, separated by commas
    requests_per_minute: int = 120
    rate_storage: str = "memory://"  # redis://... counts over all workers
    max_body_bytes: int = 1_000_000

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings that are set."""
        names = {name: f"HYBRIDFLOW_{name.upper()}" for name in cls.model_fields}
        return cls(**{name: environ[var] for name, var in names.items() if environ.get(var)})

    def read_tokens(self) -> Tokens | None:
        """Return the tokens, or `None` if there are none and only this machine may ask."""
        return Tokens.read(self.tokens) if self.tokens else None

    def hosts(self) -> list[str]:
        """Return the host names that are answered: no page elsewhere shall pass as one of ours."""
        usual = "*" if self.tokens else "127.0.0.1,localhost,[::1]"
        return _listed(self.allowed_hosts or usual)

    def origins(self) -> list[str]:
        """Return whose pages may ask from a browser."""
        return _listed(self.cors_origins)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
