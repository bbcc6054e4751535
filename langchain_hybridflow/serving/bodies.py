"""The JSON bodies of requests, whatever somebody sends instead."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from starlette.requests import Request

from langchain_hybridflow.serving.problems import Refused

__all__ = ["json_object"]

# JSON can write half a character, which no encoding can.
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


async def json_object(request: Request) -> dict[str, Any]:
    """Read the body of a request as a JSON object.

    Raises:
        Refused: It is something else.
    """
    raw = await request.body()
    try:
        value = json.loads(raw, parse_constant=_no_number)
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise Refused(400, "invalid_json", "The body is not text in UTF-8.") from error
    except RecursionError as error:
        raise Refused(400, "invalid_json", "The body is nested too deeply.") from error
    except ValueError as error:
        at = f" (at character {error.pos:,})" if isinstance(error, json.JSONDecodeError) else ""
        raise Refused(400, "invalid_json", f"The body is not JSON{at}.") from error
    if not isinstance(value, dict):
        raise Refused(400, "invalid_json", "The body is not a JSON object.")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
