"""Reads classes and docstrings of this package as they are meant, for the reference."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import griffe
from pydantic import BaseModel
from pydantic.fields import FieldInfo

# In Google's style the section of runnable examples has a plural; ours mostly have one.
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
ARGUMENTS = re.compile(r"^Args:\n(?P<lines>(?:[ ]+.*\n|\n)+)", re.MULTILINE)
ARGUMENT = re.compile(r"^    (\w+):", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Takes `Example:` for a section of examples, and gives pydantic's classes their signature."""

    def on_object(self, *, obj: griffe.Object, loader: Any, **kwargs: Any) -> None:
        """Change the docstring of one object, before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub("Examples:", obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, loader: Any, **kwargs: Any) -> None:
        """Look through all classes, now that their bases are known."""
        for one in classes(pkg):
            documented = arguments(one)
            if documented and "__init__" not in one.all_members and is_model(one):
                one.set_member("__init__", constructor(one, documented))


def classes(place: griffe.Object) -> list[griffe.Class]:
    """Return the classes of a module and of those below it."""
    found: list[griffe.Class] = []
    for member in place.members.values():
        if isinstance(member, griffe.Class):
            found.append(member)
        elif isinstance(member, griffe.Module):
            found += classes(member)
    return found


def arguments(one: griffe.Class) -> list[str]:
    """Return the arguments that the docstring of a class names."""
    text = one.docstring.value if one.docstring else ""
    found = ARGUMENTS.search(text + "\n")
    return ARGUMENT.findall(found["lines"]) if found else []


def runtime(one: griffe.Class) -> Any:
    """Return the class itself."""
    return getattr(import_module(one.module.path), one.name, None)


def is_model(one: griffe.Class) -> bool:
    """Whether pydantic writes the constructor of a class."""
    found = runtime(one)
    return isinstance(found, type) and issubclass(found, BaseModel)


def constructor(one: griffe.Class, documented: list[str]) -> griffe.Function:
    """Write the constructor that pydantic makes, as far as it is documented."""
    fields = runtime(one).model_fields
    known = {field.alias or name: (name, field) for name, field in fields.items()}
    by_keyword = griffe.ParameterKind.keyword_only
    written = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
    for argument in documented:
        name, field = known.get(argument, (argument, None))
        attribute = one.all_members.get(name)
        annotation = getattr(attribute, "annotation", None)
        written.append(
            griffe.Parameter(
                argument, annotation=annotation, kind=by_keyword, default=default(field)
            )
        )
    return griffe.Function("__init__", parameters=griffe.Parameters(*written), parent=one)


def default(field: FieldInfo | None) -> str | None:
    """Return the default of a field as code; nothing if it must be given."""
    if field is None or field.is_required():
        return None
    factory = field.default_factory
    return repr(field.default) if factory is None else f"{getattr(factory, '__name__', '...')}()"
