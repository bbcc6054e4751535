"""Call options in neutral form, and how the model that was chosen would have bound them itself.

Who answers is known only when a call is made, so tools and schemas are kept as the caller gave
them. The chosen model's own `bind_tools` and `with_structured_output` then turn them into what its
provider takes: `tool_choice="any"`, for one, has another name at nearly every provider.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding, RunnableSequence

from langchain_hybridflow.errors import ConfigurationError

__all__ = ["OUTPUT_CAP_FIELDS", "STRUCTURED_OUTPUT", "own_options", "prompted_schemas"]

OUTPUT_CAP_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict")
"""What providers call the longest answer; the first is LangChain's neutral name."""

STRUCTURED_OUTPUT = "structured_output"
"""The call option in which a wish for structured output waits for the model that is chosen."""

_FOR_TRACES = ("ls_structured_output_format", "structured_output_format")


def own_options(
    model: BaseChatModel, options: Mapping[str, Any]
) -> tuple[BaseChatModel, dict[str, Any]]:
    """Turn neutral call options into those that a model's own methods would bind.

    Args:
        model: The model that was chosen.
        options: `tools`, `tool_choice` and all else that LangChain's methods bind; a wish for
            structured output under `STRUCTURED_OUTPUT`. What is unknown here stays as it is.

    Returns:
        The model to call, which is another one if its methods bind a copy of it, and its options.

    Raises:
        NotImplementedError: The model cannot use tools, or give structured output.
        ConfigurationError: The model's own method returns something that is no binding.

    Example:
        >>> from langchain_openai import ChatOpenAI
        >>> model = ChatOpenAI(model="gpt-4.1", api_key="none")
        >>> tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
        >>> own_options(model, {"tools": [tool], "tool_choice": "any"})[1]["tool_choice"]
        'required'
    """
    own = _with_own_cap_name(model, options)
    wish = own.pop(STRUCTURED_OUTPUT, None)
    tools = own.pop("tools", None)
    wished: dict[str, Any] = {}
    if wish is not None:
        how = {name: wish[name] for name in ("method", "strict") if wish[name] is not None}
        model, wished = _binding(model.with_structured_output(wish["schema"], **how))
    bound: dict[str, Any] = {}
    if tools:
        model, bound = _bind_tools(model, tools, own)
        bound["tools"] = [*bound.get("tools", tools), *wished.get("tools", ())]
    return model, {**own, **wished, **bound}


def prompted_schemas(options: Mapping[str, Any]) -> list[Any]:
    """Return what goes into the prompt besides the messages: tools and the answer's schema."""
    schemas = list(options.get("tools") or ())
    wish = options.get(STRUCTURED_OUTPUT)
    schemas += [wish["prompted"]] if wish and wish["prompted"] else []
    if isinstance(options.get("response_format"), Mapping):
        schemas.append(options["response_format"])
    return schemas


def _with_own_cap_name(model: BaseChatModel, options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the neutral `max_tokens` the name that the model knows it by."""
    own = {name: value for name, value in options.items() if name not in _FOR_TRACES}
    if own.get("stream"):  # LangChain's own switch; by now it has been seen to
        del own["stream"]
    neutral, *others = OUTPUT_CAP_FIELDS
    if neutral in own and neutral not in vars(model):
        name = next((other for other in others if other in vars(model)), neutral)
        own[name] = own.pop(neutral)
    return own


def _bind_tools(
    model: BaseChatModel, tools: Sequence[Any], options: dict[str, Any]
) -> tuple[BaseChatModel, dict[str, Any]]:
    """Take out of `options` what the model's `bind_tools` knows, and bind it."""
    known = _parameters(type(model).bind_tools)
    given = {name: options.pop(name) for name in known if name in options}
    options.pop("strict", None)  # it stands in the tools, too: see `neutral_tools`
    return _binding(model.bind_tools(tools, **given))


@lru_cache(maxsize=64)
def _parameters(method: Callable[..., Any]) -> frozenset[str]:
    named = inspect.signature(method).parameters.values()
    return frozenset(
        parameter.name for parameter in named if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ) - {"self", "tools"}


def _binding(runnable: Runnable[Any, Any]) -> tuple[BaseChatModel, dict[str, Any]]:
    """Return the model and the call options inside what a model's own method returned."""
    first = runnable.first if isinstance(runnable, RunnableSequence) else runnable
    if isinstance(first, RunnableBinding) and isinstance(first.bound, BaseChatModel):
        options = {name: value for name, value in first.kwargs.items() if name not in _FOR_TRACES}
        return first.bound, options
    raise ConfigurationError(
        f"{type(first).__name__} is no model with call options bound to it, so the tools or the "
        f"schema of this call cannot be passed on. Bind them to the tier's model yourself."
    )
