"""Embeddings of the small world of questions, scripted to work, to fail and to lie."""

from __future__ import annotations

import threading

from langchain_core.embeddings import Embeddings


class KindEmbeddings(Embeddings):
    """Knows sums, proofs and riddles apart, and little else."""

    model = "kinds"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.down = False
        self.dimension = 4

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        if self.down:
            raise ConnectionError("nobody there")
        return [
            [1.0, float("Prove" in text), float("hides" in text), *[0.5] * (self.dimension - 3)]
            for text in texts
        ]

    def embed_query(self, text: str) -> list[float]:
        (found,) = self.embed_documents([text])
        return found


class SilentEmbeddings(KindEmbeddings):
    """Never answers, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.let_go.wait(timeout=30)
        return super().embed_documents(texts)


class LyingEmbeddings(KindEmbeddings):
    """Answers with whatever it is told to."""

    def __init__(self, answer: list[list[float]]) -> None:
        super().__init__()
        self.answer = answer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.answer
