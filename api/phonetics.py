"""Syllables and pronounceability of a name, from its letters alone and for no language in particular.

Letters are ranked by sonority, how loudly their sound carries: stops (b d g k p t q c) 0, fricatives (f h s v x z
and th, sh, ch, ph, gh) 1, nasals (m n and ng) 2, liquids (l r) 3, glides (w y j) 4, vowels 5. Accents are taken
off first. A syllable is a run of vowels with the consonants around it; y and w are vowels where no vowel stands
beside them. By the sonority sequencing principle sonority rises towards the vowel and falls behind it.

The cost of a name is the sum of: 1 for every step of a consonant run that goes the wrong way (s before a stop is
free), 1/2 for every step on one level and for every consonant beyond two on one side of a vowel, 1/2 for
every vowel of a run beyond two. A run between two vowels is cut where that costs least. The score of a word is
1 / (1 + cost / syllables), from 0 (no vowel) to 1; that of a text is the mean over its words.

>>> syllables("Alathanor"), syllables("Rhys"), score("Alathanor"), round(score("Zxkrtag"), 2)
(4, 1, 1.0, 0.2)
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby, pairwise

_WORD = re.compile(r"[^\W\d_]+")
_DIGRAPHS = {
    "th": "θ",
    "sh": "ʃ",
    "ch": "χ",
    "ph": "f",
    "gh": "γ",
    "ng": "ŋ",
    "ck": "k",
    "qu": "k",
    "rh": "r",
}
_SPLIT = re.compile("|".join(_DIGRAPHS))
_VOWELS = frozenset("aeiouæøœəıɪ")
_SEMIVOWELS = frozenset("yw")
_SONORITY = {
    letter: level
    for level, letters in enumerate(("bcdgkptqđ", "fhsvxzθʃχγðþß", "mnŋ", "lrł", "wyj"))
    for letter in letters
}
_STOP, _UNKNOWN = 0, 1
_FREE = 2  # consonants on one side of a vowel that cost nothing


def syllables(text: str) -> int:
    """Runs of vowels in all words of `text`."""
    return sum(_vowel_runs(_runs(word)) for word in _words(text))


def score(text: str) -> float:
    """How easily `text` is said, from 0 to 1; 0 for a text without letters."""
    scores = [_word_score(_runs(word)) for word in _words(text)]
    return sum(scores) / len(scores) if scores else 0.0


def _words(text: str) -> list[str]:
    """Words in lower case, accents off, each common pair of letters with one sound made one letter."""
    plain = unicodedata.normalize("NFD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    # An apostrophe joins: Ka'el is one word.
    plain = re.sub(r"(?<=\w)['’ʼ](?=\w)", "", plain)
    return [_SPLIT.sub(lambda pair: _DIGRAPHS[pair.group()], word) for word in _WORD.findall(plain)]


def _runs(word: str) -> list[tuple[bool, str]]:
    """Runs of vowels (True) and of consonants (False) by turns."""
    kinds = [letter in _VOWELS for letter in word]
    for at, letter in enumerate(word):
        beside = any(0 <= near < len(word) and kinds[near] for near in (at - 1, at + 1))
        if letter in _SEMIVOWELS and not beside:
            kinds[at] = True
    pairs = zip(kinds, word, strict=True)
    return [
        (kind, "".join(letter for _, letter in run)) for kind, run in groupby(pairs, lambda pair: pair[0])
    ]


def _vowel_runs(runs: list[tuple[bool, str]]) -> int:
    return sum(kind for kind, _ in runs)


def _word_score(runs: list[tuple[bool, str]]) -> float:
    nuclei = _vowel_runs(runs)
    if not nuclei:
        return 0.0
    cost = 0.0
    last = len(runs) - 1
    for at, (is_vowel, letters) in enumerate(runs):
        if is_vowel:
            cost += max(0, len(letters) - 2) / 2
        elif at == 0:
            cost += _onset(letters)
        elif at == last:
            cost += _onset(letters[::-1])
        else:
            cuts = range(len(letters) + 1)
            cost += min(_onset(letters[:cut][::-1]) + _onset(letters[cut:]) for cut in cuts)
    return 1.0 / (1.0 + cost / nuclei)


def _onset(letters: str) -> float:
    """The cost of the consonants on one side of a vowel, read towards it."""
    cost = max(0, len(letters) - _FREE) / 2
    for outer, inner in pairwise(letters):
        before, after = _SONORITY.get(outer, _UNKNOWN), _SONORITY.get(inner, _UNKNOWN)
        if outer == "s" and after == _STOP:
            continue
        if after < before:
            cost += 1.0
        elif after == before:
            cost += 0.5
    return cost
