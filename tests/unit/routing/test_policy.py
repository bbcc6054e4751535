"""Policies: what they find, that they fail closed, and that they give nothing away."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import KeepLocal, RouteRequest, Tier, Verdict, ask_policy

EDGE_ONLY = ("edge",)


def asks(prompt: str, **fields: Any) -> RouteRequest:
    return RouteRequest(text="?", prompt=prompt, **fields)


def returns(value: Any) -> Any:
    return lambda _request: value


FOUND = {
    "email": ["mail jane.doe+x@example.org now", "<a@b.co>", "JANE@EXAMPLE.ORG", "ü@müller.de"],
    "iban": [
        "DE89370400440532013000",
        "pay to DE89 3704 0044 0532 0130 00 today",
        "gb29 nwbk 6016 1331 9268 19",
        "IBAN:AT61 1904 3002 3457 3201 from there on",
        "NO93-8601-1117-947",
    ],
    "credit_card": [
        "4111 1111 1111 1111",
        "card 5500-0000-0000-0004.",
        "378282246310005",
        "order 12 4111111111111111 5 apples",
    ],
    "phone": [
        "+49 30 1234567",
        "call (555) 123-4567",
        "555-123-4567",
        "0049 170 1234567",
        "030 / 123 45 67",
    ],
    "us_ssn": ["my number is 078-05-1120."],
    "ip_address": ["host 192.168.0.17 is down", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"],
    "api_key": [
        "sk-proj-abcdefghij0123",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
}
HARMLESS = {
    "email": ["meet @ noon", "@decorator", "user@host", "a @ b.c"],
    "iban": ["DE89370400440532013001", "AB12 is a room", "no DE89 3704 here"],
    "credit_card": ["4111111111111112", "1234567890123456789", "3.14159265358979"],
    "phone": ["12 + 45 = 57", "in 2024-05-17 there were 120 apples", "1,234,567 people"],
    "us_ssn": ["000-12-3456", "1078-05-11200", "2024-05-17"],
    "ip_address": ["version 1.2.3", "999.1.1.1", "12:30:45"],
    "api_key": ["sk-1", "a risk-free, well-known task"],
}


@pytest.mark.parametrize(
    ("preset", "text"), [(name, text) for name, texts in FOUND.items() for text in texts]
)
def test_preset_finds_the_usual_ways_of_writing(preset: Any, text: str) -> None:
    assert "cloud" not in KeepLocal(presets=[preset])(asks(text))


@pytest.mark.parametrize(
    ("preset", "text"), [(name, text) for name, texts in HARMLESS.items() for text in texts]
)
def test_preset_lets_harmless_text_pass(preset: Any, text: str) -> None:
    assert "cloud" in KeepLocal(presets=[preset])(asks(text))


@pytest.mark.parametrize(
    "text", ["A shop has 120 apples, sold 3/4 of them on 5 May 2024 at 12:30 for $1,299.95.", ""]
)
def test_all_presets_together_let_an_ordinary_question_pass(text: str) -> None:
    assert "cloud" in KeepLocal()(asks(text))


@pytest.mark.parametrize(
    "disguised",
    ["jane\uff20example.org", "ja\u200bne@\u200bexample.org", "4111\u00a01111\u00a01111\u00a01111"],
)
def test_typographic_disguises_hide_nothing(disguised: str) -> None:
    assert "cloud" not in KeepLocal()(asks(disguised))


@given(st.text(), st.text())
def test_address_is_found_wherever_it_stands(before: str, after: str) -> None:
    assert "cloud" not in KeepLocal()(asks(f"{before} jane@example.org {after}"))


@given(st.text(st.sampled_from("0123456789 -."), max_size=60))
def test_card_is_found_wherever_it_stands(before: str) -> None:
    assert "cloud" not in KeepLocal(presets=["credit_card"])(asks(f"{before}x4111111111111111 end"))


@given(st.text(max_size=300))
def test_any_text_can_be_searched(text: str) -> None:
    assert "edge" in KeepLocal()(asks(text))


@pytest.mark.parametrize(
    "filler", ["a", "1", "1 ", "@", "a@", "a.", "0 ", "DE89 ", "4-", "+(", "eyJa", "-----BEGIN "]
)
def test_search_takes_linear_time(filler: str) -> None:
    policy = KeepLocal()

    def cpu_s(size: int) -> float:
        request = asks(filler * (size // len(filler)))
        start = time.process_time()
        policy(request)
        return time.process_time() - start

    short = min(cpu_s(20_000) for _ in range(3))
    assert cpu_s(320_000) < 100 * short + 0.1  # 16 times as long; quadratic is 256


@pytest.mark.parametrize("patterns", [{"a name": "Zeus"}, ["Zeus"]])
def test_own_pattern_is_found_and_never_quoted(patterns: Any) -> None:
    policy = KeepLocal(patterns=patterns, presets=[])
    verdict = policy(asks("Where does Zeus live?"))
    assert tuple(verdict) == EDGE_ONLY
    assert "Zeus" not in verdict.reason + repr(policy)


def test_attachments_stay_local_unless_allowed() -> None:
    assert tuple(KeepLocal()(asks("x", attachments=True))) == EDGE_ONLY
    assert "cloud" in KeepLocal(allow_attachments=True)(asks("x", attachments=True))


@pytest.mark.parametrize(
    "fields",
    [
        {"presets": ["no_such"]},
        {"presets": "email"},
        {"patterns": "x"},
        {"patterns": ["("]},
        {"patterns": [3]},
    ],
)
def test_impossible_settings_are_refused(fields: Any) -> None:
    with pytest.raises(ConfigurationError):
        KeepLocal(**fields)


def test_policy_can_be_pickled() -> None:
    policy = pickle.loads(pickle.dumps(KeepLocal(patterns={"a name": "Zeus"})))
    assert tuple(policy(asks("Zeus"))) == EDGE_ONLY


# --------------------------------------------------------------------------------- failing closed


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        "edge",
        "cloud",
        {"cloud": True},
        ["Cloud"],
        [["cloud"]],
        ["cloud", 1],
        iter(["cloud"]),
        Verdict(("nowhere",)),
    ],
)  # type: ignore[arg-type]
def test_nonsense_allows_only_the_edge(value: Any) -> None:
    assert tuple(ask_policy(returns(value), asks("x"))) == EDGE_ONLY


def test_policy_that_raises_allows_only_the_edge_and_its_words_are_not_repeated() -> None:
    def broken(request: RouteRequest) -> list[Tier]:
        raise ValueError(request.prompt)

    verdict = ask_policy(broken, asks("CANARY"))
    assert tuple(verdict) == EDGE_ONLY
    assert "ValueError" in verdict.reason
    assert "CANARY" not in verdict.reason


def test_async_policy_allows_only_the_edge() -> None:
    async def policy(request: RouteRequest) -> list[Tier]:
        return ["cloud"]

    assert tuple(ask_policy(policy, asks("x"))) == EDGE_ONLY  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_", "allowed"),
    [
        ({"cloud", "edge"}, ("edge", "cloud")),
        (["cloud"], ("cloud",)),
        ((), ()),
        (frozenset({"edge"}), EDGE_ONLY),
    ],
)
def test_plain_collections_are_taken_as_they_are(given_: Any, allowed: tuple[Tier, ...]) -> None:
    assert tuple(ask_policy(returns(given_), asks("x"))) == allowed


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (None, EDGE_ONLY),
        (returns(["edge", "cloud"]), EDGE_ONLY),
        (returns(["cloud"]), ()),
        (returns([]), ()),
    ],
)
def test_what_builds_on_a_kept_answer_never_goes_to_the_cloud(
    policy: Any, allowed: tuple[Tier, ...]
) -> None:
    assert tuple(ask_policy(policy, asks("x", kept_local=True))) == allowed
