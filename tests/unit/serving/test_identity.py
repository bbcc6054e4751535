from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow import Budget
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.serving import Identity, Tokens, hashed

LONG = "a-token-of-16-or-more"


def test_token_is_found_by_its_text_if_only_its_hash_was_written_down() -> None:
    tokens = Tokens({hashed(LONG): {"user": "ada"}})
    found = tokens.find(LONG)
    assert found is not None
    assert found.user == "ada"
    assert tokens.find(hashed(LONG)) is None
    assert LONG not in repr(vars(Tokens({LONG: {"user": "ada"}})))


def test_tokens_are_read_from_text_and_from_a_file(tmp_path: Path) -> None:
    text = f'{{"{LONG}": {{"user": "ada", "limit_usd": "2.50"}}}}'
    path = tmp_path / "tokens.json"
    path.write_text(text)
    for source in (text, str(path)):
        found = Tokens.read(source).find(LONG)
        assert found is not None
        assert found.limit_usd == Decimal("2.50")


@pytest.mark.parametrize(
    "source",
    [
        "{}",
        "{",
        "no-such-file.json",
        '{"short": {"user": "ada"}}',
        f'{{"{LONG}": {{"user": ""}}}}',
        f'{{"{LONG}": {{"user": "a/b"}}}}',
        f'{{"{LONG}": {{"user": "ada", "admin": true}}}}',
        f'{{"{LONG}": {{"user": "ada", "limit_usd": -1}}}}',
        f'{{"{LONG}": "ada"}}',
        f'{{"{LONG}": {{"user": "ada"}}, "{LONG}": {{"user": "bob"}}}}',
        '{"sha256:0123456789abcdef": {"user": "ada"}}',
    ],
)
def test_tokens_that_are_not_right_are_refused_without_being_repeated(source: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Tokens.read(source)
    assert LONG not in str(raised.value)


@given(st.text(max_size=40))
def test_thread_of_one_user_is_never_that_of_another(name: str) -> None:
    try:
        mine = Identity(user="ada").configurable(thread=name)["thread_id"]
    except ConfigurationError:
        return
    assert mine.startswith("default/ada/")
    assert mine.count("/") == 2
    assert Identity(user="ada", tenant="acme").configurable(thread=name)["thread_id"] != mine


def test_each_user_has_one_limit_the_usual_or_their_own() -> None:
    tokens = Tokens(
        {
            f"{LONG}-1": {"user": "ada"},
            f"{LONG}-2": {"user": "bob", "limit_usd": "2.5"},
            f"{LONG}-3": {"user": "bob", "tenant": "acme"},
        }
    )
    budget = Budget(scopes=tokens.scopes(Decimal("0.5"), window="day"))
    limits = {}
    for one in tokens:
        values = budget.scope_values({"configurable": one.configurable(thread="1")})
        scopes = budget.snapshot(values)["scopes"]
        limits[one.key] = [scope["usd"]["limit"] for scope in scopes]
    assert limits == {"default/ada": [0.5], "default/bob": [2.5], "acme/bob": [0.5]}


def test_nobody_spends_anything_without_saying_who_they_are() -> None:
    budget = Budget(scopes=Tokens({LONG: {"user": "ada"}}).scopes(1, window=None))
    with pytest.raises(ConfigurationError):
        budget.scope_values({})
