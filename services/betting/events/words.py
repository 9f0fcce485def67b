"""How texts are folded for searching, and a search text becomes patterns. Pure.

Folding happens here and not in Postgres, whose lower() knows only the letters of the database's locale.
"""

from __future__ import annotations

import unicodedata

from betting.runtime.errors import invalid_argument

TEXT_CHARACTERS_MIN = 2
TEXT_CHARACTERS_MAX = 100


def folded(text: str) -> str:
    """Case and accents gone, single spaces: "Köln  FC" and "KOLN fc" fold to the same."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return " ".join(plain.casefold().split())


def patterns(text: str) -> list[str]:
    """One LIKE pattern per word of a search text; all must match. Raises INVALID_ARGUMENT SEARCH_TEXT_INVALID."""
    stripped = text.strip()
    if not TEXT_CHARACTERS_MIN <= len(stripped) <= TEXT_CHARACTERS_MAX:
        raise invalid_argument(
            "SEARCH_TEXT_INVALID",
            f"text has {len(stripped)} characters: give {TEXT_CHARACTERS_MIN} to {TEXT_CHARACTERS_MAX}",
        )
    if "\x00" in stripped or not folded(stripped):
        raise invalid_argument("SEARCH_TEXT_INVALID", "text has nothing in it to search for: give letters or digits")
    return [f"%{_escaped(word)}%" for word in folded(stripped).split()]


def _escaped(word: str) -> str:
    """LIKE's wildcards and its escape character stand for themselves."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
