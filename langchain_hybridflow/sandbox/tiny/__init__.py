"""A real language model, small enough to ship: it was trained for the sandbox's puzzles.

It thinks, errs, and says when it had better ask, as `langchain_hybridflow.routing.SelfRouter`
wants it. It runs on onnxruntime, without torch, and needs the extra `tiny`.
"""

from langchain_hybridflow.sandbox.tiny.chat_model import TinyChatModel, sandbox_tiny_edge

__all__ = ["TinyChatModel", "sandbox_tiny_edge"]
