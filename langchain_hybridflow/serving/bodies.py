"""The JSON bodies of requests, whatever somebody sends instead."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any, Final, NoReturn

from starlette.requests import Request

from langchain_hybridflow.serving.problems import Refused

__all__ = ["BODY_S", "MAX_DEPTH", "json_object"]

BODY_S: Final = 30.0
"""Seconds that a client has for sending its body."""

MAX_DEPTH: Final = 100
"""How deep a body may be nested: what reads it later calls itself for each level."""

# Beyond it neither the JSON of LangServe nor a database can write a number down.
_INTEGERS: Final = range(-(2**63), 2**63)

# JSON can write half a character, which no encoding can.
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


async def json_object(request: Request, *, within_s: float = BODY_S) -> dict[str, Any]:
    """Read the body of a request as a JSON object.

    Args:
        request: The request.
        within_s: Seconds that its body has for coming.

    Raises:
        Refused: It is something else, or it does not come.
    """
    try:
        async with asyncio.timeout(within_s):
            raw = await request.body()
    except TimeoutError as error:
        message = f"The body did not come within {within_s:g} s."
        raise Refused(408, "request_timeout", message) from error
    value = _parsed(raw)
    if not isinstance(value, dict):
        raise Refused(400, "invalid_json", "The body is not a JSON object.")
    if _is_deep(value):
        raise _too_deep()
    return value


def _parsed(raw: bytes) -> object:
    try:
        value: object = json.loads(
            raw, parse_constant=_no_number, parse_int=_integer, parse_float=_float
        )
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise Refused(400, "invalid_json", "The body is not text in UTF-8.") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        at = f" (at character {error.pos:,})" if isinstance(error, json.JSONDecodeError) else ""
        raise Refused(400, "invalid_json", f"The body is not JSON{at}.") from error
    return value


def _is_deep(value: object) -> bool:
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined] # a list
            if isinstance(inner, dict | list)
        ]
        if not layer:
            return False
    return True


def _too_deep() -> Refused:
    return Refused(400, "invalid_json", f"The body is nested deeper than {MAX_DEPTH} levels.")


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _integer(digits: str) -> int:
    value = int(digits)
    if value not in _INTEGERS:
        raise _too_large()
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _too_large()
    return value


def _too_large() -> Refused:
    return Refused(400, "invalid_json", "A number in the body is too large.")
