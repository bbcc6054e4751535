"""Ask a model how sure it is, and read what it says."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["HOW_SURE", "stated_share"]

HOW_SURE: Final = (
    "How likely is it that your last answer is right? Think of what may be wrong with it. Reply "
    "with one line and nothing else: CONFIDENCE: n, where n is a whole number from 0 (surely "
    "wrong) to 100 (surely right)."
)
"""What a model is asked."""

_THOUGHTS: Final = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_SCALE: Final = re.compile(
    r"(?<![\d.,\-\u2212])[01]\s*(?:-|\u2013|to)\s*1(?:0{1,2})?(?![\d.,]?\d|\s*%)", re.IGNORECASE
)
_NUMBER: Final = (
    r"(?<![\d.,\-\u2212])(?P<number>\d{1,3}(?:[.,]\d{1,6})?)(?![\d])"
    r"\s*(?P<unit>%|per ?cent|(?:/|out of)\s*10{1,2}(?!\d))?"
)
_LABELLED: Final = re.compile(
    r"(?:confiden(?:ce|t)|certain(?:ty)?|probability|likelihood)\b[^\d\n]{0,40}?" + _NUMBER,
    re.IGNORECASE,
)
_ANY: Final = re.compile(_NUMBER, re.IGNORECASE)


def stated_share(text: str) -> float | None:
    """Read how sure a model says it is, 0 to 1; `None` if it does not say so clearly.

    Understands 85, 85 %, 85/100, 8 out of 10 and 0.85. What it thought before it spoke does not
    count, nor does a scale that it repeats, as in "Confidence (0-100): 85". Of several labelled
    numbers the last one counts; without a label there must be just one number, or one with its
    unit.

    Example:
        >>> stated_share("CONFIDENCE: 85"), stated_share("About 0.9."), stated_share("Quite sure.")
        (0.85, 0.9, None)
    """
    said = _SCALE.sub(" ", _THOUGHTS.sub(" ", text))
    labelled = list(_LABELLED.finditer(said))
    if labelled:
        return _share(labelled[-1])
    every = list(_ANY.finditer(said))
    with_unit = [one for one in every if one["unit"]]
    for found in (with_unit, every):
        if len(found) == 1:
            return _share(found[0])
    return None


def _share(found: re.Match[str]) -> float | None:
    written, unit = found["number"].replace(",", "."), found["unit"] or ""
    value = float(written)
    if unit:
        whole = 10.0 if re.sub(r"\s", "", unit).endswith(("/10", "of10")) else 100.0
    else:
        whole = 1.0 if "." in written and value <= 1 else 100.0
    return value / whole if value <= whole else None
