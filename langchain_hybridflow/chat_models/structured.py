"""Structured output from whichever model answered, in whichever way it gives it."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Literal, TypeAlias

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import (
    BaseCumulativeTransformOutputParser,
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    PydanticToolsParser,
)
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import override

__all__ = ["Method", "StructuredAnswerParser", "parsed_by", "usual_method"]

Method: TypeAlias = Literal["function_calling", "json_mode", "json_schema"]
"""How a model is made to answer in the form of a schema."""


class StructuredAnswerParser(BaseCumulativeTransformOutputParser[Any]):
    """Read an answer that has the form of a schema, from a tool call or from its text.

    The tiers may differ in how they give structured output, and a provider may choose another way
    than it was asked for; so the answer itself says where to look. Streams give what is there so
    far.

    Args:
        schema_: What the answer must look like; `None` for any JSON.

    Raises:
        OutputParserException: The answer is a refusal, or does not have the form.

    Example:
        >>> parser = StructuredAnswerParser(schema_={"title": "Point", "properties": {"x": {}}})
        >>> parser.invoke(AIMessage('{"x": 1}'))
        {'x': 1}
        >>> call = {"name": "Point", "args": {"x": 2}, "id": "1"}
        >>> parser.invoke(AIMessage("", tool_calls=[call]))
        {'x': 2}
    """

    schema_: Any = None

    @property
    def _is_class(self) -> bool:
        return isinstance(self.schema_, type) and is_basemodel_subclass(self.schema_)

    @property
    @override
    def OutputType(self) -> Any:
        return self.schema_ if self._is_class else dict[str, Any]

    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        message = result[0].message if isinstance(result[0], ChatGeneration) else AIMessage("")
        extras = message.additional_kwargs
        if self._is_class and isinstance(extras.get("parsed"), self.schema_):
            return extras["parsed"]
        if extras.get("refusal"):
            raise OutputParserException(f"The model refused: {extras['refusal']}")
        called = isinstance(message, AIMessage) and (
            message.tool_calls or message.invalid_tool_calls
        )
        if partial and not called and not result[0].text.strip():
            return None
        parser = self._of_tool_call() if called and self.schema_ is not None else self._of_text()
        return parser.parse_result(result, partial=partial)

    @override
    def parse(self, text: str) -> Any:
        return self.parse_result([Generation(text=text)])

    def _of_tool_call(self) -> BaseOutputParser[Any]:
        if self._is_class:
            return PydanticToolsParser(tools=[self.schema_], first_tool_only=True)
        name = convert_to_openai_tool(self.schema_)["function"]["name"]
        return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)

    def _of_text(self) -> BaseOutputParser[Any]:
        if self._is_class:
            return PydanticOutputParser(pydantic_object=self.schema_)
        return JsonOutputParser()


def usual_method(schema: object) -> Method | None:
    """Return the method for a schema if the caller names none; `None`: as the model likes."""
    # No provider's own JSON-schema mode takes the classes of pydantic 1.
    is_v1 = isinstance(schema, type) and issubclass(schema, BaseModelV1)
    return "function_calling" if is_v1 else None


def parsed_by(
    parser: BaseOutputParser[Any],
    model: Runnable[LanguageModelInput, AIMessage],
    *,
    include_raw: bool,
) -> Runnable[LanguageModelInput, Any]:
    """Let a parser read a model's answers; with `include_raw`, beside the answer itself."""
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")
