"""The verifier that compares as mathematics does."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_hybridflow.posttrain import verifier_of
from langchain_hybridflow.posttrain.verifying import rule_on
from langchain_hybridflow.profiling.records import Item


@pytest.mark.parametrize(
    ("reference", "answer", "status"),
    [
        (r"\frac{1}{2}", "0.5", "correct"),
        ("1/2", r"$\frac{2}{4}$", "correct"),
        (r"x^2 + 2x + 1", r"$(x+1)^2$", "correct"),
        ("42", r"So it is \boxed{42}.", "correct"),
        (["41", "42"], "42", "correct"),
        (42, "42", "correct"),
        ("42", "41", "wrong"),
        ("42", "I do not know", "wrong"),
        (None, "42", "unverified"),
        ("", "42", "unverified"),
    ],
)
def test_mathematics_rules_by_value(reference: Any, answer: str, status: str) -> None:
    item = Item(id="1", question="?", reference=reference)
    assert verifier_of("math").verify(item, answer).status == status


def test_mathematics_is_unverified_when_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    import math_verify
    from math_verify.errors import TimeoutException

    def too_long(*_: Any, **__: Any) -> bool:
        raise TimeoutException

    monkeypatch.setattr(math_verify, "verify", too_long)
    item = Item(id="1", question="?", reference="42")
    assert verifier_of("math").verify(item, "42").status == "unverified"


def test_mathematics_is_unverified_when_reading_it_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from math_verify import parser
    from math_verify.errors import TimeoutException

    read = parser.extract_target_from_pred

    def too_long(text: str, *more: Any, **options: Any) -> Any:
        if "41" in text:
            raise TimeoutException
        return read(text, *more, **options)

    monkeypatch.setattr(parser, "extract_target_from_pred", too_long)
    item = Item(id="1", question="?", reference="42")
    assert rule_on(verifier_of("math"), [(item, "41")])[0].status == "unverified"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mathematics_is_compared_in_other_threads_too() -> None:
    items = [Item(id=str(i), question="?", reference=i) for i in range(4)]
    found = rule_on(verifier_of("math"), [(one, "2") for one in items], threads=2)
    assert [one.status for one in found] == ["wrong", "wrong", "correct", "wrong"]
