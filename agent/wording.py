"""When two spellings say the same: words without case and plural s, numbers as numbers. Never shown."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

from colsearcher.indexes.stop_words import STOP_WORDS

# Beside the function words, those that only ask: «tell me», «according to page 3 of the document».
STOPWORDS = STOP_WORDS | frozenset(
    "s t yes please tell give name say says said according document documents page pages".split()
)

_WORD = re.compile(r"[^\W_]+(?:[-./,'’_][^\W_]+)*")
_PIECE = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|[^\W\d_]+")


def tokens(text: str) -> list[str]:
    """Words and numbers in order: lower case, no plural s, numbers as numbers.

    >>> tokens("Valves K-40: 1,577.0 m³ at 10mm")
    ['valve', 'k', '40', '1577', 'm', '3', 'at', '10', 'mm']
    """
    return [_plain(piece) for piece in _PIECE.findall(unicodedata.normalize("NFKC", text).casefold())]


def terms(text: str) -> list[str]:
    """The words that carry meaning, in order. A code of letters and digits is one term.

    >>> terms("Which valve replaces part K-40 in 2025?")
    ['valve', 'replace', 'part', 'k40', '2025']
    """
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        pieces = [_plain(piece) for piece in _PIECE.findall(word)]
        is_code = any(c.isdecimal() for c in word) and any(c.isalpha() for c in word)
        found += ["".join(pieces)] if is_code else [piece for piece in pieces if piece not in STOPWORDS]
    return found


def is_number(token: str) -> bool:
    return token[0].isdecimal()


def _plain(piece: str) -> str:
    if piece[0].isdecimal():
        number = Decimal(piece.replace(",", "")).normalize()
        return f"{number:f}"
    if len(piece) > 3 and piece.endswith("s") and not piece.endswith(("ss", "us", "is")):
        return piece[:-1]
    return piece
