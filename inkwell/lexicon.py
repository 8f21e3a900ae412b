"""Which words of a corpus are ordinary and which are names, by how they are written.

A word is a run of letters. It begins a sentence when it is the first one, or when anything but spaces, commas,
hyphens and apostrophes stands between it and the word before: there every word has a capital, elsewhere only
names have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

WORD = re.compile(r"[^\W\d_]+")
_WITHIN = frozenset(" ,-'’\t")

# Capitals within a sentence that name nobody new: roles, kin, days and months.
TITLES = frozenset(
    (
        *("I", "Mr", "Mister", "Mrs", "Ms", "Miss", "Dr", "Sir", "Lady"),
        *("Captain", "King", "Queen", "Prince", "Princess", "Aunt", "Auntie", "Uncle"),
        *("Mom", "Mum", "Mommy", "Mummy", "Mama", "Mother", "Dad", "Daddy", "Papa", "Father"),
        *("Grandma", "Grandpa", "Granny", "Grandmother", "Grandfather"),
        *("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "Christmas"),
        *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
        *("October", "November", "December"),
    )
)


def begins_sentence(gap: str) -> bool:
    """Whether the word after `gap` begins a sentence. `gap` stands between it and the word before."""
    return not _WITHIN.issuperset(gap)


def words_with_places(text: str) -> Iterator[tuple[str, bool]]:
    """The words of a text, each with whether it begins a sentence."""
    end = None
    for match in WORD.finditer(text):
        yield match.group(), end is None or begins_sentence(text[end : match.start()])
        end = match.end()


def ordinary_words(texts: Iterable[str], least: int = 3) -> frozenset[str]:
    """Words that may stand with a capital where a sentence begins and name nobody, in lower case.

    They are written small more often than with a capital within a sentence; or they are never written with a
    capital there, and begin sentences in `least` texts or more ("Suddenly").
    """
    small: Counter[str] = Counter()
    named: Counter[str] = Counter()
    initial: Counter[str] = Counter()
    for text in texts:
        beginners = set()
        for word, begins in words_with_places(text):
            if word[0].islower():
                small[word.lower()] += 1
            elif begins:
                beginners.add(word.lower())
            else:
                named[word.lower()] += 1
        initial.update(beginners)
    seldom = {word for word, count in initial.items() if count >= least and not named[word]}
    return frozenset(word for word, count in small.items() if count > named[word]) | seldom


def names_in(text: str, ordinary: frozenset[str]) -> list[str]:
    """The words of a text that are written as names are, each once."""
    found = [
        word
        for word, begins in words_with_places(text)
        if word[0].isupper() and word not in TITLES and not (begins and word.lower() in ordinary)
    ]
    return list(dict.fromkeys(found))


def mentions(text: str, names: Iterable[str]) -> dict[str, int]:
    """How often each name stands in a text as a word."""
    found = Counter(WORD.findall(text))
    return {name: found[name] for name in names}
