"""One chat model made of two: each call goes to the edge or the cloud, under one budget."""

from __future__ import annotations

from langchain_hybridflow.chat_models.routed import RoutedChatModel

__all__ = ["RoutedChatModel"]
