"""A chat model for pickle: what it was made with, and none of its clients and locks."""

from __future__ import annotations

import pickle

from langchain_core.language_models import BaseChatModel

__all__ = ["Recipe", "can_travel"]


class Recipe:
    """A chat model as its class and arguments, for pickle: clients and locks are left behind.

    What the model was made with travels, keys included: a pickle is as secret as they are.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self._kind = type(model)
        self._arguments = {
            type(model).model_fields[name].alias or name: getattr(model, name)
            for name in model.model_fields_set
            if name in type(model).model_fields and can_travel(getattr(model, name))
        }

    @classmethod
    def of(cls, model: BaseChatModel) -> BaseChatModel | Recipe:
        """Return the model itself if it can be pickled, or else its recipe."""
        return model if can_travel(model) else cls(model)

    def make(self) -> BaseChatModel:
        """Make the model again."""
        return self._kind(**self._arguments)


def can_travel(value: object) -> bool:
    """Say whether a value can be pickled."""
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - classes refuse with errors of many kinds
        return False
    return True
