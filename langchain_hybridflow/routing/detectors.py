"""Ready detectors of text that should stay in the house.

They are plain rules, and every one of them takes time linear in the text. They find the usual
ways of writing; no rule finds all, and none of them reads images. Where they err they rather find
too much: a call that stays on the edge without need does no harm.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = ["DETECTORS", "Preset", "readings"]

Preset: TypeAlias = Literal[
    "api_key", "credit_card", "email", "iban", "ip_address", "phone", "us_ssn"
]
"""Name of a ready detector."""

# Bounded repetitions, and none that starts with a run of what it goes on with: that is what makes
# searching linear. Of an address only what stands around the @ is looked at, for the same reason.
_EMAIL = re.compile(r"(?<=[\w.%+'-])@[\w-]{1,63}\.\w")
_IBAN = re.compile(
    r"(?<![A-Z0-9])[A-Z]{2}[0-9]{2}"
    r"(?:[A-Z0-9]{11,30}|(?:[ .-][A-Z0-9]{4}){2,7}(?:[ .-][A-Z0-9]{1,3})?)(?![A-Z0-9])",
    re.IGNORECASE | re.ASCII,
)
_CARD = re.compile(r"(?<![0-9])(?=([2-6](?:[ .-]?[0-9]){12,18}))")
_PHONE = re.compile(
    r"(?<![\w+])(?:\+|00)[1-9](?:[ ()./-]{0,3}[0-9]){7,14}(?![0-9])"  # +49 30 1234567
    r"|(?<![\w.])(?:\([0-9]{3}\)[ .-]?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}(?!\w)"  # (555) 123-4567
    r"|(?<![\w.])\(?0[0-9]{2,4}\)?[ /-]{1,3}[0-9]{2,4}(?:[ /-]?[0-9]{1,4}){1,3}(?!\w)"  # 030 1234
)
_US_SSN = re.compile(r"(?<![\w-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])")
_IP_ADDRESS = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}"
    r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?!\w|\.[0-9])"
    r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}(?![\w:])"
)
_API_KEY = re.compile(
    r"(?<![\w-])(?:sk|pk|rk|gsk|hf|xai|nvapi|ghp|gho|xoxb|xoxp|glpat)[-_][\w-]{10}"
    r"|(?<!\w)AKIA[0-9A-Z]{16}|(?<!\w)AIza[\w-]{20}|(?<!\w)eyJ[\w-]{10,2000}\.eyJ"
    r"|-----BEGIN [A-Z ]{0,20}PRIVATE KEY"
)
_SEPARATORS = re.compile(r"[ .-]")
# Zero-width characters and soft hyphens: invisible, and enough to hide a match.
_INVISIBLE = dict.fromkeys((0x00AD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))


def readings(text: str) -> tuple[str, ...]:
    r"""Return the ways in which a text is read: as it is, and without typographic disguises.

    Example:
        >>> readings("jane\N{ZERO WIDTH SPACE}@example.org")[1]
        'jane@example.org'
    """
    if text.isascii():
        return (text,)
    plain = unicodedata.normalize("NFKC", text).translate(_INVISIBLE)
    return (text,) if plain == text else (text, plain)


def _has_iban(text: str) -> bool:
    return any(_is_iban(match[0]) for match in _IBAN.finditer(text))


def _is_iban(found: str) -> bool:
    """Check the checksum (ISO 7064, mod 97); words after a spaced one may have been taken in."""
    groups = _SEPARATORS.split(found)
    return any(_mod_97("".join(groups[:end])) for end in range(len(groups), 0, -1))


def _mod_97(iban: str) -> bool:
    if not 15 <= len(iban) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def _has_card(text: str) -> bool:
    # Matches overlap: a number that stands before a card's may look like a part of it.
    return any(
        _is_card(match[1], text[match.end(1) : match.end(1) + 1]) for match in _CARD.finditer(text)
    )


def _is_card(found: str, following: str) -> bool:
    """Check the check digit of every whole number of 13 to 19 digits at the start."""
    digits: list[int] = []
    for char, after in zip(found, found[1:] + following + " ", strict=False):
        if char.isdecimal():
            digits.append(int(char))
        if len(digits) >= 13 and not after.isdecimal() and _luhn(digits):
            return True
    return False


def _luhn(digits: list[int]) -> bool:
    """Check the last digit (ISO/IEC 7812)."""
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (doubled + sum(digits[-1::-2])) % 10 == 0


def _has(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.search(text) is not None


DETECTORS: Mapping[Preset, tuple[str, Callable[[str], bool]]] = MappingProxyType(
    {
        "api_key": ("an API key", _has(_API_KEY)),
        "credit_card": ("a credit card number", _has_card),
        "email": ("an e-mail address", _has(_EMAIL)),
        "iban": ("an IBAN", _has_iban),
        "ip_address": ("an IP address", _has(_IP_ADDRESS)),
        "phone": ("a phone number", _has(_PHONE)),
        "us_ssn": ("a US social security number", _has(_US_SSN)),
    }
)
"""What each detector finds, in words, and how."""
