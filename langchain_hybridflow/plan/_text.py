"""Text as XML has it: which characters it can carry, and how references are written and read."""

from __future__ import annotations

from typing import Final

__all__ = ["clean", "escape_attribute", "normalise_blanks", "unescape"]

_PREDEFINED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_REPLACEMENT: Final = "\ufffd"
_ATTRIBUTE_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
    # Literal ones would be read back as blanks.
    | {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
_LONGEST_REFERENCE: Final = len("#x0010FFFF")


def clean(text: str) -> str:
    """Replace what XML 1.0 cannot carry (control characters, lone surrogates) by U+FFFD."""
    return "".join(char if _is_legal(ord(char)) else _REPLACEMENT for char in text)


def escape_attribute(text: str) -> str:
    """Write text so that an XML parser reads it back unchanged from a double-quoted attribute."""
    return clean(text).translate(_ATTRIBUTE_ESCAPES)


def normalise_blanks(value: str) -> str:
    """Turn literal line ends and tabs of an attribute into blanks, as XML 1.0 (3.3.3) says."""
    return value.replace("\r\n", " ").replace("\r", " ").replace("\n", " ").replace("\t", " ")


def unescape(text: str) -> str:
    """Resolve character references and the five predefined entities.

    Everything else after a `&` stays as it is written: models write "AT&T", and an entity that
    somebody defined is never expanded.
    """
    head, *rest = text.split("&")
    parts = [head]
    for part in rest:
        name, semicolon, tail = part.partition(";")
        char = _resolve(name) if semicolon else None
        parts.append(f"&{part}" if char is None else char + tail)
    return "".join(parts)


def _resolve(name: str) -> str | None:
    if not name.startswith("#"):
        return _PREDEFINED.get(name)
    if len(name) > _LONGEST_REFERENCE or not name.isascii():
        return None
    digits, base = (name[2:], 16) if name.startswith("#x") else (name[1:], 10)
    if not digits.isalnum():
        return None
    try:
        code = int(digits, base)
    except ValueError:
        return None
    return chr(code) if _is_legal(code) else None


def _is_legal(code: int) -> bool:
    """Whether XML 1.0 (2.2, Char) allows the character."""
    if code < 0x20:
        return code in {0x09, 0x0A, 0x0D}
    return code < 0xD800 or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
