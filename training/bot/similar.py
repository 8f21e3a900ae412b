"""When two texts are the same post to a reader."""

from __future__ import annotations

import re
import unicodedata

from training.bot.links import links

_SHINGLE = 4


def normalised(text: str) -> str:
    """`text` as it is compared: compatibility form, no case, accents, links or punctuation, single spaces."""
    parts, at = [], 0
    for link in links(text):
        parts.append(text[at : link.start])
        at = link.end
    plain = unicodedata.normalize("NFKD", "".join([*parts, text[at:]]).casefold())
    kept = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return " ".join(re.findall(r"\w+", kept)) or " ".join(text.split())


def similarity(first: str, second: str) -> float:
    """Share of the four-letter pieces of two normalised texts that they have in common, 0 to 1 (Jaccard)."""
    if first == second:
        return 1.0
    ours, theirs = _pieces(first), _pieces(second)
    return len(ours & theirs) / len(ours | theirs)


def _pieces(text: str) -> frozenset[str]:
    return frozenset(text[at : at + _SHINGLE] for at in range(max(1, len(text) - _SHINGLE + 1)))
